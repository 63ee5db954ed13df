"""Rows scored and counted: by look-up where their votes are hard and of few classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.labelmodel.coded import (
    CodedRows,
    Codes,
    Layout,
    encoded,
    layout_of,
    repeated,
    silent_rows,
)
from llmlabel.labelmodel.dependence import vote_shares_of
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import Counts, Scorer, count, softmax
from llmlabel.labelmodel.voterows import DistinctRows, VoteChunk, chunk_size, vote_rows, with_votes
from llmlabel.votes import FloatArray, VoteMatrix

__all__ = ["class_shares", "expected_counts", "repeated_rows", "row_scores", "vote_scores"]

_CODES: Final = 1 << 15  # rows looked up at a time


def expected_counts(rows: DistinctRows, scorer: Scorer, shares: FloatArray | None) -> Counts:
    """Score all rows and count (E-step)."""
    m, k = rows.shape
    coded = _coded(rows)
    if coded is None:
        rows = with_votes(rows)
        total = Counts(np.zeros((m, k)), np.zeros((m, k)), np.zeros(k))
        for votes, chunk in rows.chunks():
            scores = scorer.scores(chunk, None if shares is None else shares[votes])
            total += count(chunk, softmax(scores.T).T, m)
        return total
    posterior = np.empty((k, len(rows)))
    for at, scores in row_scores(rows, scorer, shares):
        posterior[:, at] = softmax(scores)
    posterior *= rows.weights
    layout, codes = coded.layout, coded.codes
    of_class = np.stack([layout.counts(codes, p)[:, 1:] for p in posterior])  # (k, m, k)
    right = np.stack([of_class[y, :, y] for y in range(k)], axis=1)
    return Counts(of_class.sum(axis=0), right, posterior.sum(axis=1))


def class_shares(rows: DistinctRows, scorer: Scorer, shares: FloatArray | None) -> Array:
    """Return the expected count of each class, shape (k,)."""
    total = np.zeros(rows.shape[1])
    for at, scores in row_scores(rows, scorer, shares):
        total += softmax(scores) @ rows.weights[at]
    return total


def code_scores(codes: Codes, layout: Layout, scorer: Scorer) -> Iterator[tuple[slice, Array]]:
    """Yield rows' scores against the first class, shape (k, c), independent votes assumed."""
    terms, prior = scorer.saying_terms(), scorer.prior_terms()
    tables = list(layout.tables(terms[1:] - terms[:1]))
    n, k = len(codes), layout.k
    looked_up = np.empty(_CODES)
    for start in range(0, n, _CODES):
        at = slice(start, min(start + _CODES, n))
        scores = np.zeros((k, at.stop - start))
        scores[1:] = (prior[1:] - prior[0])[:, None]
        part = looked_up[: at.stop - start]
        for i, table in enumerate(tables):
            code = codes[at, i].astype(np.intp)
            for y in range(1, k):
                np.take(table[y - 1], code, out=part, mode="clip")  # clip: not checked twice
                scores[y] += part
        yield at, scores


def _coded(rows: DistinctRows) -> CodedRows | None:
    return rows if isinstance(rows, CodedRows) else rows.coded


def row_scores(
    rows: DistinctRows, scorer: Scorer, shares: FloatArray | None
) -> Iterator[tuple[slice, Array]]:
    """Yield rows' unnormalised log posteriors, shape (k, c), and which rows they are of."""
    coded = _coded(rows)
    if coded is None:
        start, rows = 0, with_votes(rows)
        for votes, chunk in rows.chunks():
            scores = scorer.scores(chunk, None if shares is None else shares[votes])
            yield slice(start, start + len(scores)), scores.T
            start += len(scores)
        return
    row, label, less = _shared_votes(rows, scorer, shares)
    for at, scores in code_scores(coded.codes, coded.layout, scorer):
        if len(row):
            these = slice(*np.searchsorted(row, [at.start, at.stop]))
            np.add.at(scores, (label[these], row[these] - at.start), less[these])
        yield at, scores


def _shared_votes(
    rows: DistinctRows, scorer: Scorer, shares: FloatArray | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """Return rows and classes of the votes that do not count fully, and what they count less."""
    if shares is None:
        nothing = np.empty(0, np.intp)
        return nothing, nothing, np.empty(0)
    rows, at = with_votes(rows), np.flatnonzero(shares != 1)
    lf, label = np.divmod(rows.cells[at].astype(np.intp), rows.shape[1])
    ratio = np.log(scorer.rates.inside / scorer.rates.outside)[lf, label]
    part = shares[at].astype(np.float64) - 1
    less = scorer.scale * (1 - scorer.majority_weight) * ratio * part
    return np.searchsorted(rows.starts, at, side="right") - 1, label, less


def repeated_rows(L: VoteMatrix) -> tuple[VoteMatrix, npt.NDArray[np.int32]] | None:
    """Return the distinct rows of votes just learned from, and which of them each row is.

    None where that is not known, or rows seldom repeat.
    """
    layout = None if L.confidences is not None else layout_of(len(L.lf_names), len(L.classes))
    found = None if layout is None else repeated(L.votes, layout)
    if found is None:
        return None
    votes, index = found
    votes.setflags(write=False)
    return VoteMatrix(votes, L.lf_names, L.classes), index


def vote_scores(
    L: VoteMatrix, scorer: Scorer, dependence: Array
) -> Iterator[tuple[slice, Array, npt.NDArray[np.bool_]]]:
    """Yield the scores of rows as they stand, shape (k, c), and which of them have no vote."""
    m, k = len(L.lf_names), len(L.classes)
    layout = None if L.confidences is not None else layout_of(m, k)
    if layout is None or not len(L):
        yield from _sparse_scores(L, scorer, dependence)
        return
    codes, keys = encoded(L.votes, layout)
    bound = np.flatnonzero(dependence.any(axis=1))
    among = dependence[np.ix_(bound, bound)]
    ratio = np.log(scorer.rates.inside / scorer.rates.outside)[bound]
    for at, scores in code_scores(codes, layout, scorer):
        if len(bound):
            chunk = vote_rows(L.votes[at][:, bound], k).chunk(0, at.stop - at.start)
            _take_off(scores, chunk, vote_shares_of(chunk, among, k), scorer, ratio)
        yield at, scores, silent_rows(keys[at], layout)


def _take_off(
    scores: Array, chunk: VoteChunk, shares: Array | None, scorer: Scorer, ratio: Array
) -> None:
    """Take off what votes count less that agree with dependent LFs."""
    if shares is None:
        return
    at = np.flatnonzero(shares != 1)
    less = scorer.scale * (1 - scorer.majority_weight) * (shares[at] - 1)
    label = chunk.label[at]
    np.add.at(scores, (label, chunk.row[at]), less * ratio[chunk.lf[at], label])


def _sparse_scores(
    L: VoteMatrix, scorer: Scorer, dependence: Array
) -> Iterator[tuple[slice, Array, npt.NDArray[np.bool_]]]:
    k = len(L.classes)
    step = chunk_size(k)
    for start in range(0, len(L), step):
        at = slice(start, start + step)
        sure = None if L.confidences is None else L.confidences[at]
        rows = vote_rows(L.votes[at], k, sure)
        chunk = rows.chunk(0, len(rows))
        scores = scorer.scores(chunk, vote_shares_of(chunk, dependence, k))
        yield at, scores.T, np.diff(rows.starts) == 0
