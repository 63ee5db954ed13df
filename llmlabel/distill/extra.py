"""What fine-tuned students share: the packages they need, and peft kept quiet."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator

from llmlabel.errors import MissingExtraError

__all__ = ["as_peft_does", "need_packages"]


def need_packages(need: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Raises
    ------
    MissingExtraError
        One is not.

    Examples
    --------
    >>> need_packages("this", "numpy")
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "peft", need=need)


@contextlib.contextmanager
def as_peft_does() -> Iterator[None]:
    """Keep quiet about what peft asks of transformers by its old names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
