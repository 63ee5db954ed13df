"""Votes on tokens: a hidden Markov model whose emissions are labeling functions' votes."""

from __future__ import annotations

import math
import warnings
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel.base import nothing_to_learn, require_votes
from llmlabel.labelmodel.majority import vote_shares
from llmlabel.labelmodel.patterns import Array, one_hot
from llmlabel.labelmodel.sequences import Ints, Smoothed, bio_tags, chains, smooth, viterbi
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix

__all__ = ["SequenceModel"]

_BOUNDS: Final = {
    "prior_precision": (1e-3, 1 - 1e-3),
    "prior_votes": (1e-3, math.inf),  # without a prior a vote unseen in a class is impossible
    "abstain_weight": (0.0, 1.0),
    "max_iter": (1, math.inf),
    "tol": (0.0, math.inf),
}


class SequenceModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""Token votes, whose classes follow each other within a sentence.

    The classes :math:`y_1 \dots y_T` of a sentence are a Markov chain with the first class
    :math:`s_y` and moves :math:`A_{yz}`. Given a token's class, LF j has the outcome o, a vote
    or silence, with probability :math:`\theta_{jo|y}`, independently of the others [1]_ [2]_:

    .. math:: p(y, x) = s_{y_1} \prod_t A_{y_{t-1} y_t} \prod_t \prod_j \theta_{j x_{tj}|y_t}

    A silence counts `abstain_weight` of this: gazetteers and patterns are silent together.
    EM learns all of it by forward-backward over all sentences at once, from majority
    vote, where tokens without a vote are *outside*. :math:`\theta` has a Dirichlet prior worth
    `prior_votes` votes of each LF, right with the probability `prior_precision`; each move one
    more observation, if it is possible. Where classes are BIO tags, ``I-X`` follows ``B-X`` and
    ``I-X`` alone.

    Parameters
    ----------
    outside
        The class of tokens in no span.
    prior_precision
        How often a vote is right in the prior.
    prior_votes
        The votes that the prior of each LF is worth.
    abstain_weight
        What a silence counts, from 0 (nothing) to 1 (as the model says).
    max_iter
        The most EM iterations.
    tol
        EM stops when the log evidence per token changes by less.

    Attributes
    ----------
    classes_ : array of str, shape (k,)
        Class names.
    lf_names_ : tuple of str
        The labeling functions, in the order of the votes' columns.
    start_, moves_ : arrays, shapes (k,) and (k, k)
        P(first class) and P(next class | class), by row.
    outcomes_ : array, shape (m, k + 1, k)
        ``outcomes_[j, o, y]``: how probably LF j has the outcome o (a class, or last the
        abstention) on a token of class y.
    history_ : array, shape (n_iter_,)
        The log evidence per token (silences tempered) after each iteration.
    n_iter_, converged_
        How EM ended; a `ConvergenceWarning` says so too where it did not converge.

    References
    ----------
    .. [1] A. T. Nguyen, B. C. Wallace, J. J. Li, A. Nenkova and M. Lease, "Aggregating and
       predicting sequence labels from crowd annotations", ACL 2017.
    .. [2] P. Lison, J. Barnes, A. Hubin and S. Touileb, "Named entity recognition without
       labelled data: a weak supervision approach", ACL 2020.

    Examples
    --------
    >>> sentence = [[1, -1], [1, 1], [0, 0], [-1, 1], [-1, 0]]
    >>> L = VoteMatrix(sentence * 20, ["a", "b"], ["O", "PER"])
    >>> model = SequenceModel().fit(L, [5] * 20)
    >>> model.predict_bio(L.take(range(5)), [5])
    ['B-PER', 'I-PER', 'O', 'B-PER', 'O']
    """

    classes_: npt.NDArray[np.str_]
    lf_names_: tuple[str, ...]
    start_: Array
    moves_: Array
    outcomes_: Array
    history_: Array
    n_iter_: int
    converged_: bool

    def __init__(
        self,
        *,
        outside: str = "O",
        prior_precision: float = 0.8,
        prior_votes: float = 20.0,
        abstain_weight: float = 0.2,
        max_iter: int = 100,
        tol: float = 1e-4,
    ) -> None:
        self.outside = outside
        self.prior_precision = prior_precision
        self.prior_votes = prior_votes
        self.abstain_weight = abstain_weight
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, L: VoteMatrix, lengths: npt.ArrayLike) -> Self:
        """Learn from token votes alone.

        Parameters
        ----------
        L
            The votes of m labeling functions on n tokens, sentence after sentence.
        lengths : array of int
            The number of tokens of each sentence.

        Raises
        ------
        ConfigError
            A parameter outside its range, an outside class that is none of the classes.
        DataError
            No vote on any token; lengths that do not fit.
        """
        self._check_parameters(L)
        votes, k = require_votes(L), len(L.classes)
        if not (votes != ABSTAIN).any():
            raise nothing_to_learn(len(L))
        layout = chains(lengths, len(L))
        self.classes_, self.lf_names_ = np.array(L.classes, np.str_), L.lf_names
        hot, possible = one_hot(votes, k), _possible_moves(L.classes)
        posterior = self._first_guess(L)
        prior = self._prior_counts(_outcome_counts(hot, posterior), posterior.mean(axis=0))
        found = _guessed(posterior, possible, len(np.asarray(lengths)))
        history: list[float] = []
        self.converged_ = False
        while len(history) < self.max_iter and not self.converged_:
            self._m_step(_outcome_counts(hot, found.posterior) + prior, found, possible)
            found = smooth(self._log_likelihood(hot), layout, self.start_, self.moves_)
            history.append(found.log_evidence / len(L))
            self.converged_ = len(history) > 1 and abs(history[-1] - history[-2]) < self.tol
        self.history_, self.n_iter_ = np.array(history), len(history)
        if not self.converged_:
            warnings.warn(
                f"SequenceModel did not converge in {self.max_iter} iterations; "
                "raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict_proba(self, L: VoteMatrix, lengths: npt.ArrayLike) -> Array:
        """Return class probabilities of each token given its whole sentence, shape (n, k)."""
        likelihood = self._log_likelihood(self._known(L))
        return smooth(likelihood, chains(lengths, len(L)), self.start_, self.moves_).posterior

    def predict(self, L: VoteMatrix, lengths: npt.ArrayLike) -> npt.NDArray[np.str_]:
        """Return the most probable classes of each sentence as a whole, shape (n,)."""
        likelihood = self._log_likelihood(self._known(L))
        return np.asarray(
            self.classes_[viterbi(likelihood, chains(lengths, len(L)), self.start_, self.moves_)]
        )

    def predict_bio(self, L: VoteMatrix, lengths: npt.ArrayLike) -> list[str]:
        """Return BIO tags of `predict`: its classes where they are tags already."""
        found = self.predict(L, lengths)
        if _are_bio(self.classes_.tolist(), self.outside):
            tags: list[str] = found.tolist()
            return tags
        return bio_tags(found, lengths, outside=self.outside)

    def _first_guess(self, L: VoteMatrix) -> Array:
        """Majority vote; what nobody votes on is outside."""
        covered = L.covered()
        guess = np.zeros((len(L), len(L.classes)))
        guess[:, L.classes.index(self.outside)] = 1
        guess[covered] = vote_shares(L.votes[covered], len(L.classes))
        return guess

    def _prior_counts(self, counts: Array, balance: Array) -> Array:
        """Return the prior as counts of outcomes by class, shape (m, k + 1, k)."""
        k = len(balance)
        share = (balance + 1 / k) / 2
        wrong = (1 - self.prior_precision) * share / (1 - share[:, None])
        right = np.where(np.eye(k, dtype=bool), self.prior_precision, wrong)
        voted = counts[:, :-1].sum(axis=2) + 1 / k
        total = voted.sum(axis=1, keepdims=True)
        said = self.prior_votes * voted[:, :, None] / total[:, :, None] * right
        silent = self.prior_votes * counts[:, -1].sum(axis=1, keepdims=True) / total * share
        return np.concatenate([said, silent[:, None] + 1e-3], axis=1)

    def _m_step(self, counts: Array, found: Smoothed, possible: npt.NDArray[np.bool_]) -> None:
        self.outcomes_ = counts / counts.sum(axis=1, keepdims=True)
        first = (found.first + 1) * _possible_starts(self.classes_.tolist())
        self.start_ = first / first.sum()
        moves = (found.moves + 1) * possible
        self.moves_ = moves / moves.sum(axis=1, keepdims=True)

    def _log_likelihood(self, hot: sp.csr_array) -> Array:
        k = len(self.classes_)
        logs = np.log(self.outcomes_)
        silent = self.abstain_weight * logs[:, -1]
        spoken = (logs[:, :-1] - silent[:, None]).reshape(-1, k)
        return np.asarray(hot @ spoken + silent.sum(axis=0))

    def _known(self, L: VoteMatrix) -> sp.csr_array:
        check_is_fitted(self, "moves_")
        votes = require_votes(L)
        if (L.lf_names, L.classes) != (self.lf_names_, tuple(self.classes_.tolist())):
            raise DataError(
                f"expected the labeling functions {', '.join(self.lf_names_)} and the classes "
                f"{', '.join(self.classes_)} of fit, in that order"
            )
        return one_hot(votes, len(self.classes_))

    def _check_parameters(self, L: VoteMatrix) -> None:
        require_votes(L)
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise ConfigError(f"SequenceModel: {name}: expected a number, got {value!r}")
            if not low <= value <= high:
                raise ConfigError(
                    f"SequenceModel: {name}: expected {low:g} to {high:g}, got {value!r}"
                )
        if self.outside not in L.classes:
            raise UnknownNameError("class", self.outside, L.classes, where="outside")
        if len(L.classes) < 2:
            raise DataError(f"expected at least two classes, got {', '.join(L.classes)}")


def _outcome_counts(hot: sp.csr_array, posterior: Array) -> Array:
    """Return expected counts of outcomes by class, shape (m, k + 1, k)."""
    k = posterior.shape[1]
    votes = np.asarray(hot.T @ posterior).reshape(-1, k, k)
    silent = np.maximum(posterior.sum(axis=0) - votes.sum(axis=1), 0)  # rounding falls below 0
    return np.concatenate([votes, silent[:, None]], axis=1)


def _guessed(posterior: Array, possible: npt.NDArray[np.bool_], sentences: int) -> Smoothed:
    """Return the first guess as if classes did not look at each other."""
    balance = posterior.mean(axis=0)
    moves = len(posterior) * np.outer(balance, balance) * possible
    return Smoothed(posterior, sentences * balance, moves, -math.inf)


def _are_bio(classes: list[str], outside: str) -> bool:
    return all(c == outside or c[:2] in ("B-", "I-") for c in classes)


def _possible_moves(classes: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return which class may follow which: I-X only B-X and I-X."""
    names = np.array(classes, np.str_)
    inside = np.char.startswith(names, "I-") & np.isin(np.char.replace(names, "I-", "B-", 1), names)
    kind = np.array([name[2:] if name[:2] in ("B-", "I-") else "" for name in classes], np.str_)
    return np.asarray(~inside[None, :] | ((kind[:, None] == kind) & (kind[:, None] != "")))


def _possible_starts(classes: list[str]) -> Ints:
    """Return 0 for I-X where there is B-X, else 1."""
    return np.array([not (c[:2] == "I-" and f"B-{c[2:]}" in classes) for c in classes], np.int64)
