"""Answer where it is sure, hand on the rest: thresholds that hold, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from llmlabel.errors import ConfigError, DataError

__all__ = ["Cut", "lower_bound", "selective_cut"]

_STEPS: Final = 50
_LEAST: Final = 10  # rows that have to be answered before anything is said of them


@dataclass(frozen=True)
class Cut:
    """A threshold of confidence.

    Parameters
    ----------
    threshold
        Rows at least so sure are answered. Above 1: none is.
    answered
        The share of the held-back rows that is.
    accuracy, low
        Of those, the share that is right, and its one-sided bound.
    rows
        How many held-back rows this rests on.
    """

    threshold: float
    answered: float
    accuracy: float
    low: float
    rows: int


def lower_bound(right: int, n: int, confidence: float = 0.95) -> float:
    """Return Clopper and Pearson's one-sided lower bound of a share.

    Examples
    --------
    >>> round(lower_bound(99, 100), 3), lower_bound(0, 10)
    (0.953, 0.0)
    """
    return 0.0 if right == 0 else float(betaincinv(right, n - right + 1, 1 - confidence))


def selective_cut(
    sureness: npt.ArrayLike, right: npt.ArrayLike, target: float, *, confidence: float = 0.95
) -> Cut:
    """Return the threshold above which a student is right often enough.

    Thresholds are tried from the surest down, at steps of 2 % of the held-back rows, and
    the first whose bound is below the target ends it. Tried in a fixed order, each can be
    tested at the full level, and the chance that what is answered is right less often than
    the target stays below one less `confidence`.

    Parameters
    ----------
    sureness : array, shape (n,)
        The confidence of held-back rows.
    right : array of bool, shape (n,)
        Whether they were answered rightly.
    target
        The accuracy wanted of what is answered, between 0 and 1.
    confidence
        How surely.

    Raises
    ------
    ConfigError
        A target or confidence that is not between 0 and 1.
    DataError
        Arrays that do not fit.

    Notes
    -----
    Fixed sequence testing, as in A. Angelopoulos et al. (2021), Learn then Test, section
    2.3; C. Clopper and E. Pearson (1934).

    Examples
    --------
    >>> sure = np.linspace(1, 0, 1000)
    >>> cut = selective_cut(sure, sure > 0.5, 0.97)
    >>> cut.answered, cut.accuracy
    (0.5, 1.0)
    """
    for name, value in (("target", target), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"{name}: expected a share between 0 and 1, got {value}")
    sure, good = np.asarray(sureness, np.float64), np.asarray(right, np.bool_)
    if sure.ndim != 1 or sure.shape != good.shape:
        raise DataError(f"expected one truth value per row, got {good.shape} for {sure.shape}")
    n = len(sure)
    best = Cut(1.01, 0.0, float("nan"), 0.0, n)
    order = np.argsort(-sure, kind="stable")
    ordered, hits = sure[order], np.cumsum(good[order])
    tried = 0
    for step in range(1, _STEPS + 1):
        count = -(-n * step // _STEPS)
        # All that are as sure as the last one are answered with it.
        count = int(np.searchsorted(-ordered, -ordered[count - 1], side="right")) if n else 0
        if count < _LEAST or count == tried:
            continue
        tried = count
        low = lower_bound(int(hits[count - 1]), count, confidence)
        if low < target:
            # The very first are too few for any bound to hold: they end nothing.
            if _bound_of_all(count, confidence) < target:
                continue
            break
        share = float(hits[count - 1] / count)
        best = Cut(float(ordered[count - 1]), count / n, share, low, n)
    return best


def _bound_of_all(n: int, confidence: float) -> float:
    return lower_bound(n, n, confidence)
