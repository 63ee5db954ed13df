"""A Snorkel-style model: class-conditional votes that explain the matrix of pairs."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from scipy.optimize import Bounds, minimize

from llmlabel.labelmodel.moments import MomentModel, Moments, majority_balance, vote_moments
from llmlabel.labelmodel.patterns import Array
from llmlabel.votes import IntArray

__all__ = ["SnorkelStyleModel"]


class SnorkelStyleModel(MomentModel):
    r"""Matrix completion on the pairs of votes, as in Snorkel's LabelModel.

    With :math:`\mu_{ay} = P(\text{vote } a | y)`, where a is one of the m k (LF, class)
    votes, and :math:`\pi` the class balance, votes of different LFs that are independent
    given the class occur together with the probability
    :math:`O_{ab} = \sum_y \pi_y \mu_{ay} \mu_{by}` [1]_. Pairs within one LF say nothing, so
    that :math:`\mu` completes a matrix whose diagonal blocks are missing:

    .. math:: \min_\mu \tfrac12 \sum_{a \nsim b} \frac{(O_{ab} - \sum_y \pi_y \mu_{ay} \mu_{by})^2}{q_a q_b}
              + \tfrac12 \sum_a \frac{(\sum_y \pi_y \mu_{ay} - q_a)^2}{q_a}
              + \tfrac\rho2 \sum_{ay} \frac{\pi_y (\mu_{ay} - \mu^0_{ay})^2}{q_a}

    with :math:`q_a` the share of rows with vote a. Three things differ from Snorkel: entries
    weigh by the inverse of their variance, so that rare votes count too; the start
    :math:`\mu^0`, where votes have the precision `prior_precision`, holds the solution (LFs
    better than chance, one of k! equal optima) instead of stopping early, with
    :math:`\rho = 2 \sqrt{m k / N}` times `prior_weight`: what the noise of N rows' pairs
    alone reaches in one direction; and L-BFGS-B with :math:`0 \le \mu \le 1` runs to convergence instead
    of a fixed number of gradient steps. Rows are scored as Snorkel does, silence apart:
    :math:`\log p(y | x) = \log \pi_y + \sum_{a \in x} \log \mu_{ay}`.

    The matrix of pairs has (m k)^2 entries: a model for some hundred LFs and few classes.

    Parameters
    ----------
    prior_precision
        How often a vote is right in the start.
    prior_weight
        How strongly the start holds the solution, in multiples of the pairs' noise.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the mean of the covered rows' probabilities, or
        1/k for each class.
    max_iter
        The most iterations of L-BFGS-B.

    Attributes
    ----------
    conditionals_ : array, shape (m, k, k)
        ``conditionals_[j, v, y]``: how probably LF j votes v on a row of class y.
    loss_ : float
        The objective at the end.
    n_iter_ : int
        The iterations of L-BFGS-B.

    References
    ----------
    .. [1] A. Ratner, B. Hancock, J. Dunnmon, F. Sala, S. Pandey and C. Ré, "Training complex
       models with multi-task weak supervision", AAAI 2019, arXiv:1810.02840.

    Examples
    --------
    >>> from llmlabel.votes import VoteMatrix
    >>> L = VoteMatrix(
    ...     [[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]], ["a", "b", "c"], ["HAM", "SPAM"]
    ... )
    >>> found = SnorkelStyleModel().fit(L).predict_proba(L)[:, 1]
    >>> found.argsort()[::-1].tolist()
    [0, 1, 2, 3]
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "prior_precision": (1e-3, 1 - 1e-3),
        "prior_weight": (1e-6, math.inf),  # without it the classes could change places
        "max_iter": (1, math.inf),
    }

    conditionals_: Array
    loss_: float
    n_iter_: int

    def __init__(
        self,
        *,
        prior_precision: float = 0.7,
        prior_weight: float = 3.0,
        uncovered: str = "balance",
        max_iter: int = 500,
    ) -> None:
        self.prior_precision = prior_precision
        self.prior_weight = prior_weight
        self.uncovered = uncovered
        self.max_iter = max_iter

    def _learn(self, votes: IntArray, weights: Array) -> tuple[Array, Array]:
        k = len(self.classes_)
        moments = vote_moments(votes, weights, k, self.rows_)
        balance = majority_balance(votes, weights, k)
        # A vote never cast counts as half a row's, so that it may be scored all the same.
        cast = np.maximum(moments.single, 0.5 / max(moments.rows, 1.0))
        scale = np.sqrt(balance / cast[:, None])  # mu * scale: entries of one size
        start = _start(cast, balance, self._prior_lift()) * scale
        noise = 2 * math.sqrt(len(cast) / moments.rows)
        problem = _Objective(moments, cast, balance, start, self.prior_weight * noise)
        found = minimize(
            problem,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(np.zeros(start.size), scale.ravel()),
            options={"maxiter": int(self.max_iter), "ftol": 1e-14, "gtol": 1e-9},
        )
        self.loss_, self.n_iter_ = float(found.fun), int(found.nit)
        conditionals = found.x.reshape(start.shape) / scale
        # What the rows cannot tell from 0 stays possible.
        conditionals = np.clip(conditionals, 0.01 * cast[:, None], 1)
        self.conditionals_ = conditionals.reshape(-1, k, k)
        return np.log(balance), np.log(self.conditionals_)


class _Objective:
    """The objective and its gradient in z = mu sqrt(pi / q), flat as L-BFGS wants it."""

    def __init__(
        self, moments: Moments, cast: Array, balance: Array, start: Array, prior_weight: float
    ) -> None:
        root = np.sqrt(cast)
        self.pairs = np.where(moments.apart, moments.pairs / np.outer(root, root), 0.0)
        self.apart = moments.apart
        self.cast, self.balance = root, np.sqrt(balance)
        self.start, self.prior_weight = start, prior_weight

    def __call__(self, flat: Array) -> tuple[float, Array]:
        z = flat.reshape(self.start.shape)
        pairs = np.where(self.apart, z @ z.T, 0.0) - self.pairs
        single = z @ self.balance - self.cast
        moved = z - self.start
        loss = (pairs**2).sum() + (single**2).sum() + self.prior_weight * (moved**2).sum()
        gradient = 2 * pairs @ z + np.outer(single, self.balance) + self.prior_weight * moved
        return float(loss / 2), gradient.ravel()


def _start(cast: Array, balance: Array, lift: float) -> Array:
    """Return mu where each vote is as precise as the prior says, shape (m k, k)."""
    k = len(balance)
    elsewhere = 1 / (balance * lift + 1 - balance)  # times the vote's share: P(vote | others)
    given = elsewhere[:, None] * np.where(np.eye(k, dtype=bool), lift, 1.0)
    return np.asarray(np.minimum(np.tile(given, (len(cast) // k, 1)) * cast[:, None], 1.0))
