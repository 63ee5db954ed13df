"""Dawid and Skene's model of annotators, with abstentions and priors that hold it in place."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from llmlabel.errors import DataError
from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.explanation import Explanation, log_softmax
from llmlabel.labelmodel.majority import vote_shares
from llmlabel.labelmodel.patterns import Array, one_hot
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["DawidSkene"]


class DawidSkene(LabelModel):
    r"""Class-conditional outcomes of each labeling function, learned by EM without gold labels.

    Row i has the class :math:`y_i` with probability :math:`\pi_y`. Given the class, LF j
    has the outcome o, one of the k votes or the abstention, with probability
    :math:`\theta_{jo|y}`, independently of the others [1]_. Three things are added:

    *Tempered silence.* Why an LF is silent often has little to do with the class: it was
    asked on some rows only, or long texts trigger more rules. A row's own silences count
    `abstain_weight` :math:`= \lambda`; the rest is replaced by its mean over all rows,
    with :math:`r_j` the share of rows on which LF j abstains:

    .. math:: \log p(y | x_i) = \log \pi_y + \sum_{j \text{ votes}} \log \theta_{j x_{ij}|y}
              + \sum_j (\lambda [j \text{ abstains}] + (1 - \lambda) r_j) \log \theta_{j\varnothing|y}
              + \text{const}

    Without that mean, classes with many one-sided LFs would attract rows, since nothing
    would set off their votes. With :math:`\lambda = 1` this is Dawid and Skene's model,
    and EM never lowers `history_`; below 1 the E-step is tempered and the M-step is not,
    so that EM looks for a fixed point rather than a maximum.

    *Priors.* The :math:`\theta` have Dirichlet priors worth `prior_votes` +
    `prior_share` times the LF's votes, in which each vote is right with probability
    `prior_precision`, however rare its class: LFs start better than chance, and what
    says otherwise must be seen. `balance_rows` rows with uniform classes are the prior
    of :math:`\pi`.

    *An anchor.* Left alone, EM on dependent LFs slowly trades the classes for some other
    grouping of the rows. Here the majority vote stands beside the model's own
    probabilities in every M-step with the weight `majority_weight`, as a fixed Dirichlet
    prior; with 0 it is where EM starts and no more.

    Parameters
    ----------
    prior_precision
        How often a vote is right in the prior.
    prior_votes
        The votes that the prior of each LF is worth, whatever the data.
    prior_share
        As many again per vote that was seen: LFs are never as independent as the model
        believes, so more rows do not make it as sure as it thinks.
    majority_weight
        What a row's majority vote counts in the M-step; the row itself counts 1.
    abstain_weight
        What a row's own silences count, from 0 (nothing) to 1 (as the model says).
    balance_rows
        The rows that the uniform prior of the class balance is worth.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the learned class balance, or 1/k for each class.
    max_iter
        The most EM iterations.
    tol
        EM stops when the bound per row changes by less.

    Attributes
    ----------
    class_balance_ : array, shape (k,)
        The learned class balance of the rows with votes.
    outcomes_ : array, shape (m, k + 1, k)
        ``outcomes_[j, o, y]``: how probably LF j has the outcome o (a class, or last the
        abstention) on a row of class y.
    abstain_rates_ : array, shape (m,)
        The share of rows with votes on which LF j abstains, :math:`r_j`.
    lf_accuracies_ : array, shape (m,)
        How often each LF is believed to be right where it votes: the mean probability of
        what it voted, over its votes and one more that is worth `prior_precision`.
    history_ : array, shape (n_iter_,)
        The penalised log-likelihood per row (tempered as above) after each iteration.
    n_iter_, converged_
        How EM ended; a `ConvergenceWarning` says so too where it did not converge.

    References
    ----------
    .. [1] A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer
       error-rates using the EM algorithm", Applied Statistics 28(1), 1979, 20-28.

    Examples
    --------
    >>> from llmlabel.votes import VoteMatrix
    >>> L = VoteMatrix(
    ...     [[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0], [-1, -1, -1]],
    ...     ["a", "b", "c"], ["HAM", "SPAM"],
    ... )
    >>> model = DawidSkene().fit(L)
    >>> model.predict_proba(L)[:, 1].round(2).tolist()
    [0.94, 0.78, 0.22, 0.06, 0.5]
    >>> model.covered(L).tolist()
    [True, True, True, True, False]
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "prior_precision": (1e-3, 1 - 1e-3),  # 0 and 1 would make outcomes impossible
        "prior_votes": (1e-3, math.inf),  # without a prior a vote unseen in a class is impossible
        "prior_share": (0.0, math.inf),
        "majority_weight": (0.0, math.inf),
        "abstain_weight": (0.0, 1.0),
        "balance_rows": (1e-3, math.inf),
        "max_iter": (1, math.inf),
        "tol": (0.0, math.inf),
    }

    outcomes_: Array
    abstain_rates_: Array
    lf_accuracies_: Array
    history_: Array
    n_iter_: int
    converged_: bool

    def __init__(
        self,
        *,
        prior_precision: float = 0.7,
        prior_votes: float = 50.0,
        prior_share: float = 0.3,
        majority_weight: float = 1.0,
        abstain_weight: float = 0.2,
        balance_rows: float = 50.0,
        uncovered: str = "balance",
        max_iter: int = 200,
        tol: float = 1e-6,
    ) -> None:
        self.prior_precision = prior_precision
        self.prior_votes = prior_votes
        self.prior_share = prior_share
        self.majority_weight = majority_weight
        self.abstain_weight = abstain_weight
        self.balance_rows = balance_rows
        self.uncovered = uncovered
        self.max_iter = max_iter
        self.tol = tol

    def _fit(self, votes: IntArray, weights: Array) -> None:
        k = len(self.classes_)
        hot = one_hot(votes, k)
        posterior = vote_shares(votes, k)
        majority = expected_counts(hot, posterior, weights)
        self.abstain_rates_ = majority.outcomes[:, -1].sum(axis=1) / weights.sum()
        prior = self._prior_counts(majority)
        history: list[float] = []
        self.converged_ = False
        while len(history) < self.max_iter and not self.converged_:
            counts = expected_counts(hot, posterior, weights)
            self.outcomes_, self.class_balance_ = m_step(counts, prior)
            posterior, evidence = self._e_step(hot)
            history.append(
                lower_bound(evidence, weights, prior, self.outcomes_, self.class_balance_)
            )
            self.converged_ = len(history) > 1 and abs(history[-1] - history[-2]) < self.tol
        self.history_ = np.array(history)
        self.n_iter_ = len(history)
        self.lf_accuracies_ = self._accuracies(expected_counts(hot, posterior, weights))
        if not self.converged_:
            self._warn()

    def _proba(self, votes: IntArray) -> Array:
        return self._e_step(one_hot(votes, len(self.classes_)))[0]

    def explain(self, L_row: VoteMatrix) -> Explanation:
        """Return what each labeling function adds to a row's log posterior.

        Parameters
        ----------
        L_row
            The votes of one row, as ``L.take([i])`` gives them.

        Returns
        -------
        An `Explanation`, whose prior and contributions add up to the logs of what
        `predict_proba` returns. Silent LFs contribute too, by what their silence says;
        without any vote there is the prior alone.

        Examples
        --------
        >>> from llmlabel.votes import VoteMatrix
        >>> L = VoteMatrix([[1, 1], [0, 0], [1, -1]], ["a", "b"], ["HAM", "SPAM"])
        >>> why = DawidSkene().fit(L).explain(L.take([2]))
        >>> prior, contributions = why.log_odds("SPAM", "HAM")
        >>> round(prior, 2), contributions.round(2).tolist()
        (0.05, [0.7, 0.12])
        """
        votes = self._require_known(L_row)
        if len(votes) != 1:
            raise DataError(f"explain: expected the votes of one row, got {len(votes)} rows")
        voted = votes[0] != ABSTAIN
        at = np.arange(len(voted))
        mean, silent, spoken = self._terms()
        terms = np.where(voted[:, None], spoken[at, votes[0]], silent) + mean
        return Explanation.from_terms(
            L_row.classes,
            self.lf_names_,
            votes[0],
            np.log(self._prior() if not voted.any() else self.class_balance_),
            terms if voted.any() else np.zeros_like(terms),
        )

    def _terms(self) -> tuple[Array, Array, Array]:
        """What each LF adds to the log posterior: always; where silent; where it votes v.

        Shapes (m, k), (m, k) and (m, k, k): the last axis is the class of the row.
        """
        log_outcomes = np.log(self.outcomes_)
        abstained = log_outcomes[:, -1]
        own = self.abstain_weight
        mean = (1 - own) * self.abstain_rates_[:, None] * abstained
        return mean, own * abstained, log_outcomes[:, :-1]

    def _e_step(self, hot: sp.csr_array) -> tuple[Array, Array]:
        """Return each pattern's class probabilities and log evidence."""
        mean, silent, spoken = self._terms()
        k = len(self.class_balance_)
        of_votes = (spoken - silent[:, None, :]).reshape(-1, k)
        scores = hot @ of_votes + (np.log(self.class_balance_) + (mean + silent).sum(axis=0))
        log_posterior, evidence = log_softmax(scores)
        return np.exp(log_posterior), evidence

    def _prior_counts(self, majority: Counts) -> Counts:
        """Return the prior as counts: of rows seen by each LF with their classes and outcomes."""
        k = len(majority.classes)
        total = majority.classes.sum()
        # Half-way between the majority vote's balance and the uniform one: a prior that
        # took rare classes for common ones would make their LFs useless.
        balance = (majority.classes / total + 1 / k) / 2
        voted = majority.outcomes[:, :-1].sum(axis=2)
        seen = np.concatenate([voted + 1 / k, majority.outcomes[:, -1:].sum(axis=2) + 1], axis=1)
        rates = seen / seen.sum(axis=1, keepdims=True)
        right, wrong = self.prior_precision / balance, (1 - self.prior_precision) / (1 - balance)
        lift = np.where(np.eye(k, dtype=bool), right[:, None], wrong[:, None])
        expected = np.concatenate(
            [rates[:, :-1, None] * lift, np.repeat(rates[:, -1:, None], k, 2)], 1
        )
        expected /= expected.sum(axis=1, keepdims=True)
        worth = self.prior_votes + self.prior_share * voted.sum(axis=1)
        rows = (worth / rates[:, :-1].sum(axis=1))[:, None, None]
        anchor = self.majority_weight
        return Counts(
            expected * rows * balance + anchor * majority.outcomes,
            self.balance_rows / k + anchor * majority.classes,
        )

    def _accuracies(self, counts: Counts) -> Array:
        right = counts.outcomes[:, :-1].trace(axis1=1, axis2=2)
        voted = counts.outcomes[:, :-1].sum(axis=(1, 2))
        return np.asarray((right + self.prior_precision) / (voted + 1))

    def _warn(self) -> None:
        message = (
            f"DawidSkene did not converge in {self.max_iter} iterations; raise max_iter or tol"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=4)


