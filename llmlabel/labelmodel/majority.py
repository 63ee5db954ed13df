"""Majority vote: the baseline that stands beside every label model."""

from __future__ import annotations

import numpy as np

from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.patterns import Array
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray

__all__ = ["MajorityVote", "vote_shares"]


class MajorityVote(LabelModel):
    """Every vote counts the same; the class with the most votes takes all.

    Classes with equally many votes share the row's probability, so that a tie is
    counted by expectation and never goes to the class that happens to come first.

    Parameters
    ----------
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the mean of the covered rows' probabilities, or
        1/k for each class.

    Attributes
    ----------
    class_balance_ : array, shape (k,)
        The mean probability of each class over the rows with votes.

    Examples
    --------
    >>> from llmlabel.votes import VoteMatrix
    >>> L = VoteMatrix([[1, 1, 0], [0, 1, -1], [-1, -1, -1]], ["a", "b", "c"], ["HAM", "SPAM"])
    >>> MajorityVote().fit(L).predict_proba(L).tolist()
    [[0.0, 1.0], [0.5, 0.5], [0.25, 0.75]]
    """

    def __init__(self, *, uncovered: str = "balance") -> None:
        self.uncovered = uncovered

    def _fit(self, votes: IntArray, weights: Array) -> None:
        self.class_balance_ = weights @ self._proba(votes) / weights.sum()

    def _proba(self, votes: IntArray) -> Array:
        return vote_shares(votes, len(self.classes_))


def vote_shares(votes: IntArray, k: int) -> Array:
    """Return 1/t for each of the t classes with the most votes of a row, 0 for the others.

    Parameters
    ----------
    votes : array of int, shape (u, m)
        Rows with at least one vote.

    Examples
    --------
    >>> vote_shares(np.array([[2, 2, 0], [0, 1, -1]], np.int16), 3).tolist()
    [[0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]
    """
    voted = votes != ABSTAIN
    cells = np.repeat(np.arange(len(votes)) * k, voted.sum(axis=1)) + votes[voted]
    counts = np.bincount(cells, minlength=len(votes) * k).reshape(len(votes), k)
    most = counts == counts.max(axis=1, keepdims=True)
    return np.asarray(most / most.sum(axis=1, keepdims=True))
