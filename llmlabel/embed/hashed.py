"""TF-IDF of hashed words and pairs of words: for corpora, some hundred times `fit_tfidf`'s speed.

A term's column is a hash of its letters, so there is no vocabulary, and batches of texts are
counted by array operations. With 2^18 columns a term of a document shares its column with
another one's now and then, which a linear model hardly notices.

K. Weinberger, A. Dasgupta, J. Langford, A. Smola and J. Attenberg (2009), Feature hashing for
large scale multitask learning; without the sign, since counts are made logarithms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from llmlabel.errors import DataError
from llmlabel.io.hashing import mix

__all__ = ["HASHED", "HashedTfidf", "fit_hashed_tfidf"]

HASHED: Final = "hashed"
_BITS: Final = 18
_BATCH: Final = 4_000_000  # characters: some hundred MB of arrays
_WORD: Final = r"\w+"
_BASE: Final = np.uint64(0x100000001B3)

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class HashedTfidf:
    """Fitted hashed TF-IDF; see `fit_hashed_tfidf`.

    Parameters
    ----------
    idf : array, shape (2 ** bits,)
    bits
        Of a column's number.
    """

    idf: npt.NDArray[np.float64]
    bits: int = _BITS

    @property
    def n_features(self) -> int:
        """Columns."""
        return 1 << self.bits

    def transform(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return the TF-IDF rows of texts, each of length one, shape (n, n_features)."""
        parts = [self._rows(counts) for counts in _counts(texts, self.bits)]
        empty = sp.csr_matrix((0, self.n_features))
        rows: sp.csr_matrix = sp.vstack(parts, "csr") if parts else empty
        return rows

    def _rows(self, counts: sp.csr_matrix) -> sp.csr_matrix:
        data = (1 + np.log(counts.data)) * self.idf[counts.indices]
        lengths = np.sqrt(np.bincount(_row_of(counts), data**2, counts.shape[0]))
        data /= np.maximum(lengths, 1e-12)[_row_of(counts)]
        return sp.csr_matrix((data, counts.indices, counts.indptr), counts.shape)

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return what belongs into an npz file."""
        return {"idf_0": self.idf}

    def config(self) -> list[dict[str, Any]]:
        """Return what belongs into a JSON file."""
        return [{"analyzer": HASHED, "bits": self.bits}]

    @classmethod
    def load(
        cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[np.float64]]
    ) -> HashedTfidf:
        """Rebuild what `config` and `arrays` returned."""
        return cls(arrays["idf_0"], int(config["bits"]))


def fit_hashed_tfidf(texts: Sequence[str], bits: int = _BITS) -> HashedTfidf:
    """Learn how many texts have a term of each column.

    Parameters
    ----------
    texts
        The texts to learn from.
    bits
        There are 2 ** bits columns.

    Raises
    ------
    DataError
        None of the texts has a word.

    Examples
    --------
    >>> tfidf = fit_hashed_tfidf(["free gift", "free call", "hello"])
    >>> rows = tfidf.transform(["Free call!", "...", "free call"])
    >>> rows.shape, rows.getnnz(axis=1).tolist(), bool((rows[0] != rows[2]).nnz)
    ((3, 262144), [3, 0, 3], False)
    """
    present = np.zeros(1 << bits)
    for counts in _counts(texts, bits):
        present += np.bincount(counts.indices, minlength=1 << bits)
    if not present.any():
        raise DataError(f"none of the {len(texts)} texts holds a word to learn from")
    return HashedTfidf(1 + np.log((1 + len(texts)) / (1 + present)), bits)


def _row_of(counts: sp.csr_matrix) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))


def _counts(texts: Sequence[str], bits: int) -> Iterator[sp.csr_matrix]:
    """Yield how often each text of a batch has a term of each column."""
    first, size = 0, 0
    for i, text in enumerate(texts):
        size += len(text)
        if size >= _BATCH:
            yield _count(texts[first : i + 1], bits)
            first, size = i + 1, 0
    if first < len(texts):
        yield _count(texts[first:], bits)


def _count(texts: Sequence[str], bits: int) -> sp.csr_matrix:
    found = pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(_WORD)
    lengths = found.list.len().to_numpy().astype(np.int64)
    words = _hashes(found.explode(empty_as_null=False, keep_nulls=False))
    document = np.repeat(np.arange(len(texts)), lengths)
    beside = document[1:] == document[:-1]
    pairs = mix(words[:-1] * _BASE + words[1:])[beside]
    terms = np.concatenate([words, pairs]) >> np.uint64(64 - bits)
    owner = np.concatenate([document, document[1:][beside]]).astype(np.uint64)
    cells, counts = np.unique((owner << np.uint64(bits)) | terms, return_counts=True)
    row = (cells >> np.uint64(bits)).astype(np.int64)
    column = (cells & np.uint64((1 << bits) - 1)).astype(np.int32)
    starts = np.searchsorted(row, np.arange(len(texts) + 1)).astype(np.int32)
    return sp.csr_matrix((counts.astype(np.float64), column, starts), (len(texts), 1 << bits))


def _hashes(words: pl.Series) -> Hashes:
    """Return a 64-bit hash of each word's bytes, the same on every machine and in every version."""
    if not len(words):
        return np.zeros(0, np.uint64)
    array = words.to_arrow().cast("large_string")
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
    data = np.frombuffer(array.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    start = offsets[:-1] - offsets[0]
    place = np.arange(len(data)) - np.repeat(start, np.diff(offsets))
    longest = int(place.max()) + 1
    powers = np.cumprod(np.full(longest, _BASE, np.uint64))
    return mix(np.add.reduceat((data.astype(np.uint64) + np.uint64(1)) * powers[place], start))
