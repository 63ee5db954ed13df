"""A column of texts that many labeling functions read, converted once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Texts", "texts_of"]

Rows = npt.NDArray[np.intp]


class Texts(Sequence["str | None"]):
    """Texts as a list and as an Arrow array, whichever is asked for, made once.

    Parameters
    ----------
    values
        A list of texts and None, or an Arrow string array.

    Examples
    --------
    >>> texts = Texts(["plain", "café", None])
    >>> texts[1], texts[:1].values, texts.odd.tolist()
    ('café', ['plain'], [1])
    """

    def __init__(self, values: Sequence[str | None] | pa.Array) -> None:
        if isinstance(values, pa.Array | pa.ChunkedArray):
            self.__dict__["arrow"] = _plain(values)
        else:
            self.__dict__["values"] = values if isinstance(values, list) else list(values)

    @cached_property
    def values(self) -> list[str | None]:
        """As Python strings."""
        found: list[str | None] = self.arrow.to_pylist()
        return found

    @cached_property
    def arrow(self) -> pa.StringArray:
        """As Arrow strings."""
        return pa.array(self.values, pa.string())

    @cached_property
    def series(self) -> pl.Series:
        """As polars sees them, without a copy of the letters."""
        found = pl.from_arrow(self.arrow)
        assert isinstance(found, pl.Series)
        return found

    @cached_property
    def odd(self) -> Rows:
        """The rows with a character outside ASCII, or one that is a space to `re` alone."""
        plain = pc.fill_null(pc.string_is_ascii(self.arrow), True)
        spaces = self.series.str.contains("[\\x0b\\x1c-\\x1f]").fill_null(value=False)
        return np.flatnonzero(~plain.to_numpy(zero_copy_only=False) | spaces.to_numpy())

    @cached_property
    def odd_texts(self) -> pa.StringArray:
        """The texts of those rows."""
        return self.arrow.take(pa.array(self.odd))

    @cached_property
    def odd_letters(self) -> npt.NDArray[np.bool_]:
        """Which of them have a letter that `re` takes for i, s or k, and RE2 not always."""
        found = pc.match_substring_regex(self.odd_texts, "[\u0130\u0131\u017f\u212a]")
        return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)

    def take(self, rows: Rows) -> list[str | None]:
        """Return some rows as Python strings."""
        if "values" in self.__dict__:
            return [self.values[i] for i in rows]
        found: list[str | None] = self.arrow.take(pa.array(rows)).to_pylist()
        return found

    def __len__(self) -> int:
        return len(self.__dict__.get("values", self.__dict__.get("arrow", ())))

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.values)

    @overload
    def __getitem__(self, at: int) -> str | None: ...
    @overload
    def __getitem__(self, at: slice) -> Texts: ...
    def __getitem__(self, at: int | slice) -> str | Texts | None:
        if not isinstance(at, slice):
            return self.values[at]
        part: Any = self.__dict__["values" if "arrow" not in self.__dict__ else "arrow"][at]
        return Texts(part)


def texts_of(column: Any) -> Texts:
    """Return a column as texts; one that is already is returned as it is."""
    return column if isinstance(column, Texts) else Texts(column)


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # no chunk at all
            values = pa.array([], values.type)
    return values if values.type == pa.string() else values.cast(pa.string())
