"""How far the model is to be trusted: held-out votes, intervals, the label set's accuracy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import Counts, Scorer, softmax
from llmlabel.labelmodel.scoring import row_scores
from llmlabel.labelmodel.voterows import DistinctRows, VoteRows, sample_rows, with_votes
from llmlabel.votes import FloatArray

__all__ = [
    "Estimate",
    "FellBackWarning",
    "FitReport",
    "accuracy_intervals",
    "estimated_accuracy",
    "held_out_report",
    "warn_of_fall_back",
]

_WORK: Final = 40_000_000  # scores computed in the check: seconds
_ROWS: Final = (200, 5_000)
_EVIDENCE: Final = 100.0  # held-out votes
_MARGIN: Final = 0.005
_Z: Final = 1.96
_FLOOR: Final = 20.0  # votes: accuracies are estimated from estimates, and never surer than this
_DOUBT: Final = (0.35, 2.0)  # how far a model's log-odds may be off, as factors


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FitReport:
    """How well the votes of each LF are foretold by the others, none of its dependents among them.

    Parameters
    ----------
    model, majority_vote : array, shape (m,)
        The share of its votes that the model and the majority vote foretell; NaN where
        it never votes beside others.
    gain, standard_error
        The mean difference over all LFs, weighted by their votes and log-odds, and its
        standard error.
    votes
        How many held-out votes this rests on.
    """

    model: Array
    majority_vote: Array
    gain: float
    standard_error: float
    votes: float

    @property
    def trusted(self) -> bool:
        """False where the model foretells worse than the majority vote beyond doubt.

        That is by three standard errors, half a point, and on a hundred votes: where less
        is known, the model's own priors are the better guide.
        """
        least = max(3 * self.standard_error, _MARGIN)
        return self.votes < _EVIDENCE or self.gain >= -least


class FellBackWarning(UserWarning):
    """The votes do not fit the model, and the majority vote is returned instead."""


def warn_of_fall_back(report: FitReport) -> None:
    """Warn, as if from the line that called `fit` or `partial_fit`."""
    warnings.warn(
        "the model foretells the votes of left-out labeling functions worse than the majority "
        f"vote does (by {-report.gain:.3f} +- {report.standard_error:.3f}); using the majority "
        "vote instead",
        FellBackWarning,
        stacklevel=4,
    )


def held_out_report(
    rows: DistinctRows, scorer: Scorer, shares: FloatArray | None, dependence: Array, worth: Array
) -> FitReport:
    """Leave out each LF with its dependents, and foretell its votes from the others.

    Parameters
    ----------
    worth : array, shape (m,)
        What each LF's votes count in the mean: to agree with a bad LF is no merit.
    """
    m, k = rows.shape
    sample = with_votes(sample_rows(rows, int(np.clip(_WORK // (m * k), *_ROWS))))
    part = None if shares is None else _shares_of_sample(with_votes(rows), sample, shares)
    model = _said(sample, part, scorer)
    majority = _said(sample, part, scorer.majority_only())
    ours, theirs = np.full(m, np.nan), np.full(m, np.nan)
    total = squares = weight = seen = 0.0
    for j in range(m):
        dropped = dependence[j] > 0
        dropped[j] = True
        at = np.flatnonzero(model.votes[:, j] >= 0)
        at = at[(model.votes[at][:, ~dropped] >= 0).any(axis=1)]
        if not len(at):
            continue
        lfs = np.flatnonzero(dropped)
        right, baseline = model.hits(at, j, lfs), majority.hits(at, j, lfs)
        counts = sample.weights[at]
        ours[j], theirs[j] = counts @ right / counts.sum(), counts @ baseline / counts.sum()
        difference = (right - baseline) * worth[j]
        total += counts @ difference
        squares += counts @ difference**2
        weight += counts.sum() * worth[j]
        seen += counts.sum()
    if not weight:
        return FitReport(ours, theirs, 0.0, 0.0, 0.0)
    error = float(np.sqrt(squares)) / weight
    return FitReport(ours, theirs, float(total / weight), error, float(seen))


@dataclass(frozen=True, eq=False)
class _Said:
    """What each LF said of some rows, and what it added to the rows' scores.

    Parameters
    ----------
    votes : array of int, shape (u, m)
    terms : array, shape (u, m)
        What each vote adds to the class it names.
    silence : array, shape (m, k)
        What each LF's silence adds.
    scores : array, shape (u, k)
    """

    votes: npt.NDArray[np.int32]
    terms: Array
    silence: Array
    scores: Array

    def hits(self, at: npt.NDArray[np.intp], j: int, lfs: npt.NDArray[np.intp]) -> Array:
        """Return whether rows score highest, without some LFs, what LF j said of them.

        Ties count by expectation.
        """
        votes, terms = self.votes[np.ix_(at, lfs)], self.terms[np.ix_(at, lfs)]
        row, column = np.nonzero(votes >= 0)
        k = self.scores.shape[1]
        cells = row * k + votes[row, column]
        named = np.bincount(cells, terms[row, column], minlength=len(at) * k)
        rest = self.scores[at] - named.reshape(-1, k)
        if len(lfs) > 1:
            rest -= (votes < 0).astype(np.float64) @ self.silence[lfs]
        best = rest >= rest.max(axis=1, keepdims=True) - 1e-9
        return np.asarray(best[np.arange(len(at)), self.votes[at, j]] / best.sum(axis=1))


def _said(rows: VoteRows, shares: Array | None, scorer: Scorer) -> _Said:
    chunk = rows.chunk(0, len(rows))
    votes = np.full((len(rows), rows.shape[0]), -1, np.int32)
    votes[chunk.row, chunk.lf] = chunk.label
    terms = np.zeros(votes.shape)
    terms[chunk.row, chunk.lf] = scorer.vote_terms(chunk, shares)
    return _Said(votes, terms, scorer.silence_terms(), scorer.scores(chunk, shares))


def _shares_of_sample(rows: VoteRows, sample: VoteRows, shares: FloatArray) -> Array:
    at = np.searchsorted(rows.hashes, sample.hashes)  # both are ordered by hash
    lengths = np.diff(sample.starts)
    offsets = np.repeat(rows.starts[at] - sample.starts[:-1], lengths)
    return np.asarray(shares[offsets + np.arange(sample.starts[-1])], np.float64)


def accuracy_intervals(accuracies: Array, counts: Counts) -> Array:
    """Return 95 % intervals of LF accuracies, shape (m, 2) (Wilson's score interval).

    The labels that LFs are measured by are estimates themselves, which no number of rows
    mends: n votes count as 1 / (1/n + 1/20).
    """
    votes = counts.votes.sum(axis=1)
    n = 1 / (1 / (votes + 1) + 1 / _FLOOR)
    centre = (accuracies + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n)
    half = half * np.sqrt(accuracies * (1 - accuracies) / n + _Z**2 / (4 * n**2))
    return np.stack([np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)], axis=1)


def estimated_accuracy(rows: DistinctRows, scorer: Scorer, shares: FloatArray | None) -> Estimate:
    """Return how many covered rows are labeled rightly, by the model's own probabilities.

    The interval covers what the rows' number leaves open and log-odds that should be
    a third or twice as large, as where LFs depend on each other in ways not seen.
    """
    scales = (1.0, *_DOUBT)
    sums, squares = np.zeros(3), 0.0
    for at, scores in row_scores(rows, scorer, shares):
        weights = rows.weights[at]
        for i, scale in enumerate(scales):
            right = softmax(scores * scale).max(axis=0)
            sums[i] += weights @ right
            squares += weights @ (right * (1 - right)) if i == 0 else 0.0
    total = rows.weights.sum()
    value, low, high = sums / total
    error = _Z * np.sqrt(squares) / total
    return Estimate(float(value), float(max(0, low - error)), float(min(1, high + error)))
