"""Multinomial logistic regression on probabilities instead of labels.

The loss of a row is the cross-entropy between its target p and the model's q,
``-sum_c p_c log q_c``: the same as that of k rows, one for each class c, that
weigh p_c. So scikit-learn's solver does it, on rows repeated for each class that
matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from llmlabel.distill.features import Features, Matrix, coordinates, from_coordinates

__all__ = ["Choice", "Coefficients", "choose", "fit_softmax"]

NEGLIGIBLE: Final = 0.01
FOLDS: Final = 3
C_GRID: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
EMBEDDING_WEIGHTS: Final = (0.5, 2.0, 4.0)
MAX_GRAM_ROWS: Final = 2_500  # a Gram matrix of 50 MB; choosing on more rows changes little

_DEFAULT_C: Final = 10.0
_TOLERANCE: Final = 1e-5  # at 1e-4 a warm start passes for a solution
_FLOOR: Final = np.log(1e-6)  # a class that a fold has not seen costs much, not everything


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A fitted model: logits = features @ coef.T + intercept.

    Parameters
    ----------
    coef : array, shape (k, n_features)
    intercept : array, shape (k,)
        Minus infinity for a class that no row spoke for: its probability is 0.
    """

    coef: Matrix
    intercept: Matrix


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose, and the mean log-loss of the rows it held out."""

    C: float
    embedding_weight: float
    log_loss: float | None
    rows: int


def fit_softmax(
    features: Features, targets: Matrix, weights: Matrix, C: float, embedding_weight: float = 1.0
) -> Coefficients:
    """Fit logistic regression on soft targets.

    Parameters
    ----------
    features
        n rows.
    targets : array, shape (n, k)
        Probabilities.
    weights : array, shape (n,)
        Row weights.
    C
        Inverse strength of the L2 penalty, scikit-learn's C.
    embedding_weight
        How often the embeddings count.

    Returns
    -------
    Coefficients for the features as they are, the weight folded in.
    """
    path = _Path(targets, weights)
    weighted = features.weighted(embedding_weight)
    if len(features) <= min(MAX_GRAM_ROWS, features.n_features):
        everything = np.arange(len(features))
        lower, _ = coordinates(features.gram(embedding_weight), everything, everything[:0])
        fitted = path.fit(lower, C)
        coef = from_coordinates(weighted, lower, fitted.coef)
    else:
        fitted = path.fit(weighted.matrix(), C)
        coef = fitted.coef
    coef[:, : features.dense.shape[1]] *= np.sqrt(embedding_weight)
    return Coefficients(coef, fitted.intercept)


def choose(features: Features, targets: Matrix, weights: Matrix, *, seed: int) -> Choice:
    """Choose C and the embeddings' weight by cross-validation, without gold labels.

    The criterion is the mean log-loss of held-out rows against their own soft
    targets, over 3 folds stratified by the likeliest class. On more than 2,500
    rows a seeded sample of that many is used; fewer than 6 are too few to choose by.
    """
    if len(features) < 2 * FOLDS:
        return Choice(_DEFAULT_C, 1.0, None, len(features))
    rng = np.random.default_rng(seed)
    if len(features) > MAX_GRAM_ROWS:
        sample = np.sort(rng.permutation(len(features))[:MAX_GRAM_ROWS])
        features, targets, weights = features.take(sample), targets[sample], weights[sample]
    folds = _folds(targets.argmax(axis=1), rng)
    both = features.dense.shape[1] and features.sparse.shape[1]
    held_out = partial(_losses, features, targets, weights, folds)
    losses = dict(zip(C_GRID, held_out(1.0, C_GRID), strict=True))
    C = min(losses, key=losses.__getitem__)
    # One after the other, since C moves the loss far more than the weight does.
    by_weight = {1.0: losses[C]}
    for weight in EMBEDDING_WEIGHTS if both else ():
        (by_weight[weight],) = held_out(weight, (C,))
    weight = min(by_weight, key=by_weight.__getitem__)
    return Choice(C, weight, by_weight[weight], len(features))


def _losses(
    features: Features,
    targets: Matrix,
    weights: Matrix,
    folds: npt.NDArray[np.intp],
    embedding_weight: float,
    grid: Sequence[float],
) -> Sequence[float]:
    """Return the held-out mean log-loss for each C of a grid."""
    spanned = len(features) < features.n_features
    rows: Any = (
        features.gram(embedding_weight) if spanned else features.weighted(embedding_weight).matrix()
    )
    total = np.zeros(len(grid))
    for fold in range(FOLDS):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if spanned:
            seen, unseen = coordinates(rows, train, held)
        else:
            seen, unseen = rows[train], rows[held]
        path = _Path(targets[train], weights[train])
        for i, C in enumerate(grid):
            fitted = path.fit(seen, C)
            logs = log_softmax(unseen @ fitted.coef.T + fitted.intercept, axis=1)
            entropy = -(targets[held] * np.maximum(logs, _FLOOR)).sum(axis=1)
            total[i] += entropy @ weights[held]
    return [float(t) for t in total / weights.sum()]


def _folds(classes: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Deal the rows of each class out to the folds in random order."""
    order = np.lexsort((rng.random(len(classes)), classes))
    folds = np.empty(len(classes), np.intp)
    folds[order] = np.arange(len(classes)) % FOLDS
    return folds


class _Path:
    """Fits for one C after another, each from where the last one ended."""

    def __init__(self, targets: Matrix, weights: Matrix) -> None:
        from sklearn.linear_model import LogisticRegression

        kept = targets * (targets > NEGLIGIBLE)
        kept = kept / kept.sum(axis=1, keepdims=True) * weights[:, None]
        self.rows, self.labels = np.nonzero(kept)
        self.sample_weight = kept[self.rows, self.labels]
        self.present = np.unique(self.labels)
        self.k = targets.shape[1]
        self.model: Any = LogisticRegression(warm_start=True, tol=_TOLERANCE, max_iter=2000)

    def fit(self, X: Any, C: float) -> Coefficients:
        coef = np.zeros((self.k, X.shape[1]))
        intercept = np.full(self.k, -np.inf)
        intercept[self.present] = 0.0
        if self.present.size == 1:
            return Coefficients(coef, intercept)
        self.model.set_params(C=C)
        self.model.fit(X[self.rows], self.labels, sample_weight=self.sample_weight)
        found, shift = self.model.coef_, self.model.intercept_
        if self.present.size == 2:  # scikit-learn keeps the difference of the two
            found, shift = np.vstack([-found, found]) / 2, np.r_[-shift, shift] / 2
        coef[self.present], intercept[self.present] = found, shift
        return Coefficients(coef, intercept)
