"""Slicing functions: named subsets of the rows on which every metric is reported too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, LabelingFunctionError
from llmlabel.lf.apply import as_batch
from llmlabel.lf.core import LF, batch_length
from llmlabel.schema import ABSTAIN

__all__ = ["Slice", "apply_slices", "slice_of", "slicing_function"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    """A named subset.

    Parameters
    ----------
    name
        Its name.
    contains
        From a batch of columns to whether each row is in it.
    """

    name: str
    contains: Callable[[Mapping[str, Any]], npt.ArrayLike]


def slicing_function(
    name: str | None = None,
) -> Callable[[Callable[[Mapping[str, Any]], bool]], Slice]:
    """Make a `Slice` from a function of one row.

    Examples
    --------
    >>> @slicing_function()
    ... def short(row):
    ...     return len(row["text"]) < 5
    >>> apply_slices([short], {"text": ["hi", "a longer text"]})["short"].tolist()
    [True, False]
    """

    def make(function: Callable[[Mapping[str, Any]], bool]) -> Slice:
        def contains(batch: Mapping[str, Any]) -> list[bool]:
            keys = list(batch)
            rows = zip(*(batch[key] for key in keys), strict=True)
            return [bool(function(dict(zip(keys, values, strict=True)))) for values in rows]

        return Slice(name or str(getattr(function, "__name__", "slice")), contains)

    return make


def slice_of(lf: LF, name: str | None = None) -> Slice:
    """Return the slice of the rows on which a labeling function votes.

    Examples
    --------
    >>> from llmlabel.lf import keyword
    >>> asks = slice_of(keyword("asks", ["please"], "ANY"))
    >>> apply_slices([asks], {"text": ["please help", "thanks"]})["asks"].tolist()
    [True, False]
    """
    return Slice(name or lf.name, lambda batch: lf(batch)[0] != ABSTAIN)


def apply_slices(slices: Sequence[Slice], data: Any) -> dict[str, Mask]:
    """Return which rows are in each slice.

    Raises
    ------
    ConfigError
        Two slices of one name.
    LabelingFunctionError
        One of them crashed, or gave something else than a truth value per row.
    """
    batch = as_batch(data)
    n = batch_length(batch)
    out: dict[str, Mask] = {}
    for each in slices:
        if each.name in out:
            raise ConfigError(f"two slices have the name {each.name!r}")
        try:
            found = np.asarray(each.contains(batch))
        except Exception as error:
            raise LabelingFunctionError(
                f"slice {each.name!r} crashed: {type(error).__name__}: {error}"
            ) from error
        if found.shape != (n,):
            raise LabelingFunctionError(
                f"slice {each.name!r}: expected {n} truth values, got shape {found.shape}"
            )
        out[each.name] = found.astype(np.bool_)
    return out
