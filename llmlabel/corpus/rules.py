"""Named rules with thresholds: from what is measured of documents to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.segment import Segments, batches, segment
from llmlabel.corpus.verdict import Verdict

__all__ = ["Family", "Rule", "Values", "decide", "judge", "ratio", "rules_of"]

Values = dict[str, npt.NDArray[np.float64]]
"""What is measured, by name: one number per document."""


@dataclass(frozen=True)
class Rule:
    """A limit on one measure.

    Parameters
    ----------
    name
        ``min_words`` or ``max_words``: the field of the thresholds.
    threshold
        None: the rule is off.
    """

    name: str
    threshold: float | None

    @property
    def measure(self) -> str:
        """What is limited: ``words``."""
        return self.name[4:]

    def fails(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which values are below the least or above the most allowed."""
        if self.threshold is None:
            return np.zeros(len(values), np.bool_)
        least = self.name.startswith("min_")
        return np.asarray(values < self.threshold if least else values > self.threshold)


@dataclass(frozen=True)
class Family:
    """Rules that belong together.

    Parameters
    ----------
    name
        What reasons begin with.
    thresholds
        The frozen dataclass of its thresholds; fields ``min_X`` and ``max_X`` are rules on
        measure X, in order, and other fields say how to measure.
    measure
        From a segmentation and thresholds to the measures.
    """

    name: str
    thresholds: Callable[[], Any]
    measure: Callable[[Segments, Any], Values]


def rules_of(thresholds: Any) -> Iterator[Rule]:
    """Yield the rules of a dataclass of thresholds, in order."""
    for field in fields(thresholds):
        if field.name.startswith(("min_", "max_")):
            yield Rule(field.name, getattr(thresholds, field.name))


def decide(family: str, values: Values, thresholds: Any) -> Verdict:
    """Return the verdict on documents whose measures are known.

    The reason is the family and the first rule that fails: ``gopher_quality.min_words``.
    """
    reason = np.full(len(next(iter(values.values()))), "", object)
    for rule in reversed(list(rules_of(thresholds))):
        reason[rule.fails(values[rule.measure])] = f"{family}.{rule.name}"
    return Verdict(reason, values)


def judge(family: Family, documents: Segments | Sequence[str], thresholds: Any) -> Verdict:
    """Measure documents and decide; texts are cut up a batch at a time."""
    if isinstance(documents, Segments):
        return decide(family.name, family.measure(documents, thresholds), thresholds)
    parts = [
        family.measure(segment(documents[part]), thresholds) for part in batches(documents)
    ] or [family.measure(segment([]), thresholds)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return decide(family.name, values, thresholds)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return part / whole, 0 where the whole is 0.

    Examples
    --------
    >>> ratio([1, 0], [4, 0]).tolist()
    [0.25, 0.0]
    """
    above, below = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(above, below, out=np.zeros(below.shape), where=below != 0)
