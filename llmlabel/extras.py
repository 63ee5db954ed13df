"""Optional packages: asked for by name, missed in one clear line, imported by nobody here."""

from __future__ import annotations

import importlib.util

from llmlabel.errors import MissingExtraError

__all__ = ["need_packages"]


def need_packages(need: str, *packages: str, extra: str) -> None:
    """Check that packages are installed, without importing them.

    Parameters
    ----------
    need
        What needs them, as the error's first words: ``"a causal student"``.
    packages
        Their import names.
    extra
        The extra of llmlabel that brings them.

    Raises
    ------
    MissingExtraError
        One is not installed.

    Examples
    --------
    >>> need_packages("this", "numpy", extra="local")
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra, need=need)
