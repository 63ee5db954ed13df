"""Distinct vote rows held as their votes alone, for millions of rows in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.labelmodel.coded import CodedRows, coded_rows, layout_of
from llmlabel.labelmodel.patterns import Array, hash_words, row_hashes
from llmlabel.schema import ABSTAIN
from llmlabel.votes import FloatArray, IntArray, VoteMatrix

__all__ = [
    "DistinctRows",
    "Index",
    "VoteChunk",
    "VoteRows",
    "append_rows",
    "certainties",
    "distinct_rows",
    "find_rows",
    "merge_rows",
    "sample_rows",
    "vote_rows",
    "with_votes",
]

Index = npt.NDArray[np.int32]
Cells = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

_CHUNK_ROWS: Final = 1 << 15
_CHUNK_SCORES: Final = 1 << 20  # rows times classes: a few MB of scores at a time


@dataclass(frozen=True)
class VoteChunk:
    """Some rows' votes, one entry per vote.

    Parameters
    ----------
    starts : array of int, shape (u + 1,)
        Row i has the votes ``starts[i]`` to ``starts[i + 1]``.
    row, lf, label : arrays of int, shape (v,)
        Whose vote, by which labeling function, for which class.
    certainty : array, shape (v,), or None
        What each vote is worth, 0 to 1; None where all are hard.
    weights : array, shape (u,)
    """

    starts: npt.NDArray[np.int64]
    row: Index
    lf: Index
    label: Index
    certainty: Array | None
    weights: Array


@dataclass(frozen=True)
class VoteRows:
    """Rows with at least one vote, as the cells ``j k + v`` of LF j voting v, row by row.

    Parameters
    ----------
    hashes : array of uint64, shape (u,)
        Tells rows apart.
    starts : array of int, shape (u + 1,)
    cells : array of unsigned int, shape (v,)
        In two bytes where they fit.
    certainty : array of float32, shape (v,), or None
    weights : array, shape (u,)
        How often each row counts.
    shape : (m, k)
    coded : CodedRows or None
        The same rows as codes, where they were found as such.
    """

    hashes: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]
    cells: Cells
    certainty: FloatArray | None
    weights: Array
    shape: tuple[int, int]
    coded: CodedRows | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def chunk(self, start: int, stop: int) -> VoteChunk:
        """Return the rows start to stop."""
        low, high = self.starts[start], self.starts[stop]
        starts = self.starts[start : stop + 1] - low
        lf, label = np.divmod(self.cells[low:high].astype(np.int32), np.int32(self.shape[1]))
        row = np.repeat(np.arange(stop - start, dtype=np.int32), np.diff(starts))
        sure = None if self.certainty is None else self.certainty[low:high].astype(np.float64)
        return VoteChunk(starts, row, lf, label, sure, self.weights[start:stop])

    def chunks(self) -> Iterator[tuple[slice, VoteChunk]]:
        """Yield all rows, a cacheful at a time, with the votes that they are."""
        step = chunk_size(self.shape[1])
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            yield (
                slice(int(self.starts[start]), int(self.starts[stop])),
                self.chunk(start, stop),
            )

    def take(self, rows: npt.NDArray[np.intp], weights: Array) -> VoteRows:
        """Return some rows with new weights."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        sure = None if self.certainty is None else self.certainty[at]
        coded = None if self.coded is None else self.coded.take(rows, weights)
        cells = self.cells[at]
        return VoteRows(self.hashes[rows], starts, cells, sure, weights, self.shape, coded)


DistinctRows = VoteRows | CodedRows


