"""Models whose log posterior is a sum: a prior, and one term per vote."""

from __future__ import annotations

import numpy as np

from llmlabel.errors import DataError
from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.explanation import Explanation, log_softmax
from llmlabel.labelmodel.patterns import Array, one_hot
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["AdditiveModel"]


class AdditiveModel(LabelModel):
    r"""A label model that adds up one number per vote and class; silence adds nothing.

    .. math:: \log p(y | x) = b_y + \sum_{j \text{ votes}} s_{j x_j y} + \text{const}

    A subclass implements ``_learn(votes, weights)``, which returns b, shape (k,), and s,
    shape (m, k, k).

    Attributes
    ----------
    prior_scores_ : array, shape (k,)
        What each class has before any vote, b.
    vote_scores_ : array, shape (m, k, k)
        ``vote_scores_[j, v, y]``: what LF j's vote v adds to class y.
    """

    prior_scores_: Array
    vote_scores_: Array

    def _learn(self, votes: IntArray, weights: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def _fit(self, votes: IntArray, weights: Array) -> None:
        self.prior_scores_, self.vote_scores_ = self._learn(votes, weights)
        self.class_balance_ = weights @ self._proba(votes) / weights.sum()

    def _proba(self, votes: IntArray) -> Array:
        return additive_proba(votes, self.prior_scores_, self.vote_scores_)

    def explain(self, L_row: VoteMatrix) -> Explanation:
        """Return what each labeling function adds to a row's log posterior.

        Parameters
        ----------
        L_row
            The votes of one row, as ``L.take([i])`` gives them.

        Raises
        ------
        DataError
            Not exactly one row.
        """
        votes = self._require_known(L_row)
        if len(votes) != 1:
            raise DataError(f"explain: expected the votes of one row, got {len(votes)} rows")
        voted = votes[0] != ABSTAIN
        terms = np.where(
            voted[:, None], self.vote_scores_[np.arange(len(voted)), votes[0]], np.zeros(1)
        )
        prior = self.prior_scores_ if voted.any() else np.log(self._prior())
        return Explanation.from_terms(L_row.classes, self.lf_names_, votes[0], prior, terms)


def additive_proba(votes: IntArray, prior_scores: Array, vote_scores: Array) -> Array:
    """Return the probabilities of rows from their summed scores, shape (u, k).

    Examples
    --------
    >>> prior, scores = np.zeros(2), np.log([[[3.0, 1.0], [1.0, 3.0]]])
    >>> additive_proba(np.array([[0], [1]], np.int16), prior, scores).round(2).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    k = len(prior_scores)
    scores = one_hot(votes, k) @ vote_scores.reshape(-1, k) + prior_scores
    return np.asarray(np.exp(log_softmax(scores)[0]))
