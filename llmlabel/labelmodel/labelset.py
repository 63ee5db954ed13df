"""What a label model makes: a probability per class and row, and which rows had votes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import DataError
from llmlabel.labelmodel.patterns import Array
from llmlabel.schema import ABSTAIN

__all__ = ["LabelSet"]

_COLUMNS: Final = ("id", "label", "confidence", "covered")
_PREFIX: Final = "p."
_TOLERANCE: Final = 1e-6  # of a row's sum: tables in text formats hold rounded numbers


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Probabilistic labels of n rows.

    Parameters
    ----------
    ids
        The rows' ids, all different.
    classes
        Class names, k of them, in column order.
    probabilities : array, shape (n, k)
        Each row sums to one. Stored read-only.
    covered : array of bool, shape (n,)
        Which rows had a vote. The others hold a prior, and no label.

    Raises
    ------
    DataError
        Shapes that do not fit, a repeated id, a row that is no distribution.

    Examples
    --------
    >>> labels = LabelSet(["a", "b"], ["HAM", "SPAM"], [[0.2, 0.8], [0.5, 0.5]], [True, False])
    >>> labels.labels.tolist(), labels.confidence.tolist()
    ([1, -1], [0.8, 0.5])
    >>> labels.to_table().to_pylist()[1]
    {'id': 'b', 'label': None, 'confidence': 0.5, 'covered': False, 'p.HAM': 0.5, 'p.SPAM': 0.5}
    """

    ids: tuple[Any, ...]
    classes: tuple[str, ...]
    probabilities: Array
    covered: npt.NDArray[np.bool_]

    def __init__(
        self,
        ids: Iterable[Any],
        classes: Iterable[str],
        probabilities: npt.ArrayLike,
        covered: npt.ArrayLike,
    ) -> None:
        keys, names = tuple(ids), tuple(classes)
        found: dict[str, Any] = {
            "ids": keys,
            "classes": names,
            "probabilities": _check_probabilities(probabilities, keys, names),
            "covered": _check_covered(covered, len(keys)),
        }
        _check_unique(keys)
        for key, value in found.items():
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LabelSet):
            return NotImplemented
        return (
            (self.ids, self.classes) == (other.ids, other.classes)
            and np.array_equal(self.probabilities, other.probabilities)
            and np.array_equal(self.covered, other.covered)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        votes = int(self.covered.sum())
        return f"LabelSet({len(self)} rows, {votes} with votes, {len(self.classes)} classes)"

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Each row's most probable class (of equals the first), -1 without votes, shape (n,)."""
        best = self.probabilities.argmax(axis=1) if len(self) else np.zeros(0, np.int64)
        return np.where(self.covered, best, ABSTAIN)

    @cached_property
    def confidence(self) -> Array:
        """The probability of each row's most probable class, shape (n,)."""
        return np.asarray(self.probabilities.max(axis=1, initial=0.0))

    def to_table(self) -> pa.Table:
        """Return id, label (null without votes), confidence, covered, and p.CLASS per class."""
        names = pa.array(self.classes, pa.string())
        columns: dict[str, Any] = {
            "id": pa.array(self.ids),
            "label": names.take(pa.array(self.labels, mask=~self.covered)),
            "confidence": pa.array(self.confidence),
            "covered": pa.array(self.covered),
        }
        for i, name in enumerate(self.classes):
            columns[_PREFIX + name] = pa.array(np.ascontiguousarray(self.probabilities[:, i]))
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> LabelSet:
        """Read what `to_table` made; the class order is that of the p.CLASS columns.

        Raises
        ------
        DataError
            A missing or half-empty column, or values that are no probabilities.
        """
        classes = [c[len(_PREFIX) :] for c in table.column_names if c.startswith(_PREFIX)]
        needed = ["id", "covered", *(_PREFIX + c for c in classes)]
        for name in needed:
            if name not in table.column_names:
                raise DataError(
                    f"a label table has the columns {', '.join(_COLUMNS)} and one {_PREFIX}CLASS "
                    f"per class; {name!r} is missing"
                )
            if table[name].null_count:
                row = int(np.argmax(table[name].is_null().to_numpy()))
                raise DataError("is empty; expected a value", row=row, field=name)
        columns = [pc.cast(table[_PREFIX + c], pa.float64()).to_numpy() for c in classes]
        probabilities = np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))
        return cls(table["id"].to_pylist(), classes, probabilities, table["covered"].to_numpy())


def _check_probabilities(
    probabilities: npt.ArrayLike, ids: Sequence[Any], classes: Sequence[str]
) -> Array:
    found = np.array(probabilities, np.float64, order="C")
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise DataError(
            f"expected at least two classes, all different, got {', '.join(classes) or 'none'}"
        )
    if found.size == 0:
        found = found.reshape(0, len(classes))
    if found.shape != (len(ids), len(classes)):
        raise DataError(
            f"probabilities: expected shape ({len(ids)}, {len(classes)}) for {len(ids)} ids and "
            f"{len(classes)} classes, got {found.shape}"
        )
    inside = ((found >= 0) & (found <= 1)).all(axis=1)  # False where NaN
    bad = ~(inside & (np.abs(found.sum(axis=1) - 1) <= _TOLERANCE))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"expected probabilities that sum to 1, got {found[at].tolist()}", row=ids[at]
        )
    found.setflags(write=False)
    return found


def _check_covered(covered: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    found = np.array(covered)
    if found.size == 0:
        found = np.zeros(0, np.bool_)
    if found.shape != (n,) or found.dtype != np.bool_:
        raise DataError(f"covered: expected {n} booleans, got {found.dtype} of shape {found.shape}")
    found.setflags(write=False)
    return found


def _check_unique(ids: Sequence[Any]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[Any] = set()
    for key in ids:
        if key in seen:
            raise DataError("the id occurs twice", row=key)
        seen.add(key)
