"""Vectors on disk, by encoder and text; and `embed`, which looks there first.

A cache folder holds two append-only files: ``vectors.f32`` (row after row of
float32) and ``keys.bin`` (16 bytes per row, a hash of the text). Vectors reach
the disk before their keys, so every whole key has its vector whatever kills the
process; what is torn behind the last whole row is cut off before the next
append. A file lock lets several processes append.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from llmlabel.embed.encoder import HasEncode, Progress, Vectors, check_texts, encode_unit
from llmlabel.errors import ConfigError, DataError
from llmlabel.io import atomic_write

__all__ = ["VectorCache", "embed", "text_keys"]

Indices = npt.NDArray[np.int64]

_KEY_BYTES: Final = 16
_FORMAT: Final = 1
# What a kill can lose: some seconds of a small model on two cores.
_CHUNK_TEXTS: Final = 2048
_CHUNK_CHARACTERS: Final = 200_000


def embed(
    texts: Sequence[str],
    encoder: HasEncode,
    cache_dir: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Vectors:
    """Turn texts into unit vectors; each distinct text is encoded once.

    Parameters
    ----------
    texts
        n texts.
    encoder
        Anything with ``.encode(texts) -> array (n, d)``.
    cache_dir
        Where vectors are kept between calls, in a folder for each encoder; by
        default nowhere. Needs an encoder with a ``fingerprint``.
    on_progress
        Called with (texts done, n) after each chunk.

    Returns
    -------
    array of float32, shape (n, d)
        Rows of length one; a text of which the encoder knows nothing may be a
        zero row.

    Raises
    ------
    DataError
        A value that is no text, or a cache of another format.
    ConfigError
        The encoder has no fingerprint to cache under, or returned nonsense.

    Examples
    --------
    >>> class Lengths:
    ...     def encode(self, texts):
    ...         return [[len(t), 1] for t in texts]
    >>> embed(["", "abc", ""], Lengths()).round(2).tolist()
    [[0.0, 1.0], [0.949999988079071, 0.3199999928474426], [0.0, 1.0]]
    """
    found = check_texts(texts)
    cache = None if cache_dir is None else VectorCache(Path(cache_dir) / _cache_key(encoder))
    if not found:
        return encode_unit(encoder, [""])[:0]
    keys, first, inverse = _distinct(found)
    distinct = [found[i] for i in first]
    counts = np.bincount(inverse, minlength=len(distinct))
    known = np.full(len(distinct), -1) if cache is None else cache.find(keys)
    vectors = None if cache is None or (known < 0).all() else cache.fill(known)
    done = int(counts[known >= 0].sum())
    _report(on_progress, done, len(found))
    for rows in _chunks(distinct, np.flatnonzero(known < 0)):
        chunk = encode_unit(encoder, [distinct[i] for i in rows])
        if cache is not None:
            cache.add(keys.take(pa.array(rows)), chunk)
        if vectors is None:
            vectors = np.empty((len(distinct), chunk.shape[1]), np.float32)
        vectors[rows] = chunk
        done += int(counts[rows].sum())
        _report(on_progress, done, len(found))
    assert vectors is not None
    return vectors if len(distinct) == len(found) else vectors[inverse]


def text_keys(texts: Sequence[str]) -> pa.FixedSizeBinaryArray:
    """Return a 16-byte hash of each text."""
    raw = b"".join(
        hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
        for t in texts
    )
    return _key_array(raw)


class VectorCache:
    """The vectors of one encoder on disk.

    Parameters
    ----------
    folder
        Its own folder; made at the first `add`.

    Raises
    ------
    DataError
        The folder holds a cache of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys_file = folder / "keys.bin"
        self._vectors_file = folder / "vectors.f32"
        self._meta_file = folder / "meta.json"
        self._keys = _key_array(b"")
        self._dims = 0
        self._looked_at = 0  # rows that the last `find` looked through
        self._refresh()

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: pa.FixedSizeBinaryArray) -> Indices:
        """Return the row of each key, -1 where there is none."""
        self._looked_at = len(self)
        rows: Indices = pc.fill_null(pc.index_in(keys, value_set=self._keys), -1).to_numpy()
        return rows.astype(np.int64)

    def fill(self, rows: Indices) -> Vectors:
        """Return an array with the vectors of the rows that are known; the others are unset."""
        stored = np.memmap(self._vectors_file, np.float32, "r", shape=(len(self), self._dims))
        out: Vectors = np.empty((len(rows), self._dims), np.float32)
        out[rows >= 0] = stored[rows[rows >= 0]]
        return out

    def add(self, keys: pa.FixedSizeBinaryArray, vectors: Vectors) -> None:
        """Append the vectors of keys that the last `find` did not know.

        Those that another process has added since then are left out.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            self._refresh()
            self._check_dims(vectors.shape[1])
            self._cut_torn_tail()
            since = pc.index_in(keys, value_set=self._keys[self._looked_at :])
            new = np.flatnonzero(pc.is_null(since).to_numpy(zero_copy_only=False))
            # The order is the promise: a key on disk vouches for its vector.
            _append(self._vectors_file, np.ascontiguousarray(vectors[new], "<f4").tobytes())
            _append(self._keys_file, _key_bytes(keys.take(pa.array(new))))
            self._refresh()

    def _refresh(self) -> None:
        if not self._meta_file.is_file():
            return
        meta = json.loads(self._meta_file.read_text(encoding="utf-8"))
        if meta.get("format") != _FORMAT:
            raise DataError(
                f"a cache of format {meta.get('format')}, expected {_FORMAT}; delete the folder",
                file=self.folder,
            )
        self._dims = int(meta["dims"])
        whole = min(
            _size(self._keys_file) // _KEY_BYTES, _size(self._vectors_file) // (4 * self._dims)
        )
        known = len(self._keys)
        if whole > known:
            with self._keys_file.open("rb") as handle:
                handle.seek(known * _KEY_BYTES)
                tail = _key_array(handle.read((whole - known) * _KEY_BYTES))
            self._keys = pa.concat_arrays([self._keys, tail])

    def _check_dims(self, dims: int) -> None:
        if not self._dims:
            with atomic_write(self._meta_file) as part:
                part.write_text(json.dumps({"format": _FORMAT, "dims": dims}), encoding="utf-8")
            self._dims = dims
        if dims != self._dims:
            raise DataError(
                f"holds vectors of {self._dims} numbers, the encoder now gives {dims}; "
                "its fingerprint should have changed",
                file=self.folder,
            )

    def _cut_torn_tail(self) -> None:
        for path, bytes_per_row in (
            (self._vectors_file, 4 * self._dims),
            (self._keys_file, _KEY_BYTES),
        ):
            if _size(path) > len(self) * bytes_per_row:
                os.truncate(path, len(self) * bytes_per_row)


def _cache_key(encoder: HasEncode) -> str:
    given: Any = getattr(encoder, "cache_key", None) or getattr(encoder, "fingerprint", None)
    if not isinstance(given, str) or not given:
        raise ConfigError(
            f"the encoder {type(encoder).__name__} has no fingerprint to cache its vectors under",
            hint="set encoder.fingerprint to a text that changes when the model does, or pass "
            "cache_dir=None",
        )
    return hashlib.sha256(given.encode()).hexdigest()[:32]


def _distinct(texts: Sequence[str]) -> tuple[pa.FixedSizeBinaryArray, Indices, Indices]:
    """Return the distinct keys, where each occurs first, and each text's place among them."""
    encoded = text_keys(texts).dictionary_encode()
    inverse = encoded.indices.to_numpy().astype(np.int64)
    first = np.empty(len(encoded.dictionary), np.int64)
    first[inverse[::-1]] = np.arange(len(texts))[::-1]  # the last write, the first row, stays
    return encoded.dictionary, first, inverse


def _chunks(texts: Sequence[str], rows: Indices) -> Iterator[Indices]:
    """Yield `rows` in chunks of like length, so that batches come out full."""
    if not rows.size:
        return
    lengths = np.array([len(texts[i]) for i in rows])
    order = np.argsort(lengths, kind="stable")
    by_characters = np.cumsum(lengths[order]) // _CHUNK_CHARACTERS
    by_texts = np.arange(len(rows)) // _CHUNK_TEXTS
    starts = np.flatnonzero((np.diff(by_characters) > 0) | (np.diff(by_texts) > 0)) + 1
    yield from np.split(rows[order], starts)


def _report(on_progress: Progress | None, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(done, total)


def _key_array(raw: bytes) -> pa.FixedSizeBinaryArray:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_KEY_BYTES), len(raw) // _KEY_BYTES, [None, pa.py_buffer(raw)]
    )


def _key_bytes(keys: pa.FixedSizeBinaryArray) -> bytes:
    start = keys.offset * _KEY_BYTES
    raw: bytes = keys.buffers()[1].to_pybytes()[start : start + len(keys) * _KEY_BYTES]
    return raw


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
