"""The JSON files of a student's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmlabel.errors import DataError
from llmlabel.io import atomic_write

__all__ = ["read_config", "write_json"]


def read_config(folder: Path) -> dict[str, Any]:
    """Return a student folder's config.json.

    Raises
    ------
    DataError
        There is none, or it is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise DataError("no such file; expected the folder of a student", file=file)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not JSON: {error}", file=file) from error
    if not isinstance(config, dict):
        raise DataError(f"expected a JSON object, got {type(config).__name__}", file=file)
    return config


def write_json(file: Path, value: Any) -> None:
    """Write a value so that the same value gives the same bytes."""
    with atomic_write(file) as part:
        part.write_text(
            json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )
