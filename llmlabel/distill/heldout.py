"""What a linear student would say of rows that it has not learned from: the ground of choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from llmlabel.distill.features import Features, Matrix
from llmlabel.distill.inputs import with_gold
from llmlabel.distill.refine import certainty, cut_statistic, self_train, share_kept
from llmlabel.distill.softmax import FOLDS, Choice, Coefficients, deal_folds, fit_softmax

__all__ = [
    "LEAST_ROWS",
    "Labeled",
    "choose_gold_weight",
    "fit_temperature",
    "held_out_logits",
    "labeled_rows",
    "learn",
]

Rows = npt.NDArray[np.intp]

GOLD_WEIGHTS: Final = (1.0, 3.0, 10.0, 30.0)
_MOST: Final = 1_500  # rows whose held-out logits are looked at
LEAST_ROWS: Final = 30  # below, no temperature is fitted
_TEMPERATURES: Final = (0.2, 10.0)
_FLOOR: Final = -30.0


@dataclass(frozen=True, eq=False)
class Labeled:
    """All rows, and what is known of some of them.

    Parameters
    ----------
    features
        n rows.
    targets : array, shape (n, k)
        Probabilities; of rows that are not in `used`, nothing is read.
    weights : array, shape (n,)
    used
        The rows to learn from.
    gold
        Those whose class is known.
    rounds
        Of self-training on all rows.
    seed
    """

    features: Features
    targets: Matrix
    weights: Matrix
    used: Rows
    gold: Rows
    rounds: int
    seed: int


def labeled_rows(
    features: Features,
    targets: Matrix,
    weights: Matrix,
    known: Rows,
    keep: float | Literal["auto"],
    rounds: int,
    seed: int,
) -> tuple[Labeled, float]:
    """Return what a student learns from, and the share of each class's rows that was kept.

    Parameters
    ----------
    targets, weights
        Of all rows; weight 0 where there is no label.
    known
        Known classes, -1 elsewhere.
    keep
        See `cut_statistic`; ``"auto"`` as `share_kept` says.
    """
    targets, weights = with_gold(targets, weights, known)
    labeled = np.flatnonzero(weights)
    share = share_kept(targets[labeled]) if keep == "auto" else keep
    used = labeled
    if share < 1 and features.dense.shape[1]:
        best = targets[labeled].argmax(axis=1)
        kept = cut_statistic(features.dense[labeled], best, keep=share, seed=seed)
        used = labeled[kept | (known[labeled] >= 0)]
    gold = np.flatnonzero(known >= 0)
    data = Labeled(features, targets, weights, used, gold, rounds, seed)
    return data, share if used.size < labeled.size else 1.0


def learn(
    data: Labeled, choice: Choice, without: Rows | None = None, gold_weight: float = 1.0
) -> Coefficients:
    """Fit a student on the used rows, but for some of them, and let it teach itself."""
    rows = data.used if without is None else np.setdiff1d(data.used, without)
    weights = data.weights.copy()
    weights[data.gold] *= gold_weight
    how = choice.C, choice.embedding_weight
    fitted = fit_softmax(data.features.take(rows), data.targets[rows], weights[rows], *how)
    if not data.rounds:
        return fitted
    certain = np.zeros(len(data.targets))
    certain[rows] = certainty(data.targets[rows])
    importance = np.ones(len(certain))
    importance[np.intersect1d(rows, data.gold)] = gold_weight
    return self_train(
        data.features,
        fitted,
        *how,
        targets=data.targets,
        certain=certain,
        importance=importance,
        rounds=data.rounds,
        seed=data.seed,
    )


def held_out_logits(
    data: Labeled, rows: Rows, fit: Callable[[Rows], Coefficients]
) -> tuple[Rows, Matrix]:
    """Return rows, at most 1,500, and their logits by students that did not learn from them.

    Parameters
    ----------
    rows
        Which rows.
    fit
        Makes a student without some rows.
    """
    rng = np.random.default_rng(data.seed)
    if len(rows) > _MOST:
        rows = np.sort(rng.permutation(rows)[:_MOST])
    folds = deal_folds(data.targets[rows].argmax(axis=1), rng)
    logits = np.empty((len(rows), data.targets.shape[1]))
    for fold in range(FOLDS):
        held = rows[folds == fold]
        if held.size:
            fitted = fit(held)
            logits[folds == fold] = data.features.take(held).dot(fitted.coef) + fitted.intercept
    return rows, np.maximum(logits, _FLOOR)


def choose_gold_weight(data: Labeled, choice: Choice) -> tuple[float, float | None]:
    """Return how much a gold row counts, and its mean log-loss of held-out gold rows.

    Students learn from all other rows and two thirds of the gold rows, and are asked about
    the last third. With fewer than six gold rows the largest weight is taken unmeasured.
    """
    if len(data.gold) < 2 * FOLDS:
        return GOLD_WEIGHTS[-1], None
    data = replace(data, rounds=0)  # what follows is the same for every weight, and slow
    losses = {}
    for weight in GOLD_WEIGHTS:
        rows, logits = held_out_logits(
            data, data.gold, partial(learn, data, choice, gold_weight=weight)
        )
        losses[weight] = _loss(logits, data.targets[rows])
    best = min(losses, key=losses.__getitem__)
    return best, losses[best]


def fit_temperature(logits: Matrix, targets: Matrix, *, least: int = LEAST_ROWS) -> float:
    r"""Return the T by which to divide logits so that held-out probabilities fit best.

    .. math:: \min_T \; -\sum_i \sum_c p_{ic} \log \mathrm{softmax}(z_i / T)_c

    Parameters
    ----------
    logits : array, shape (n, k)
        Of rows that the student has not learned from.
    targets : array, shape (n, k)
        Their probabilities, or one-hot gold labels.
    least
        Fewer rows give 1.

    Returns
    -------
    Between .2 and 10.

    Notes
    -----
    C. Guo, G. Pleiss, Y. Sun and K. Weinberger (2017), On Calibration of Modern Neural
    Networks, section 4.2; here against soft targets.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(5000, 3)) * 2
    >>> p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    >>> round(fit_temperature(3 * z, p), 2)
    3.0
    """
    if len(logits) < least:
        return 1.0
    low, high = np.log(_TEMPERATURES)
    found = minimize_scalar(
        lambda t: _loss(logits / np.exp(t), targets), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))


def _loss(logits: Matrix, targets: Matrix) -> float:
    return float(-(targets * log_softmax(logits, axis=1)).sum(axis=1).mean())
