"""One predictor measured against gold: every figure of a report, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.evaluate import metrics
from llmlabel.evaluate.intervals import Interval, Metric, interval_of
from llmlabel.evaluate.metrics import Array, Ints, Reliability
from llmlabel.schema import ABSTAIN

__all__ = ["ClassScore", "Evaluation", "evaluate"]


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of a class, None where they are 0/0, and its rows in gold."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What a predictor is worth on rows with gold labels.

    Parameters
    ----------
    n
        Rows with a gold label.
    classes
        Class names in index order.
    coverage
        The share of rows with a prediction.
    accuracy, macro_f1
        On all n rows; a row without a prediction is wrong.
    covered_accuracy
        On the rows with a prediction alone; None where there are none.
    nll, brier, ece, reliability
        Of the probabilities of rows with a prediction; None where there are no
        probabilities.
    confusion
        Counts of gold class (k) by predicted class (k + 1, the last without prediction).
    per_class
        Scores of each class.
    """

    n: int
    classes: tuple[str, ...]
    coverage: float
    accuracy: Interval
    macro_f1: Interval
    covered_accuracy: Interval | None
    nll: float | None
    brier: float | None
    ece: float | None
    reliability: Reliability | None
    confusion: tuple[tuple[float, ...], ...]
    per_class: tuple[ClassScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds, and `from_dict` reads."""
        plain: dict[str, Any] = _listed(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read what `as_dict` made.

        Raises
        ------
        DataError
            A missing or unknown key.
        """
        try:
            covered, curve = data["covered_accuracy"], data["reliability"]
            return cls(
                **dict(data)
                | {
                    "classes": tuple(data["classes"]),
                    "accuracy": Interval(**data["accuracy"]),
                    "macro_f1": Interval(**data["macro_f1"]),
                    "covered_accuracy": None if covered is None else Interval(**covered),
                    "reliability": None
                    if curve is None
                    else Reliability(**{key: tuple(values) for key, values in curve.items()}),
                    "confusion": tuple(tuple(row) for row in data["confusion"]),
                    "per_class": tuple(ClassScore(**score) for score in data["per_class"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"this is no evaluation: {error}") from error


def evaluate(
    gold: npt.ArrayLike,
    predicted: npt.ArrayLike,
    classes: Sequence[str],
    *,
    covered: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions against gold labels.

    Parameters
    ----------
    gold : array of int, shape (n,)
        Class indices; rows with -1 have no gold label and are left out.
    predicted : array of int, shape (n,), or of float, shape (n, k)
        Class indices, -1 abstains; or probabilities, whose ties count by expectation.
    classes
        Class names, k of them.
    covered : array of bool, shape (n,), optional
        Which rows have a prediction. The others count as abstained, whatever
        `predicted` holds there (a label model's prior, say).
    level, resamples, seed
        Of the bootstrap intervals.

    Raises
    ------
    DataError
        No row with gold, arrays that do not fit, values that are no classes or
        probabilities.

    Examples
    --------
    >>> found = evaluate([0, 1, 1, -1], [0, 1, -1, 0], ["HAM", "SPAM"])
    >>> found.n, round(found.accuracy.value, 2), found.covered_accuracy.value
    (3, 0.67, 1.0)
    >>> found.per_class[1]
    ClassScore(name='SPAM', precision=1.0, recall=0.5, f1=0.6666666666666666, support=2)
    """
    truth, decided, probabilities = _measured(gold, predicted, covered, len(classes))
    said = np.asarray((decided > 0).any(axis=1))

    def interval(metric: Metric, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> Interval:
        return interval_of(
            truth[rows], (decided[rows],), metric, level=level, resamples=resamples, seed=seed
        )

    pair = None
    if probabilities is not None and said.any():
        pair = truth[said], probabilities[said]
    counts = metrics.count_decisions(truth, decided)
    return Evaluation(
        n=len(truth),
        classes=tuple(classes),
        accuracy=interval("accuracy"),
        macro_f1=interval("macro_f1"),
        coverage=float(said.mean()),
        covered_accuracy=interval("accuracy", said) if said.any() else None,
        nll=metrics.nll(*pair) if pair else None,
        brier=metrics.brier(*pair) if pair else None,
        ece=metrics.ece(*pair) if pair else None,
        reliability=metrics.reliability(*pair) if pair else None,
        confusion=tuple(tuple(row) for row in counts.tolist()),
        per_class=_per_class(counts, classes),
    )


def _measured(
    gold: npt.ArrayLike, predicted: npt.ArrayLike, covered: npt.ArrayLike | None, k: int
) -> tuple[Ints, Array, Array | None]:
    """Return gold, decisions and (of probabilities) the probabilities of the rows with gold."""
    truth = np.asarray(gold)
    decided = metrics.decisions(predicted, k)
    if truth.shape != (len(decided),):
        raise DataError(
            f"gold: expected one label per prediction, shape ({len(decided)},), got {truth.shape}"
        )
    if covered is not None:
        mask = np.asarray(covered)
        if mask.shape != truth.shape or mask.dtype != np.bool_:
            raise DataError(
                f"covered: expected {len(truth)} booleans, got {mask.dtype} of shape {mask.shape}"
            )
        decided[~mask] = 0
    known = truth != ABSTAIN
    if not known.any():
        raise DataError(f"none of the {len(truth)} rows has a gold label; nothing to measure")
    found = np.asarray(predicted)
    probabilities = found[known].astype(np.float64) if found.ndim == 2 else None
    return metrics.check_labels(truth[known], k, "gold"), decided[known], probabilities


def _per_class(counts: Array, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    found = metrics.score_counts(counts)
    return tuple(
        ClassScore(
            name,
            _number(found.precision[i]),
            _number(found.recall[i]),
            _number(found.f1[i]),
            int(found.support[i]),
        )
        for i, name in enumerate(classes)
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, (list, tuple)) else value
