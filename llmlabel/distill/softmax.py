"""Multinomial logistic regression on probabilities instead of labels.

Minimises the cross-entropy between targets p and the model's q, and an L2
penalty, as scikit-learn's LogisticRegression does for k classes::

    sum_i w_i sum_c -p_ic log q_ic  +  |coef|^2 / (2 C),    q_i = softmax(coef x_i + b)

That one takes labels only. Repeating each row for every class it may belong to,
weighted by p, gives the same optimum (a test holds this to it), but was seven
times slower on 2,500 rows of 3.5 likely classes each.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning

from llmlabel.distill.features import DenseRows, Features, Matrix, coordinates, from_coordinates

__all__ = ["Choice", "Coefficients", "choose", "deal_folds", "fit_softmax"]

FOLDS: Final = 3
C_GRID: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
EMBEDDING_WEIGHTS: Final = (0.5, 2.0, 4.0)
SEARCH_ROWS: Final = 1_500
GRAM_ROWS: Final = 2_500  # beyond, the features themselves are the smaller matrix

_DEFAULT_C: Final = 10.0
_TOLERANCE: Final = (
    1e-5  # of the largest gradient entry; at 1e-4 a warm start passes for a solution
)
_MAX_ITERATIONS: Final = 2_000
_FLOOR: Final = np.log(1e-6)  # a class that a fold has not seen costs much, not everything


class Rows(Protocol):
    """A feature matrix X of shape (n, width), known by what it does."""

    @property
    def width(self) -> int:
        """Return the number of columns."""

    def dot(self, coef: Matrix) -> Matrix:
        """Return X @ coef.T."""

    def back(self, weights: Matrix) -> Matrix:
        """Return weights.T @ X."""


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
    weighted = features.weighted(embedding_weight)
    if len(features) <= min(GRAM_ROWS, features.width):
        everything = np.arange(len(features))
        lower, _ = coordinates(features.gram(embedding_weight), everything, everything[:0])
        fitted = _solve(DenseRows(lower), targets, weights, C)
        coef = from_coordinates(weighted, lower, fitted.coef)
    else:
        fitted = _solve(weighted, targets, weights, C)
        coef = fitted.coef
    coef[:, : features.dense.shape[1]] *= np.sqrt(embedding_weight)
    return Coefficients(coef, fitted.intercept)


def choose(features: Features, targets: Matrix, weights: Matrix, *, seed: int) -> Choice:
    """Choose C and the embeddings' weight by cross-validation, without gold labels.

    The criterion is the mean log-loss of held-out rows against their own soft
    targets, over 3 folds stratified by the likeliest class. On more than 1,500
    rows a seeded sample of that many is used; fewer than 6 are too few to choose by.
    """
    if len(features) < 2 * FOLDS:
        return Choice(_DEFAULT_C, 1.0, None, len(features))
    rng = np.random.default_rng(seed)
    if len(features) > SEARCH_ROWS:
        sample = np.sort(rng.permutation(len(features))[:SEARCH_ROWS])
        features, targets, weights = features.take(sample), targets[sample], weights[sample]
    folds = deal_folds(targets.argmax(axis=1), rng)
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
    spanned = len(features) < features.width
    weighted = features.weighted(embedding_weight)
    gram = features.gram(embedding_weight) if spanned else np.empty((0, 0))
    total = np.zeros(len(grid))
    for fold in range(FOLDS):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        seen: Rows
        unseen: Rows
        if spanned:
            seen, unseen = map(DenseRows, coordinates(gram, train, held))
        else:
            seen, unseen = weighted.take(train), weighted.take(held)
        fitted = None
        for i, C in enumerate(grid):
            fitted = _solve(seen, targets[train], weights[train], C, start=fitted)
            logs = log_softmax(unseen.dot(fitted.coef) + fitted.intercept, axis=1)
            entropy = -(targets[held] * np.maximum(logs, _FLOOR)).sum(axis=1)
            total[i] += entropy @ weights[held]
    return [float(t) for t in total / weights.sum()]


def deal_folds(
    classes: npt.NDArray[np.intp], rng: np.random.Generator, count: int = FOLDS
) -> npt.NDArray[np.intp]:
    """Deal the rows of each class out to the folds in random order."""
    order = np.lexsort((rng.random(len(classes)), classes))
    folds = np.empty(len(classes), np.intp)
    folds[order] = np.arange(len(classes)) % count
    return folds


def _solve(
    rows: Rows, targets: Matrix, weights: Matrix, C: float, start: Coefficients | None = None
) -> Coefficients:
    """Minimise the loss of the module's docstring by L-BFGS, from zero or from `start`."""
    total = weights.sum()
    mass = targets * (weights / total)[:, None]
    present = np.flatnonzero(mass.sum(axis=0) > 0)
    first = np.zeros((present.size, rows.width + 1))
    if start is not None:
        first[:] = np.column_stack([start.coef, start.intercept])[present]
    found = minimize(
        partial(_loss_and_gradient, rows, mass[:, present], 1 / (C * total)),
        first.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": _TOLERANCE, "ftol": 1e-14, "maxiter": _MAX_ITERATIONS, "maxls": 50},
    )
    if found.nit >= _MAX_ITERATIONS:
        message = f"the student's fit stopped after {found.nit} iterations"
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    coef = np.zeros((targets.shape[1], rows.width))
    intercept = np.full(targets.shape[1], -np.inf)
    solved = found.x.reshape(first.shape)
    coef[present], intercept[present] = solved[:, :-1], solved[:, -1]
    return Coefficients(coef, intercept)


def _loss_and_gradient(
    rows: Rows, mass: Matrix, penalty: float, flat: Matrix
) -> tuple[float, Matrix]:
    """Return the mean loss and its gradient.

    Parameters
    ----------
    mass : array, shape (n, k)
        Targets times row weights; sums to one.
    penalty
        1 / (C sum of weights).
    flat : array, shape (k * (width + 1),)
        Per class its coefficients, then its intercept.
    """
    parameters = flat.reshape(mass.shape[1], -1)
    coef = parameters[:, :-1]
    logs = log_softmax(rows.dot(coef) + parameters[:, -1], axis=1)
    residual = np.exp(logs) * mass.sum(axis=1, keepdims=True) - mass
    gradient = np.empty_like(parameters)
    gradient[:, :-1] = rows.back(residual) + penalty * coef
    gradient[:, -1] = residual.sum(axis=0)
    return float(penalty / 2 * np.vdot(coef, coef) - np.vdot(mass, logs)), gradient.ravel()
