"""Atomic writes and content fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import platformdirs

from llmlabel.errors import DataError, no_such_file

__all__ = [
    "append_lines",
    "atomic_write",
    "cache_dir",
    "canonical_json",
    "fingerprint",
    "fingerprint_path",
]


def cache_dir() -> Path:
    """Return the folder of all caches: ``$LLMLABEL_CACHE``, or the user's cache folder.

    It need not exist yet; who writes into it makes it.
    """
    chosen = os.environ.get("LLMLABEL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("llmlabel"))


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it into place when all went well.

    A reader sees the old file or the new one, never a half; after an exception
    or a kill the old one is still there.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_write(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers choose their format and compression by it. A process id
    # does not tell two writers apart: they may be threads, or run on two machines.
    part = target.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.part.{target.name}")
    try:
        yield part
        with part.open("rb+") as handle:
            os.fsync(handle.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def append_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Append whole lines and see them to the disk."""
    with Path(path).open("a", encoding="utf-8") as handle:
        handle.writelines(f"{line}\n" for line in lines)
        handle.flush()
        os.fsync(handle.fileno())


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def fingerprint(*parts: Any) -> str:
    """Return the sha256 (hex) of plain data; equal data in any key order, equal fingerprint.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    >>> fingerprint("ab", "c") == fingerprint("a", "bc")
    False
    """
    text = canonical_json(list(parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint_path(path: str | Path) -> str:
    """Return the sha256 (hex) of a file's bytes, or of a folder's names and bytes.

    Raises
    ------
    DataError
        There is no such file or folder.
    """
    root = Path(path)
    if root.is_file():
        return _file_digest(root)
    if not root.is_dir():
        raise DataError(no_such_file(root), file=root)
    members = sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
    return fingerprint([(p.relative_to(root).as_posix(), _file_digest(p)) for p in members])


def _file_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
