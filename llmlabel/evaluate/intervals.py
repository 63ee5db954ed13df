"""How far a measured figure is to be trusted: bootstrap intervals and paired tests.

Rows with the same gold class and the same decision are alike to every metric here. To
draw n rows with replacement is therefore to draw how often each kind of row comes, a
multinomial count: a thousand resamples are one matrix of counts, (resamples, kinds), and
the figures of all of them are matrix products, whatever n is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.evaluate.metrics import Array, Ints, check_pair, decisions, ratio

__all__ = [
    "Interval",
    "McNemar",
    "Metric",
    "bootstrap",
    "bootstrap_difference",
    "mcnemar",
    "wilson",
]

Metric = Literal["accuracy", "macro_f1"]
Statistic = Callable[[Array, Ints, Array], Array]

_BLOCK: Final = 1 << 24  # counts held at a time: 128 MB


@dataclass(frozen=True)
class Interval:
    """A figure on the rows at hand, and the percentile interval of its resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of two predictors has right, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p_value: float


def bootstrap(
    gold: npt.ArrayLike,
    predicted: npt.ArrayLike,
    k: int,
    metric: Metric = "accuracy",
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a metric and its percentile bootstrap interval.

    Parameters
    ----------
    gold : array of int, shape (n,)
    predicted : array of int, shape (n,), or of float, shape (n, k)
        Class indices, -1 abstains (and is wrong); or probabilities.
    k
        The number of classes.
    metric : {"accuracy", "macro_f1"}
        Macro-F1 is the mean over the classes that a resample has.
    level
        How many of the resamples' figures the interval holds.
    resamples
        How many there are.
    seed
        Of the draws: the same rows and seed give the same interval, in any order of rows.

    Raises
    ------
    DataError
        No rows, or arrays that do not fit.
    UnknownNameError
        Another metric.

    Examples
    --------
    >>> bootstrap([0, 0, 1, 1] * 25, [0, 0, 1, 0] * 25, 2)
    Interval(value=0.75, low=0.66, high=0.84)
    """
    truth, decided = check_pair(gold, decisions(predicted, k))
    return interval_of(truth, (decided,), metric, level=level, resamples=resamples, seed=seed)


def bootstrap_difference(
    gold: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    k: int,
    metric: Metric = "accuracy",
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return how much better a is than b on the same rows, with a paired interval.

    Each resample draws rows with both predictions: what is hard for both cancels out.
    Parameters and errors as in `bootstrap`.

    Examples
    --------
    >>> found = bootstrap_difference([0, 1] * 50, [0, 1] * 50, [0, 1] * 45 + [1, 0] * 5, 2)
    >>> round(found.value, 2), found.low > 0
    (0.1, True)
    """
    truth, of_a = check_pair(gold, decisions(a, k))
    _, of_b = check_pair(gold, decisions(b, k))
    return interval_of(truth, (of_a, of_b), metric, level=level, resamples=resamples, seed=seed)


def wilson(right: int, n: int, *, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share, by default of 95 %.

    Examples
    --------
    >>> [round(x, 2) for x in wilson(9, 10)]
    [0.6, 0.98]
    """
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(gold: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike, k: int) -> McNemar:
    """Test whether two predictors are equally often right on the same rows.

    The exact test: of the rows that only one has right, each is as likely a's as b's.
    Where ties make a row partly right, it belongs to the predictor that has it righter.
    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12(2), 1947.

    Examples
    --------
    >>> mcnemar([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0], 2)
    McNemar(only_a=5, only_b=0, p_value=0.0625)
    """
    truth, of_a = check_pair(gold, decisions(a, k))
    _, of_b = check_pair(gold, decisions(b, k))
    rows = np.arange(len(truth))
    gain = of_a[rows, truth] - of_b[rows, truth]
    only_a, only_b = int((gain > 0).sum()), int((gain < 0).sum())
    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    return McNemar(only_a, only_b, p)


def interval_of(
    gold: Ints,
    decided: tuple[Array, ...],
    metric: Metric,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Return the interval of one predictor's metric, or of the first's minus the second's."""
    if metric not in _STATISTICS:
        raise UnknownNameError("metric", metric, _STATISTICS)
    if not 0 < level < 1:
        raise ConfigError(f"level: expected a share between 0 and 1, got {level!r}")
    if resamples < 1:
        raise ConfigError(f"resamples: expected at least 1, got {resamples!r}")
    if not len(gold):
        raise DataError("no rows with gold labels to measure on")
    first, counts = _kinds(gold, decided)
    statistic = _STATISTICS[metric]

    def measure(weights: Array) -> Array:
        found = [statistic(weights, gold[first], d[first]) for d in decided]
        return found[0] - found[1] if len(found) == 2 else found[0]

    drawn = np.concatenate([measure(w) for w in _draws(counts, resamples, seed)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(measure(counts[None, :].astype(np.float64))[0]), float(low), float(high))


def _kinds(gold: Ints, decided: tuple[Array, ...]) -> tuple[Ints, Ints]:
    """Return one row of each kind, and how many rows each kind has.

    Kinds are told apart by 64-bit sums of random numbers, one for each class that takes
    part: two kinds collide with probability 2^-64.
    """
    k = decided[0].shape[1]
    keys = np.random.default_rng(0).integers(2**64, size=(1 + len(decided), k), dtype=np.uint64)
    sums = keys[0][gold]
    for own, shares in zip(keys[1:], decided, strict=True):
        sums += (shares > 0).astype(np.uint64) @ own
    _, first, counts = np.unique(sums, return_index=True, return_counts=True)
    return first, counts


def _draws(counts: Ints, resamples: int, seed: int) -> Iterator[Array]:
    """Yield the resamples' counts, shape (some, kinds), as many at a time as memory bears."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(counts))
    total = int(counts.sum())
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield rng.multinomial(total, counts / total, size).astype(np.float64)


def _accuracy(weights: Array, gold: Ints, decided: Array) -> Array:
    right = decided[np.arange(len(gold)), gold]
    return np.asarray(weights @ right / weights.sum(axis=1))


def _macro_f1(weights: Array, gold: Ints, decided: Array) -> Array:
    truth = (gold[:, None] == np.arange(decided.shape[1])).astype(np.float64)
    right, present = weights @ (decided * truth), weights @ (decided + truth)
    f1 = ratio(2 * right, present)
    return np.asarray(np.nansum(f1, axis=1) / (present > 0).sum(axis=1))


_STATISTICS: Final[Mapping[str, Statistic]] = MappingProxyType(
    {"accuracy": _accuracy, "macro_f1": _macro_f1}
)
