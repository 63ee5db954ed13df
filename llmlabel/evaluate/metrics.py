"""Metrics of predicted classes and probabilities, as plain functions of arrays.

Gold is an int array, shape (n,). A prediction is an int array, shape (n,), where -1
abstains, or probabilities, shape (n, k). `decisions` turns either into shares of each
class per row, from which everything that looks at classes is counted: classes with equal
probability share their row, so that a tie is counted by expectation and the order of
the classes helps nobody; an abstention decides for no class and is never right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.schema import ABSTAIN

__all__ = [
    "Array",
    "Ints",
    "Reliability",
    "Scores",
    "accuracy",
    "brier",
    "class_scores",
    "confusion",
    "decisions",
    "ece",
    "macro_f1",
    "nll",
    "reliability",
]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS: Final = 15  # Guo et al. 2017
_TIE: Final = 1e-9  # relative: sums in another order differ in their last bits
_FLOOR: Final = 1e-12  # of a probability whose log is taken: a certain error costs 27.6 nats


@dataclass(frozen=True)
class Scores:
    """Precision, recall, F1 and support of each class, arrays of shape (k,).

    NaN stands for 0/0: the precision of a class that nobody predicted, the recall of
    one that no row has, the F1 of one that is neither.
    """

    precision: Array
    recall: Array
    f1: Array
    support: Array


@dataclass(frozen=True)
class Reliability:
    """Mean confidence against accuracy, in equal-width bins of confidence (low, high].

    One value per bin that holds rows; empty bins are left out.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    count: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]


def decisions(predicted: npt.ArrayLike, k: int) -> Array:
    """Return the share of each class in each row's decision, shape (n, k).

    Parameters
    ----------
    predicted : array of int, shape (n,), or of float, shape (n, k)
        Class indices, -1 abstains; or probabilities.
    k
        The number of classes.

    Raises
    ------
    DataError
        Another shape, a class outside 0 to k - 1, a NaN.

    Examples
    --------
    >>> decisions([1, -1], 2).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    >>> decisions([[0.1, 0.9], [0.5, 0.5]], 2).tolist()
    [[0.0, 1.0], [0.5, 0.5]]
    """
    found = np.asarray(predicted)
    if found.ndim == 1:
        labels = check_labels(found, k, "predicted")
        return np.asarray(labels[:, None] == np.arange(k), np.float64)
    probabilities = check_probabilities(found, k)
    top = probabilities.max(axis=1, keepdims=True)
    best = probabilities >= top * (1 - _TIE)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


def confusion(gold: npt.ArrayLike, predicted: npt.ArrayLike, k: int) -> Array:
    """Return counts of gold class by predicted class, shape (k, k + 1); the last abstained.

    Examples
    --------
    >>> confusion([0, 0, 1], [0, 1, -1], 2).tolist()
    [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return count_decisions(*check_pair(gold, decisions(predicted, k)))


def accuracy(gold: npt.ArrayLike, predicted: npt.ArrayLike, k: int) -> float:
    """Return the share of rows that are right, NaN without rows.

    Examples
    --------
    >>> accuracy([0, 1], [[0.5, 0.5], [0.2, 0.8]], 2)
    0.75
    """
    counts = confusion(gold, predicted, k)
    return float(ratio(np.trace(counts), counts.sum()))


def class_scores(gold: npt.ArrayLike, predicted: npt.ArrayLike, k: int) -> Scores:
    """Return each class's precision, recall, F1 and support.

    Examples
    --------
    >>> class_scores([0, 0, 1], [0, 1, 1], 2).recall.tolist()
    [0.5, 1.0]
    """
    return score_counts(confusion(gold, predicted, k))


def macro_f1(gold: npt.ArrayLike, predicted: npt.ArrayLike, k: int) -> float:
    """Return the mean F1 over the classes that gold or prediction has, NaN without rows.

    Examples
    --------
    >>> round(macro_f1([0, 0, 1], [0, 1, 1], 3), 4)
    0.6667
    """
    f1 = class_scores(gold, predicted, k).f1
    known = ~np.isnan(f1)
    return float(f1[known].mean()) if known.any() else float("nan")


def nll(gold: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the mean negative log-likelihood of the gold classes in nats.

    A probability below 1e-12 counts as 1e-12.

    Examples
    --------
    >>> round(nll([0, 1], [[0.5, 0.5], [0.0, 1.0]]), 4)
    0.3466
    """
    truth, found = check_pair(gold, check_probabilities(probabilities))
    likelihood = found[np.arange(len(truth)), truth]
    return _mean(-np.log(np.maximum(likelihood, _FLOOR)))