def chunk_size(k: int) -> int:
    """Return how many rows of k scores each are worked on at a time."""
    return max(1, min(_CHUNK_ROWS, _CHUNK_SCORES // k))


def certainties(confidences: FloatArray, k: int) -> FloatArray:
    r"""Return what votes of some confidences are worth: 0 at chance, 1 where sure or NaN.

    A vote with the confidence c gives the class it names the probability c and each
    other class (1 - c) / (k - 1). That is a sure vote with the probability
    :math:`(k c - 1) / (k - 1)`, and a draw from all classes alike otherwise.

    Examples
    --------
    >>> certainties(np.array([1.0, 0.75, 0.5, 0.2, np.nan], np.float32), 2).tolist()
    [1.0, 0.5, 0.0, 0.0, 1.0]
    """
    sure = np.clip((k * confidences - 1) / (k - 1), 0, 1)
    return np.where(np.isnan(confidences), np.float32(1), sure).astype(np.float32)


def vote_rows(
    votes: IntArray, k: int, confidences: FloatArray | None = None, weights: Array | None = None
) -> VoteRows:
    """Return rows as they stand, silent and repeated ones included.

    Examples
    --------
    >>> rows = vote_rows(np.array([[1, -1], [-1, -1], [0, 1]], np.int16), 2)
    >>> rows.starts.tolist(), rows.cells.tolist()
    ([0, 1, 1, 3], [1, 0, 3])
    """
    n, m = votes.shape
    flat = np.ascontiguousarray(votes).reshape(-1)
    at = np.flatnonzero(flat != ABSTAIN)
    starts = np.searchsorted(at, np.arange(n + 1) * m)
    lf = at - np.repeat(np.arange(n) * m, np.diff(starts))
    dtype = np.uint16 if m * k <= np.iinfo(np.uint16).max else np.uint32
    cells = (lf * k + flat[at]).astype(dtype)
    return VoteRows(
        np.zeros(len(votes), np.uint64),
        starts,
        cells,
        None if confidences is None else certainties(confidences.reshape(-1)[at], k),
        np.ones(len(votes)) if weights is None else weights,
        (m, k),
    )


def distinct_rows(
    votes: IntArray, k: int, confidences: FloatArray | None = None, weights: Array | None = None
) -> VoteRows:
    """Return each distinct row with votes and weight once, ordered by its 64-bit hash.

    Two rows among a million share a hash with a probability of 3e-8, and would then be
    counted as one. The order depends on the votes alone, so that permuted rows give the
    same sums to the last bit.

    Parameters
    ----------
    votes : array of int16, shape (n, m)
    confidences : array of float32, shape (n, m), optional
        Told apart as votes are.
    weights : array, shape (n,), optional

    Examples
    --------
    >>> rows = distinct_rows(np.array([[0, 1], [1, 1], [0, 1], [-1, -1]], np.int16), 2)
    >>> len(rows), sorted(rows.weights.tolist())
    (2, [1.0, 2.0])
    """
    hashes = _hashes(votes, confidences, k)
    found, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    totals = np.bincount(inverse.reshape(-1), weights, minlength=len(found)).astype(np.float64)
    del inverse
    parts = []
    for start in range(0, len(found), _CHUNK_ROWS):
        at = first[start : start + _CHUNK_ROWS]
        sure = None if confidences is None else confidences[at]
        part = vote_rows(votes[at], k, sure, totals[start : start + _CHUNK_ROWS])
        parts.append(part)
    everything = _concatenate(parts, found, (votes.shape[1], k))
    counts = (np.diff(everything.starts) > 0) & (totals > 0)
    if counts.all():
        return everything
    at = np.flatnonzero(counts)
    return everything.take(at, totals[at])


def append_rows(one: VoteRows, other: VoteRows) -> VoteRows:
    """Return the rows of both, one after the other."""
    return _concatenate([one, other], np.concatenate([one.hashes, other.hashes]), one.shape)


def find_rows(L: VoteMatrix, weights: Array | None) -> tuple[DistinctRows, npt.NDArray[np.bool_]]:
    """Return the distinct rows with votes, as codes where they can be, and which rows have any."""
    m, k = len(L.lf_names), len(L.classes)
    layout = None if L.confidences is not None else layout_of(m, k)
    if layout is not None and len(L):
        return coded_rows(L.votes, layout, weights)
    return distinct_rows(L.votes, k, L.confidences, weights), L.covered()


def merge_rows(one: DistinctRows, other: DistinctRows) -> DistinctRows:
    """Return the rows of both, each once, with the sum of its weights."""
    if isinstance(one, CodedRows) and isinstance(other, CodedRows):
        return one.joined(other)
    one, other = _plain(one), _plain(other)
    both = append_rows(one, other)
    found, first, inverse = np.unique(both.hashes, return_index=True, return_inverse=True)
    totals = np.bincount(inverse.reshape(-1), both.weights, minlength=len(found))
    return both.take(first, np.asarray(totals, np.float64))


def _plain(rows: DistinctRows) -> VoteRows:
    if isinstance(rows, VoteRows):
        return rows
    return distinct_rows(rows.layout.decode(rows.codes), rows.shape[1], None, rows.weights)


def sample_rows(rows: DistinctRows, most: int) -> DistinctRows:
    """Return at most so many rows that stand for all.

    The heaviest, up to a half, are kept as they are. Of the others the first by hash, which
    is a random sample that does not depend on the rows' order, stand for the rest, their
    weights scaled up. The rows come in the order of their hashes.
    """
    at = np.flatnonzero(rows.weights > 0)
    weights, hashes = rows.weights[at], rows.hashes[at]
    if len(at) > most:
        half = len(at) - most // 2
        heavy = weights > np.partition(weights, half)[half]
        rest = np.flatnonzero(~heavy)
        count = most - (len(at) - len(rest))
        drawn = rest[np.argpartition(hashes[rest], count)[:count]]
        weights[drawn] *= weights[rest].sum() / weights[drawn].sum()
        heavy[drawn] = True
        at, weights, hashes = at[heavy], weights[heavy], hashes[heavy]
    elif isinstance(rows, VoteRows):
        return rows
    order = np.argsort(hashes)
    return rows.take(at[order], weights[order])


def with_votes(rows: DistinctRows) -> VoteRows:
    """Return the rows as their votes, with their codes beside."""
    if isinstance(rows, VoteRows):
        return rows
    found = vote_rows(rows.layout.decode(rows.codes), rows.shape[1], None, rows.weights)
    return replace(found, hashes=rows.hashes, coded=rows)


def _concatenate(
    parts: list[VoteRows], hashes: npt.NDArray[np.uint64], shape: tuple[int, int]
) -> VoteRows:
    if not parts:
        return vote_rows(np.zeros((0, shape[0]), np.int16), shape[1])
    starts = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.starts) for p in parts]))])
    cells = np.concatenate([p.cells for p in parts])
    hard = all(p.certainty is None for p in parts)
    sure = (
        None
        if hard
        else np.concatenate(
            [
                np.ones(len(p.cells), np.float32) if p.certainty is None else p.certainty
                for p in parts
            ]
        )
    )
    weights = np.concatenate([p.weights for p in parts])
    return VoteRows(hashes, starts, cells, sure, weights, shape)


def _hashes(votes: IntArray, confidences: FloatArray | None, k: int) -> npt.NDArray[np.uint64]:
    hashes = row_hashes(votes)
    if confidences is None:
        return hashes
    n, m = confidences.shape
    for start in range(0, n, _CHUNK_ROWS):
        sure = certainties(confidences[start : start + _CHUNK_ROWS], k)
        words = np.zeros((len(sure), m + m % 2), np.float32)
        words[:, :m] = 1 - sure
        soft = words.any(axis=1)  # a row of hard votes is the same with and without confidences
        hashes[start : start + _CHUNK_ROWS][soft] ^= hash_words(words.view(np.uint64))[soft]
    return hashes
