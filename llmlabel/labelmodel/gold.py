"""A few rows with gold labels: checked, counted, and a temperature found on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from llmlabel.errors import DataError
from llmlabel.labelmodel.dependence import vote_shares_of
from llmlabel.labelmodel.explanation import log_softmax
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import Counts, Prior, Rates, Scorer, count, learn_rates
from llmlabel.labelmodel.voterows import VoteRows, append_rows, vote_rows
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix

__all__ = ["GoldRows", "calibrate", "check_gold", "gold_counts", "gold_rows"]

_FOLDS: Final = 5
_SPREAD: Final = 0.5  # of the log scale and the offsets beforehand


@dataclass(frozen=True, eq=False)
class GoldRows:
    """Rows with votes and a gold label: votes, and classes of shape (g,)."""

    rows: VoteRows
    labels: npt.NDArray[np.intp]

    def joined(self, other: GoldRows) -> GoldRows:
        """Return these rows and the other's."""
        return GoldRows(
            append_rows(self.rows, other.rows), np.concatenate([self.labels, other.labels])
        )


def check_gold(gold: npt.ArrayLike | None, n: int, k: int) -> npt.NDArray[np.intp] | None:
    """Return gold labels of n rows, -1 where there is none; None where there are none.

    Raises
    ------
    DataError
        Another shape, no integers, or a class that is none.
    """
    if gold is None:
        return None
    found = np.asarray(gold)
    if found.shape != (n,):
        raise DataError(f"gold: expected one label per row, shape ({n},), got {found.shape}")
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise DataError(f"gold: expected class indices, -1 where unknown, got {found.dtype}")
    bad = (found < ABSTAIN) | (found >= k)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"gold: expected -1 to {k - 1}, got {found[row]}", row=row)
    return found.astype(np.intp)


def gold_rows(L: VoteMatrix, gold: npt.NDArray[np.intp] | None) -> GoldRows:
    """Return the rows with votes that have a gold label."""
    gold = np.empty(0, np.intp) if gold is None else gold
    at = np.flatnonzero(gold >= 0)
    at = at[(L.votes[at] != ABSTAIN).any(axis=1)]
    sure = None if L.confidences is None else L.confidences[at]
    return GoldRows(vote_rows(L.votes[at], len(L.classes), sure), gold[at])


def gold_counts(gold: GoldRows, keep: npt.NDArray[np.bool_] | None = None) -> Counts:
    """Count the votes and classes of gold rows, or of those to keep."""
    m, k = gold.rows.shape
    posterior = np.eye(k)[gold.labels]
    if keep is not None:
        posterior[~keep] = 0
    chunk = gold.rows.chunk(0, len(gold.rows))
    weights = chunk.weights if keep is None else chunk.weights * keep
    return count(replace(chunk, weights=weights), posterior, m)


def calibrate(
    gold: GoldRows,
    scorer: Scorer,
    counts: Counts,
    balance: Array,
    prior: Prior,
    weight: float,
    dependence: Array,
) -> Scorer:
    r"""Return the scorer with the scale and offsets that make the gold labels most probable.

    Scores become :math:`e^t s_y + o_y`; t and the :math:`o_y` have normal priors around
    0, so that few gold rows change little. Each fifth of the gold rows is scored by rates
    that were learned without it: rates that know a row's label are too sure of it.

    Parameters
    ----------
    counts
        Of the rows without gold labels.
    """
    if not len(gold.labels):
        return scorer
    k = len(balance)
    fold = np.arange(len(gold.labels)) % _FOLDS
    scores = np.empty((len(gold.labels), k))
    chunk = gold.rows.chunk(0, len(gold.rows))
    shares = vote_shares_of(chunk, dependence, k)
    for f in range(_FOLDS):
        without = counts + gold_counts(gold, fold != f).scaled(weight)
        rates: Rates = learn_rates(without, balance, prior)
        scores[fold == f] = replace(scorer, rates=rates).scores(chunk, shares)[fold == f]
    truth = np.eye(k)[gold.labels]

    def loss(theta: Array) -> tuple[float, Array]:
        scaled = scores * np.exp(theta[0])
        log_posterior, _ = log_softmax(scaled + theta[1:])
        excess = np.exp(log_posterior) - truth
        slope = np.append((excess * scaled).sum(), excess.sum(axis=0)) + theta / _SPREAD**2
        penalty = theta @ theta / (2 * _SPREAD**2)
        return float(penalty - (log_posterior * truth).sum()), slope

    best = minimize(loss, np.zeros(k + 1), jac=True, method="L-BFGS-B", bounds=[(-3, 3)] * (k + 1))
    return replace(scorer, scale=float(np.exp(best.x[0])), offsets=best.x[1:])
