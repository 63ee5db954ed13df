"""How far the model is to be trusted: held-out votes, intervals, the label set's accuracy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import Counts, Scorer, softmax
from llmlabel.labelmodel.voterows import VoteChunk, VoteRows, sample_rows
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
        stacklevel=5,
    )


def held_out_report(
    rows: VoteRows, scorer: Scorer, shares: FloatArray | None, dependence: Array, worth: Array
) -> FitReport:
    """Leave out each LF with its dependents, and foretell its votes from the others.

    Parameters
    ----------
    worth : array, shape (m,)
        What each LF's votes count in the mean: to agree with a bad LF is no merit.
    """
    m, k = rows.shape
    most = int(np.clip(_WORK // (m * k), *_ROWS))
    sample = sample_rows(rows, most)
    chunk = sample.chunk(0, len(sample))
    part = None if shares is None else _shares_of_sample(rows, sample, shares)
    ours, theirs = np.full(m, np.nan), np.full(m, np.nan)
    total = squares = weight = seen = 0.0
    for j in range(m):
        found = _foretell(chunk, part, scorer, dependence, j)
        if found is None:
            continue
        model, majority, counts = found
        ours[j], theirs[j] = counts @ model / counts.sum(), counts @ majority / counts.sum()
        difference = (model - majority) * worth[j]
        total += counts @ difference
        squares += counts @ difference**2
        weight += counts.sum() * worth[j]
        seen += counts.sum()
    if not weight:
        return FitReport(ours, theirs, 0.0, 0.0, 0.0)
    error = float(np.sqrt(squares)) / weight
    return FitReport(ours, theirs, float(total / weight), error, float(seen))


def _foretell(
    chunk: VoteChunk, shares: Array | None, scorer: Scorer, dependence: Array, j: int
) -> tuple[Array, Array, Array] | None:
    """Return for LF j's votes which are foretold by model and majority, and their weights."""
    own = chunk.lf == j
    said = np.full(len(chunk.weights), -1)
    said[chunk.row[own]] = chunk.label[own]
    dropped = dependence[j] > 0
    dropped[j] = True
    kept = ~dropped[chunk.lf] & (said[chunk.row] >= 0)
    if not kept.any():
        return None
    used = np.unique(chunk.row[kept])
    number = np.zeros(len(said), np.int32)
    number[used] = np.arange(len(used))
    row = number[chunk.row[kept]]
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(used)))])
    sure = None if chunk.certainty is None else chunk.certainty[kept]
    rest = VoteChunk(starts, row, chunk.lf[kept], chunk.label[kept], sure, chunk.weights[used])
    part = None if shares is None else shares[kept]
    scores = scorer.scores(rest, part) - scorer.silence_terms()[dropped].sum(axis=0)
    counts = scorer.majority_only().scores(rest, part)
    return _hits(scores, said[used]), _hits(counts, said[used]), chunk.weights[used]


def _hits(scores: Array, said: Array) -> Array:
    """Return whether each row's best class is what was said, ties by expectation."""
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-9
    return np.asarray(best[np.arange(len(said)), said] / best.sum(axis=1))


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


def estimated_accuracy(rows: VoteRows, scorer: Scorer, shares: FloatArray | None) -> Estimate:
    """Return how many covered rows are labeled rightly, by the model's own probabilities.

    The interval covers what the rows' number leaves open and log-odds that should be
    a third or twice as large, as where LFs depend on each other in ways not seen.
    """
    scales = (1.0, *_DOUBT)
    sums, squares = np.zeros(3), 0.0
    for votes, chunk in rows.chunks():
        scores = scorer.scores(chunk, None if shares is None else shares[votes])
        for i, scale in enumerate(scales):
            right = softmax(scores * scale).max(axis=1)
            sums[i] += chunk.weights @ right
            squares += chunk.weights @ (right * (1 - right)) if i == 0 else 0.0
    total = rows.weights.sum()
    value, low, high = sums / total
    error = _Z * np.sqrt(squares) / total
    return Estimate(float(value), float(max(0, low - error)), float(min(1, high + error)))
