"""Where to cut similarities: by a few gold rows, or by their distribution alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.schema import ABSTAIN

__all__ = ["threshold_from_distribution", "threshold_from_gold"]

_BINS: Final = 256


def threshold_from_distribution(cosines: npt.ArrayLike) -> float:
    """Return the cut that divides similarities into two groups best.

    The variance between the groups is largest there: N. Otsu (1979), A threshold
    selection method from gray-level histograms.

    Parameters
    ----------
    cosines : array, shape (n,)
        Of each row to its nearest prototype.

    Examples
    --------
    >>> near, far = np.linspace(0.6, 0.8, 50), np.linspace(0.0, 0.3, 150)
    >>> bool(0.3 < threshold_from_distribution(np.concatenate([near, far])) < 0.6)
    True
    """
    values = np.asarray(cosines, np.float64)
    if not values.size or not np.isfinite(values).all():
        raise DataError("expected at least one similarity, and finite ones")
    counts, edges = np.histogram(values, bins=_BINS)
    middle = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * middle)[:-1]
    above = values.size - below
    total = (counts * middle).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (total - sums) / above) ** 2
    between = np.nan_to_num(between, nan=0.0, posinf=0.0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1 + best[len(best) // 2]])


def threshold_from_gold(
    by_class: npt.ArrayLike, gold: npt.ArrayLike, *, precision: float = 0.9
) -> float:
    """Return the least threshold at which votes are right often enough on a few gold rows.

    Parameters
    ----------
    by_class : array, shape (n, k)
        Each row's similarity to each class.
    gold : array of int, shape (n,)
        Classes, -1 where unknown.
    precision
        The share of votes that shall be right. One right and one wrong vote are added
        beforehand (Laplace), so that a handful of lucky rows is not enough.

    Returns
    -------
    A cosine; above 1 where no threshold is good enough, so that the LF never votes.

    Examples
    --------
    >>> sims = np.array([[0.9, 0.1]] * 20 + [[0.5, 0.4]] * 5)
    >>> threshold_from_gold(sims, [0] * 20 + [1] * 5)
    0.9
    """
    similar, truth = np.asarray(by_class, np.float64), np.asarray(gold)
    if truth.shape != similar.shape[:1]:
        raise DataError(f"gold: expected {len(similar)} classes, got shape {truth.shape}")
    known = truth != ABSTAIN
    top, right = similar[known].max(axis=1), similar[known].argmax(axis=1) == truth[known]
    order = np.argsort(-top, kind="stable")
    share = (np.cumsum(right[order]) + 1) / (np.arange(1, len(order) + 1) + 2)
    # Only after the last of rows that are equally near.
    ends = np.append(np.diff(top[order]) != 0, True) if len(order) else np.empty(0, np.bool_)
    good = np.flatnonzero((share >= precision) & ends)
    return float(top[order][good[-1]]) if len(good) else 1.01