def brier(gold: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the mean squared distance of probabilities and gold, summed over classes (0 to 2).

    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability",
    Monthly Weather Review 78(1), 1950.

    Examples
    --------
    >>> round(brier([0], [[0.8, 0.2]]), 2)
    0.08
    """
    truth, found = check_pair(gold, check_probabilities(probabilities))
    target = truth[:, None] == np.arange(found.shape[1])
    return _mean(((found - target) ** 2).sum(axis=1))


def reliability(gold: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Return mean confidence and accuracy of the rows by their confidence.

    Confidence is the largest probability of a row.

    Examples
    --------
    >>> curve = reliability([0, 1], [[0.9, 0.1], [0.9, 0.1]], bins=2)
    >>> curve.low, curve.count, curve.accuracy
    ((0.5,), (2,), (0.5,))
    """
    truth, found = check_pair(gold, check_probabilities(probabilities))
    confidence = found.max(axis=1)
    right = decisions(found, found.shape[1])[np.arange(len(truth)), truth]
    edges = np.linspace(0, 1, bins + 1)
    at = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    full = np.flatnonzero(count)
    return Reliability(
        tuple(edges[full].tolist()),
        tuple(edges[full + 1].tolist()),
        tuple(count[full].tolist()),
        tuple((np.bincount(at, confidence, bins)[full] / count[full]).tolist()),
        tuple((np.bincount(at, right, bins)[full] / count[full]).tolist()),
    )


def ece(gold: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy.

    Equal-width bins, weighted by their rows. Source: C. Guo, G. Pleiss, Y. Sun and
    K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017, equation 3.

    Examples
    --------
    >>> round(ece([0, 1], [[0.9, 0.1], [0.9, 0.1]]), 2)
    0.4
    """
    curve = reliability(gold, probabilities, bins)
    gaps = np.abs(np.subtract(curve.accuracy, curve.confidence))
    return float(ratio(np.dot(curve.count, gaps), sum(curve.count)))


def check_labels(labels: npt.ArrayLike, k: int, what: str) -> Ints:
    """Return class indices as int64 where they are such; abstentions are for predictions only."""
    found = np.asarray(labels)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"{what}: expected class indices, shape (n,), got {found.dtype} {found.shape}"
        )
    lowest = ABSTAIN if what == "predicted" else 0
    bad = (found < lowest) | (found >= k)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{what}: expected {lowest} to {k - 1} for {k} classes, got {found[row]}", row=row
        )
    return found.astype(np.int64)


def check_probabilities(probabilities: npt.ArrayLike, k: int | None = None) -> Array:
    """Return probabilities as float64 where each row is a distribution over k classes."""
    found = np.asarray(probabilities, np.float64)
    if found.ndim != 2 or (k is not None and found.shape[1] != k) or found.shape[1] < 1:
        wanted = "k" if k is None else k
        raise DataError(f"probabilities: expected shape (n, {wanted}), got {found.shape}")
    inside = ((found >= 0) & (found <= 1 + 1e-6)).all(axis=1)  # False where NaN
    bad = ~(inside & (np.abs(found.sum(axis=1) - 1) <= 1e-4))  # float32 softmaxes are welcome
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"expected probabilities that sum to 1, got {found[row].tolist()}", row=row)
    return found


def check_pair(gold: npt.ArrayLike, predicted: Array) -> tuple[Ints, Array]:
    """Return gold as int64, shape (n,), and the prediction, where they have the same rows."""
    truth = check_labels(gold, predicted.shape[1], "gold")
    if len(truth) != len(predicted):
        raise DataError(
            f"expected one prediction per gold label, got {len(truth)} gold labels and "
            f"{len(predicted)} predictions"
        )
    return truth, predicted


def count_decisions(gold: Ints, decided: Array) -> Array:
    """Return the confusion counts of decisions, shape (k, k + 1)."""
    abstained = decided.sum(axis=1, keepdims=True) == 0
    outcomes = np.concatenate([decided, abstained], axis=1)
    return np.stack([outcomes[gold == c].sum(axis=0) for c in range(decided.shape[1])])


def score_counts(counts: Array) -> Scores:
    """Return each class's scores from confusion counts."""
    right, said = np.diag(counts), counts[:, :-1].sum(axis=0)
    support = np.rint(counts.sum(axis=1))  # ties split rows into shares that may sum to 0.999...
    return Scores(
        ratio(right, said), ratio(right, support), ratio(2 * right, said + support), support
    )


def ratio(above: npt.ArrayLike, below: npt.ArrayLike) -> Array:
    """Divide, with NaN for 0/0."""
    top, bottom = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    out: Array = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
