"""Checks that a table can be labeled: its columns, its ids, its texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import DataError, did_you_mean

__all__ = ["add_columns", "check_rows"]


def check_rows(
    table: pa.Table,
    *,
    text: Sequence[str],
    id_column: str | None,
    file: str | Path | None = None,
    prefix: str = "row",
    first: int = 0,
) -> pa.Table:
    """Return the table with a checked string column ``id``, or say which row is wrong.

    Parameters
    ----------
    table
        Rows as read.
    text
        Columns that hold the text; each row needs some text in at least one.
    id_column
        The column of ids; without one, rows are numbered ``row-0``, ``row-1``, ...
    file
        Where the rows came from, for messages.
    prefix
        What stands before those numbers.
    first
        The number of the first row, where the table is a part of others.

    Raises
    ------
    DataError
        A missing column (with the nearest name), a text column that holds no
        text, a row without text, an empty or repeated id.
    """
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise DataError("two columns have this name", file=file, field=name)
    for name in (*text, *([id_column] if id_column else [])):
        if name not in table.column_names:
            guess = did_you_mean(name, table.column_names)
            raise DataError(
                f"is missing{guess} (columns: {', '.join(table.column_names)})",
                file=file,
                field=name,
            )
    ids = _ids(table, id_column, file, prefix, first)
    _check_text(table, text, ids, file)
    if "id" in table.column_names:
        table = table.drop_columns(["id"])
    return table.add_column(0, "id", ids)


def add_columns(table: pa.Table, added: Mapping[str, pa.Array]) -> pa.Table:
    """Append columns; what the table itself has under such a name is called ``given.NAME``.

    Examples
    --------
    >>> add_columns(pa.table({"score": [3]}), {"score": pa.array([0.5])}).to_pylist()
    [{'given.score': 3, 'score': 0.5}]
    """
    for name, column in added.items():
        if name in table.column_names:
            given = f"given.{name}"
            while given in table.column_names:
                given = f"given.{given}"
            table = table.rename_columns({name: given})
        table = table.append_column(name, column)
    return table


def _ids(
    table: pa.Table, id_column: str | None, file: str | Path | None, prefix: str, first: int
) -> pa.Array:
    if id_column is None:
        return pa.array([f"{prefix}-{first + i}" for i in range(table.num_rows)], pa.string())
    ids = table[id_column].combine_chunks().cast(pa.string())
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(ids), ""), True)
    if pc.any(empty).as_py():
        row = int(np.argmax(empty.to_numpy(zero_copy_only=False)))
        raise DataError(f"the id of row number {row + 1} is empty", file=file, field=id_column)
    counts = pc.value_counts(ids)
    repeated = pc.greater(counts.field("counts"), 1)
    if pc.any(repeated).as_py():
        twice = counts.filter(repeated)
        at = pc.indices_nonzero(pc.equal(ids, twice[0]["values"])).to_pylist()
        raise DataError(
            f"{len(twice)} ids are used more than once; the first stands in rows number "
            f"{at[0] + 1} and {at[1] + 1}; ids must differ",
            file=file,
            row=twice[0]["values"].as_py(),
            field=id_column,
        )
    return ids


def _check_text(
    table: pa.Table, text: Sequence[str], ids: pa.Array, file: str | Path | None
) -> None:
    blank = None
    for name in text:
        kind = table.schema.field(name).type
        if not (
            pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
        ):
            raise DataError(f"expected text, got {kind}", file=file, field=name)
        column = table[name].cast(pa.string())
        missing = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
        blank = missing if blank is None else pc.and_(blank, missing)
    if blank is not None and pc.any(blank).as_py():
        mask = blank.to_numpy()
        row = int(np.argmax(mask))
        others = int(mask.sum()) - 1
        raise DataError(
            "the text is empty" + (f" (as in {others} other rows)" if others else ""),
            file=file,
            row=ids[row].as_py(),
            field=" + ".join(text),
        )
