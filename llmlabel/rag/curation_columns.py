"""The columns that the LFs of curation read, each made once for the whole collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from llmlabel.errors import DataError, did_you_mean
from llmlabel.lf.apply import as_column
from llmlabel.lf.texts import Texts
from llmlabel.rag.facts import said_changes
from llmlabel.rag.flaw_words import COPY
from llmlabel.rag.flaws_pairs import BESIDE, Versions, beside, expired, retired_terms
from llmlabel.rag.flaws_personal import PERSONAL, personal_counts
from llmlabel.rag.related import Related
from llmlabel.rag.surface import SURFACE, surface

__all__ = ["Collection", "collection_of", "pair_columns", "text_columns"]

Bools = npt.NDArray[np.bool_]
_HEAD: Final = 200  # characters in which a copy says that it is one


@dataclass(frozen=True, eq=False)
class Collection:
    """n documents.

    Parameters
    ----------
    ids, texts
        Of all.
    titles
        None where there is no such column.
    dates : datetime64[D] array, shape (n,)
        NaT where there is none.
    supersedes
        By row the id of the document that it has taken the place of.
    columns
        All columns, with ``text``, ``title`` and ``date`` under these names.
    """

    ids: list[str]
    texts: list[str]
    titles: list[str] | None
    dates: npt.NDArray[np.datetime64]
    supersedes: Mapping[int, str]
    columns: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.ids)


def collection_of(
    table: pa.Table | Mapping[str, Sequence[Any]],
    id_column: str,
    text_column: str,
    title_column: str | None,
    date_column: str | None,
    supersedes_column: str | None,
) -> Collection:
    """Read documents from a table and check them.

    Raises
    ------
    DataError
        A missing column, a repeated or missing id, columns of other lengths.
    """
    if not isinstance(table, pa.Table):
        table = pa.table({name: pa.array(column) for name, column in table.items()})
    needed = [id_column, text_column, *([supersedes_column] if supersedes_column else [])]
    for name in needed:
        if name not in table.column_names:
            guess = did_you_mean(name, table.column_names)
            raise DataError(f"no column {name!r}{guess}", field=name)
    ids = _ids(table, id_column)
    texts = [text or "" for text in table[text_column].cast(pa.string()).to_pylist()]
    columns: dict[str, Any] = {name: as_column(table[name]) for name in table.column_names}
    columns["text"] = Texts(texts)
    titles = None
    if title_column in table.column_names:
        raw = table[title_column].cast(pa.string())
        columns["title"], titles = Texts(raw), [title or "" for title in raw.to_pylist()]
    dates = np.full(len(ids), np.datetime64("NaT", "D"), "datetime64[D]")
    if date_column in table.column_names:
        dates = _dates(table[date_column])
        columns["date"] = Texts([None if np.isnat(day) else str(day) for day in dates])
    supersedes = {}
    if supersedes_column:
        named = table[supersedes_column].cast(pa.string()).to_pylist()
        supersedes = {row: other for row, other in enumerate(named) if other}
    return Collection(ids, texts, titles, dates, supersedes, columns)


def text_columns(docs: Collection) -> dict[str, Any]:
    """Return the columns with what each document shows by itself."""
    return {
        **docs.columns,
        SURFACE: surface(docs.texts),
        PERSONAL: personal_counts(docs.texts),
    }


def pair_columns(
    docs: Collection,
    looks: npt.NDArray[np.void],
    pairs: Related,
    usable: Bools,
    versions: Versions,
) -> dict[str, Any]:
    """Return the columns with what each document shows beside the others."""
    order = _best_first(docs, looks, usable)
    stands = beside(pairs, order, docs.dates, usable, versions)
    ids = np.array([*docs.ids, ""], object)
    newer = stands["newer"]
    told = (newer >= 0) & (stands["topic"] >= versions.topic) & (stands["denied"] > 0)
    changes = np.full(len(docs), "", object)
    for row in np.flatnonzero(told).tolist():
        changes[row] = said_changes(docs.texts[row], docs.texts[newer[row]])
    by = dict.fromkeys(docs.ids, "")
    by.update({other: docs.ids[row] for row, other in docs.supersedes.items() if other in by})
    return {
        BESIDE: stands,
        "rag.keeper_id": ids[stands["keeper"]],
        "rag.newer_id": ids[newer],
        "rag.changes": changes,
        "rag.superseded_by": [by[name] for name in docs.ids],
        "rag.expired": expired(docs.texts, docs.dates),
        "rag.retired": retired_terms(docs.texts, docs.dates),
    }


def _ids(table: pa.Table, column: str) -> list[str]:
    ids: list[str] = table[column].cast(pa.string()).to_pylist()
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name is None:
            raise DataError(f"row number {row} has no id", field=column)
        if name in seen:
            raise DataError(f"the id {name!r} stands in rows {seen[name]} and {row}", field=column)
        seen[name] = row
    return ids


def _dates(column: pa.ChunkedArray) -> npt.NDArray[np.datetime64]:
    """Return days; NaT where there is none, or where the text is no date."""
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    if series.dtype == pl.String:
        series = series.str.strip_chars().str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    elif series.dtype == pl.Null:
        series = series.cast(pl.Date)
    elif not series.dtype.is_temporal():
        raise DataError(f"expected dates or ISO 8601 text, got {series.dtype}")
    return series.cast(pl.Date).to_numpy().astype("datetime64[D]")


def _best_first(
    docs: Collection, looks: npt.NDArray[np.void], usable: Bools
) -> npt.NDArray[np.int64]:
    """Return all rows, the one that stays of near duplicates first.

    The date of a copy says when it was copied, so that it comes after what it is a copy of.
    """
    heads = [text[:_HEAD] for text in docs.texts]
    copy = pl.Series(heads, dtype=pl.String).str.contains(COPY).to_numpy()
    if docs.titles is not None:
        copy |= pl.Series(docs.titles, dtype=pl.String).str.contains(COPY).to_numpy()
    size = np.floor(np.log(np.maximum(looks["words"], 1)) / np.log(1.15))
    day = np.where(np.isnat(docs.dates), np.iinfo(np.int64).min, docs.dates.astype(np.int64))
    _, name = np.unique(np.array(docs.ids, object).astype(str), return_inverse=True)
    return np.lexsort(
        (name, -size, looks["template"], -day.astype(np.float64), copy, ~usable)
    ).astype(np.int64)
