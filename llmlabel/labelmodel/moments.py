"""What models of moments start from: how often each vote occurs, alone and with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from llmlabel.labelmodel.additive import AdditiveModel
from llmlabel.labelmodel.base import check_weights, require_votes
from llmlabel.labelmodel.majority import vote_shares
from llmlabel.labelmodel.patterns import Array, one_hot
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["MomentModel", "Moments", "majority_balance", "vote_moments"]


class MomentModel(AdditiveModel):
    """An additive model of how often votes occur together, on all rows.

    Rows without votes count: without them LFs would seem to avoid each other, since a row
    on which one is silent must then have the vote of another.

    Attributes
    ----------
    rows_ : float
        The rows that it was fitted on, silent ones too, or the sum of their weights.
    """

    prior_precision: float
    rows_: float

    def fit(self, L: VoteMatrix, *, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Learn from votes alone; see `LabelModel.fit`."""
        weights = check_weights(sample_weight, len(require_votes(L)))
        self.rows_ = float(len(L) if weights is None else weights.sum())
        return super().fit(L, sample_weight=weights)

    def _prior_lift(self) -> float:
        """Return P(vote c | c) / P(vote c | another class) of the prior's votes.

        It is that of balanced classes: an LF as precise on a rare class would be far
        better than one as precise on a common class.
        """
        k, right = len(self.classes_), self.prior_precision
        return right * (k - 1) / (1 - right)


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of votes; index ``j k + v`` stands for LF j voting v.

    Parameters
    ----------
    rows
        The rows that they are means of, silent ones too.
    single : array, shape (m k,)
        The share of rows with each vote.
    pairs : array, shape (m k, m k)
        The share of rows with both votes.
    apart : array of bool, shape (m k, m k)
        Which pairs are of two different LFs.
    """

    rows: float
    single: Array
    pairs: Array
    apart: np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def vote_moments(votes: IntArray, weights: Array, k: int, rows: float) -> Moments:
    """Return how often votes occur, alone and in pairs.

    Examples
    --------
    >>> found = vote_moments(np.array([[0, 0], [1, -1]], np.int16), np.array([3.0, 1.0]), 2, 4.0)
    >>> found.single.tolist(), found.pairs[0].tolist()
    ([0.75, 0.25, 0.75, 0.0], [0.75, 0.0, 0.75, 0.0])
    """
    hot = one_hot(votes, k)
    single = np.asarray(hot.T @ weights) / rows
    pairs = np.asarray((hot.T @ hot.multiply(weights[:, None]).tocsr()).todense()) / rows
    owner = np.repeat(np.arange(votes.shape[1]), k)
    return Moments(rows, single, pairs, owner[:, None] != owner)


def majority_balance(votes: IntArray, weights: Array, k: int) -> Array:
    """Return the class balance of the majority votes, one more row of each class added, (k,)."""
    counts = weights @ vote_shares(votes, k) + 1
    return np.asarray(counts / counts.sum())
