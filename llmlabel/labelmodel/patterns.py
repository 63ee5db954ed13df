"""Distinct vote rows: rows with the same votes are one weighted row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray

__all__ = ["Array", "Patterns", "find_patterns", "one_hot"]

Array = npt.NDArray[np.float64]

_CHUNK: Final = 1 << 16  # rows hashed at a time: their votes stay in the CPU's cache
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment and finalisers
_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class Patterns:
    """The distinct rows of a vote matrix.

    Parameters
    ----------
    votes : array of int, shape (u, m)
        Each distinct row once.
    inverse : array of int, shape (n,)
        Which of them each row is: ``votes[inverse]`` is the matrix again.
    weights : array, shape (u,)
        How often each occurs, or the sum of its rows' weights.
    """

    votes: IntArray
    inverse: npt.NDArray[np.intp]
    weights: Array


def find_patterns(votes: IntArray, weights: npt.ArrayLike | None = None) -> Patterns:
    """Return the distinct rows of a vote matrix.

    Rows are told apart by a 64-bit hash, and compared with the row that stands for
    them afterwards: two rows with one hash never become one. The order of the
    patterns depends on the votes alone, so that permuted rows give the same sums to
    the last bit.

    Parameters
    ----------
    votes : array of int, shape (n, m)
    weights : array, shape (n,), optional
        A weight per row, 1 by default.

    Examples
    --------
    >>> found = find_patterns(np.array([[0, 1], [1, 1], [0, 1]], np.int16))
    >>> len(found.votes), sorted(found.weights.tolist())
    (2, [1.0, 2.0])
    >>> found.votes[found.inverse].tolist()
    [[0, 1], [1, 1], [0, 1]]
    """
    _, first, inverse = np.unique(row_hashes(votes), return_index=True, return_inverse=True)
    if not _same(votes, votes[first], inverse):
        _, first, inverse = np.unique(votes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    given = None if weights is None else np.asarray(weights, np.float64)
    totals = np.bincount(inverse, given, minlength=len(first)).astype(np.float64)
    return Patterns(votes[first], inverse, totals)


def one_hot(votes: IntArray, k: int) -> sp.csr_array:
    """Return votes as a sparse 0/1 matrix, shape (u, m k): column ``j k + v`` is LF j voting v.

    Examples
    --------
    >>> one_hot(np.array([[1, -1], [0, 1]], np.int16), 2).toarray().astype(int).tolist()
    [[0, 1, 0, 0], [1, 0, 0, 1]]
    """
    u, m = votes.shape
    voted = votes != ABSTAIN
    columns = (votes + np.arange(m, dtype=np.int32) * np.int32(k))[voted]
    rows = np.concatenate([[0], np.cumsum(voted.sum(axis=1))])
    return sp.csr_array((np.ones(len(columns)), columns, rows), shape=(u, m * k))


def row_hashes(votes: IntArray) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each row of votes, shape (n,); equal rows, equal hashes."""
    n, m = votes.shape
    hashes = np.empty(n, np.uint64)
    each = 8 // votes.itemsize  # votes in a word
    for start in range(0, n, _CHUNK):
        part = votes[start : start + _CHUNK]
        words = np.full((len(part), -(-m // each) * each), ABSTAIN, votes.dtype)
        words[:, :m] = part
        hashes[start : start + _CHUNK] = hash_words(words.view(np.uint64))
    return hashes


def hash_words(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Chain the words of each row through splitmix64's finaliser."""
    state = np.zeros(len(words), np.uint64)
    for word in words.T:
        state += _GOLDEN  # wraps round on purpose; array arithmetic does so silently
        state ^= word
        state ^= state >> np.uint64(30)
        state *= _MIX[0]
        state ^= state >> np.uint64(27)
        state *= _MIX[1]
        state ^= state >> np.uint64(31)
    return state


def _same(votes: IntArray, distinct: IntArray, inverse: npt.NDArray[np.intp]) -> bool:
    chunks = range(0, len(votes), _CHUNK)
    return all(
        np.array_equal(votes[i : i + _CHUNK], distinct[inverse[i : i + _CHUNK]]) for i in chunks
    )
