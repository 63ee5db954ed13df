"""The JSON files of a student's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmlabel.errors import DataError
from llmlabel.io import atomic_write

__all__ = ["read_config", "read_object", "write_json"]


def read_config(folder: Path) -> dict[str, Any]:
    """Return a student folder's config.json.

    Raises
    ------
    DataError
        There is none, or it is no JSON object.
    """
    file = folder / "config.json"
    config = read_object(file)
    if config is None:
        raise DataError("no such file; expected the folder of a student", file=file)
    return config


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


def write_json(file: Path, value: Any) -> None:
    """Write a value so that the same value gives the same bytes."""
    with atomic_write(file) as part:
        part.write_text(
            json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )
