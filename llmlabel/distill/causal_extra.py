"""Small things that the files of the causal student share: packages, JSON files."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmlabel.errors import DataError, MissingExtraError

__all__ = ["as_peft_does", "need_packages", "read_object"]


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


def read_object(file: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file, or None where there is no file.

    Raises
    ------
    DataError
        It is no JSON object.
    """
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not JSON: {error}", file=file) from error
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, got {type(value).__name__}", file=file)
    return value


@contextlib.contextmanager
def as_peft_does() -> Iterator[None]:
    """Keep quiet about what peft asks of transformers by its old names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
