"""Weighted vote: each labeling function has one weight, given or learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.labelmodel.additive import AdditiveModel, additive_proba
from llmlabel.labelmodel.majority import vote_shares
from llmlabel.labelmodel.patterns import Array, one_hot
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray

__all__ = ["WeightedVote"]


class WeightedVote(AdditiveModel):
    r"""Votes count by the log-odds of their labeling function's accuracy.

    Where LF j is right with probability :math:`a_j`, its errors fall on the other classes
    alike and LFs err independently, the best decision weighs its votes by [1]_

    .. math:: w_j = \log \frac{a_j (k - 1)}{1 - a_j}, \qquad
              p(y | x) \propto \exp \sum_j w_j [x_j = y]

    Accuracies that are not given are learned by iterating [2]_: a vote is right with
    the probability that its row gives its class, starting from majority vote, and

    .. math:: a_j = \frac{r_j + S p}{n_j + S}

    has :math:`r_j` of LF j's :math:`n_j` votes right and S = `prior_votes` more with the
    precision p = `prior_precision`. One number per LF is little: a model for few rows,
    or for LFs that vote for all classes alike.

    Parameters
    ----------
    weights
        The weight :math:`w_j` of every LF by name, in log-odds; None learns them.
    prior_precision
        How often a vote is right in the prior.
    prior_votes
        The votes that the prior of each LF is worth.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the mean of the covered rows' probabilities, or
        1/k for each class.
    max_iter
        Iterations: few, since LFs that agree for other reasons than the class raise each
        other's weight with every one.

    Attributes
    ----------
    weights_ : array, shape (m,)
        The weight of each LF's votes.

    References
    ----------
    .. [1] S. Nitzan and J. Paroush, "Optimal decision rules in uncertain dichotomous choice
       situations", International Economic Review 23(2), 1982, 289-297.
    .. [2] H. Li and B. Yu, "Error rate bounds and iterative weighted majority voting for
       crowdsourcing", arXiv:1411.4086, 2014.

    Examples
    --------
    >>> from llmlabel.votes import VoteMatrix
    >>> L = VoteMatrix([[1, 0], [0, -1]], ["expert", "guess"], ["HAM", "SPAM"])
    >>> model = WeightedVote(weights={"expert": 2.0, "guess": 0.5}).fit(L)
    >>> model.predict_proba(L)[:, 1].round(2).tolist()
    [0.82, 0.12]
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "prior_precision": (1e-3, 1 - 1e-3),
        "prior_votes": (1e-3, math.inf),  # an LF that is always right would silence the others
        "max_iter": (1, math.inf),
    }

    weights_: Array

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        prior_precision: float = 0.7,
        prior_votes: float = 10.0,
        uncovered: str = "balance",
        max_iter: int = 5,
    ) -> None:
        self.weights = weights
        self.prior_precision = prior_precision
        self.prior_votes = prior_votes
        self.uncovered = uncovered
        self.max_iter = max_iter

    def _learn(self, votes: IntArray, weights: Array) -> tuple[Array, Array]:
        k = len(self.classes_)
        given = self.weights
        self.weights_ = self._learned(votes, weights) if given is None else self._given(given)
        return np.zeros(k), self.weights_[:, None, None] * np.eye(k)

    def _given(self, weights: Mapping[str, float]) -> Array:
        for name in weights:
            if name not in self.lf_names_:
                raise UnknownNameError(
                    "labeling function", name, self.lf_names_, where="WeightedVote: weights"
                )
        for name in self.lf_names_:
            if name not in weights:
                raise ConfigError(f"WeightedVote: weights: labeling function {name!r} has none")
            if not math.isfinite(weights[name]):
                raise ConfigError(
                    f"WeightedVote: weights: {name}: expected a finite number, got {weights[name]}"
                )
        return np.array([weights[name] for name in self.lf_names_], np.float64)

    def _learned(self, votes: IntArray, weights: Array) -> Array:
        k = len(self.classes_)
        hot = one_hot(votes, k)
        voted = weights @ (votes != ABSTAIN)
        posterior = vote_shares(votes, k)
        odds = np.zeros(votes.shape[1])
        for _ in range(int(self.max_iter)):
            by_class = np.asarray(hot.T @ (posterior * weights[:, None])).reshape(-1, k, k)
            right = by_class.trace(axis1=1, axis2=2)
            accuracy = (right + self.prior_votes * self.prior_precision) / (
                voted + self.prior_votes
            )
            odds = np.log(accuracy * (k - 1) / (1 - accuracy))
            posterior = additive_proba(votes, np.zeros(k), odds[:, None, None] * np.eye(k))
        return odds
