"""MACE and GLAD as crowd-kit wrote them, behind the interface of label models.

The one file that needs crowd-kit (``pip install 'llmlabel[crowd]'``), and only in `fit`.
"""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError, MissingExtraError
from llmlabel.labelmodel.additive import AdditiveModel
from llmlabel.labelmodel.base import check_weights
from llmlabel.labelmodel.patterns import Array
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["GLAD", "MACE"]


class _CrowdModel(AdditiveModel):
    """Hands votes to crowd-kit as a long table, and takes its parameters back."""

    def fit(self, L: VoteMatrix, *, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Learn from votes alone; see `LabelModel.fit`. Weights must be whole numbers."""
        if sample_weight is not None:
            weights = check_weights(sample_weight, len(L))
            assert weights is not None
            broken = weights != np.rint(weights)
            if broken.any():
                row = int(np.argmax(broken))
                raise DataError(
                    f"{type(self).__name__} repeats rows; sample_weight: expected a whole "
                    f"number, got {weights[row]}",
                    row=row,
                )
        return super().fit(L, sample_weight=sample_weight)

    def _long(self, votes: IntArray, weights: Array) -> tuple[Any, IntArray, IntArray]:
        """Return the table that crowd-kit reads, and the LF and class behind its numbers.

        Workers and labels are numbered by where they first appear, since crowd-kit's MACE
        counts one way in order of appearance and another way sorted. LFs and classes come
        in the order of their names: the result must not depend on the order of columns.
        """
        pandas = _require("pandas", type(self).__name__)
        rows = np.repeat(np.arange(len(votes)), weights.astype(np.int64))
        lfs, ranks = np.argsort(self.lf_names_), np.argsort(np.argsort(self.classes_))
        ordered = votes[rows][:, lfs]
        worker, task = np.nonzero(ordered.T != ABSTAIN)
        label = ordered[task, worker]
        order = np.lexsort((task, ranks[label], worker))
        task, worker, label = task[order], worker[order], label[order]
        columns: dict[str, npt.NDArray[np.int64]] = {"task": task}
        columns["worker"], workers = pandas.factorize(worker)
        columns["label"], labels = pandas.factorize(label)
        return pandas.DataFrame(columns), lfs[workers].astype(np.int16), labels.astype(np.int16)


class MACE(_CrowdModel):
    r"""Each labeling function either knows the class or answers by a habit of its own.

    LF j knows with probability :math:`\theta_j`, and then votes for the class; otherwise it
    votes v with probability :math:`\xi_{jv}`, whatever the row says. Classes are uniform:

    .. math:: p(y | x) \propto \prod_{j \text{ votes}} \theta_j [x_j = y] + (1 - \theta_j) \xi_{j x_j}

    Learned by crowd-kit's variational Bayes [1]_ (its random restarts all start from one
    seed, so that there is one run here).

    Parameters
    ----------
    n_iter
        Iterations of variational Bayes.
    random_state
        The seed of the start.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the mean of the covered rows' probabilities, or
        1/k for each class.

    Attributes
    ----------
    competences_ : array, shape (m,)
        How often each LF knows; 0 where it never votes.

    Raises
    ------
    MissingExtraError
        In `fit`, where crowd-kit is not installed.

    References
    ----------
    .. [1] D. Hovy, T. Berg-Kirkpatrick, A. Vaswani and E. Hovy, "Learning whom to trust with
       MACE", NAACL 2013, 1120-1130.
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "n_iter": (1, math.inf),
        "random_state": (0, 2**32 - 1),
    }

    competences_: Array

    def __init__(
        self, *, n_iter: int = 50, random_state: int = 0, uncovered: str = "balance"
    ) -> None:
        self.n_iter = n_iter
        self.random_state = random_state
        self.uncovered = uncovered

    def _learn(self, votes: IntArray, weights: Array) -> tuple[Array, Array]:
        module = _require("crowdkit.aggregation.classification.mace", "MACE")
        table, workers, labels = self._long(votes, weights)
        model = module.MACE(
            n_restarts=1, n_iter=int(self.n_iter), random_state=int(self.random_state)
        )
        _quietly(model.fit, table)
        m, k = votes.shape[1], len(self.classes_)
        self.competences_ = np.zeros(m)
        self.competences_[workers] = model.spamming_[:, 1]
        habits = np.full((m, k), 1 / k)  # of an LF or vote that was never seen
        habits[np.ix_(workers, labels)] = model.thetas_
        knows = self.competences_[:, None, None] * np.eye(k)
        guesses = ((1 - self.competences_)[:, None] * habits)[:, :, None]
        return np.zeros(k), np.log(np.maximum(knows + guesses, 1e-300))


class GLAD(_CrowdModel):
    r"""Labeling functions with abilities, rows with difficulties.

    A vote of LF j on row i is right with probability :math:`\sigma(\alpha_j e^{\beta_i})`
    [1]_; errors fall on all other classes alike, classes are uniform. Learned by crowd-kit's
    EM with conjugate gradients. Rows are scored with the mean :math:`e^{\beta}` of the
    rows of `fit`, also those of `fit` themselves, so that equal votes get equal
    probabilities; with two classes a row's own difficulty never changes which is larger.

    Parameters
    ----------
    n_iter
        The most EM iterations.
    m_step_iter
        The most iterations of conjugate gradients within each.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the mean of the covered rows' probabilities, or
        1/k for each class.

    Attributes
    ----------
    abilities_ : array, shape (m,)
        :math:`\alpha_j`: 0 guesses, below 0 is worse than guessing; the prior's mean 1 where
        an LF never votes.

    Raises
    ------
    MissingExtraError
        In `fit`, where crowd-kit is not installed.

    References
    ----------
    .. [1] J. Whitehill, P. Ruvolo, T. Wu, J. Bergsma and J. Movellan, "Whose vote should count
       more", NIPS 2009.
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "n_iter": (1, math.inf),
        "m_step_iter": (1, math.inf),
    }

    abilities_: Array

    def __init__(
        self, *, n_iter: int = 100, m_step_iter: int = 25, uncovered: str = "balance"
    ) -> None:
        self.n_iter = n_iter
        self.m_step_iter = m_step_iter
        self.uncovered = uncovered

    def _learn(self, votes: IntArray, weights: Array) -> tuple[Array, Array]:
        module = _require("crowdkit.aggregation.classification.glad", "GLAD")
        table, workers, _ = self._long(votes, weights)
        m, k = votes.shape[1], len(self.classes_)
        prior = _require("pandas", "GLAD").Series(1 / k, index=np.arange(k))
        model = module.GLAD(
            n_iter=int(self.n_iter),
            m_step_max_iter=int(self.m_step_iter),
            labels_priors=prior,
        )
        _quietly(model.fit, table)
        self.abilities_ = np.ones(m)
        self.abilities_[workers[model.alphas_.index]] = model.alphas_.to_numpy()
        ease = float(np.exp(model.betas_.to_numpy()).mean())
        # log(sigma(z) / ((1 - sigma(z)) / (k - 1))): right against one of the other classes
        odds = self.abilities_ * ease + math.log(k - 1)
        return np.zeros(k), odds[:, None, None] * np.eye(k)


def _require(module: str, model: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old syntax in its dependencies is not the user's
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("crowd-kit", "crowd", need=model) from error


def _quietly(fit: Any, table: Any) -> None:
    """Fit without pandas' notes on crowd-kit's use of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(table)