@dataclass(frozen=True)
class Counts:
    """Expected counts: of each LF's outcomes by class, shape (m, k + 1, k), and of classes, (k,)."""

    outcomes: Array
    classes: Array


def expected_counts(hot: sp.csr_array, posterior: Array, weights: Array) -> Counts:
    """Count outcomes and classes where each pattern has its classes with some probability."""
    k = posterior.shape[1]
    weighted = posterior * weights[:, None]
    classes = weighted.sum(axis=0)
    votes = np.asarray(hot.T @ weighted).reshape(-1, k, k)
    abstained = np.maximum(classes - votes.sum(axis=1, keepdims=True), 0)  # rounding falls below 0
    return Counts(np.concatenate([votes, abstained], axis=1), classes)


def m_step(counts: Counts, prior: Counts) -> tuple[Array, Array]:
    """Return the most probable outcome probabilities and class balance."""
    outcomes = counts.outcomes + prior.outcomes
    classes = counts.classes + prior.classes
    return outcomes / outcomes.sum(axis=1, keepdims=True), classes / classes.sum()


def lower_bound(
    evidence: Array, weights: Array, prior: Counts, outcomes: Array, balance: Array
) -> float:
    """Return the penalised log-likelihood per row, which EM raises."""
    penalty = np.vdot(prior.outcomes, np.log(outcomes)) + prior.classes @ np.log(balance)
    return float((weights @ evidence + penalty) / weights.sum())
