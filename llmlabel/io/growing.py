"""A Parquet file that takes tables one after the other, whatever columns they have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet

from llmlabel.io.files import atomic_write
from llmlabel.io.tables import plain_value

__all__ = ["GrowingParquet", "as_text", "growing_parquet", "join_tables", "unite_schemas"]

_ROWS: Final = 8_192


def unite_schemas(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """Return a schema that both fit: all columns, each of a kind that holds both kinds.

    Integers and floats become floats, no kind at all the other's; what nothing holds
    together (text and numbers, a list and a number) becomes text.

    Examples
    --------
    >>> one = pa.schema([("id", pa.string()), ("score", pa.int64())])
    >>> two = pa.schema([("score", pa.float64()), ("lang", pa.string())])
    >>> [f"{f.name}: {f.type}" for f in unite_schemas(one, two)]
    ['id: string', 'score: double', 'lang: string']
    """
    fields: list[pa.Field] = []
    for field in first:
        at = second.get_field_index(field.name)
        fields.append(field if at < 0 else _unite_fields(field, second.field(at)))
    fields += [field for field in second if first.get_field_index(field.name) < 0]
    return pa.schema([pa.field(f.name, f.type) for f in fields])


def _unite_fields(first: pa.Field, second: pa.Field) -> pa.Field:
    if first.type == second.type:
        return first
    pair = [pa.schema([pa.field(first.name, f.type)]) for f in (first, second)]
    try:
        return pa.unify_schemas(pair, promote_options="permissive").field(0)
    except pa.ArrowException:
        return pa.field(first.name, pa.string())


def join_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables one below the other, whatever columns they have: see `unite_schemas`.

    Examples
    --------
    >>> join_tables([pa.table({"year": [1]}), pa.table({"year": ["2?"]})])["year"].to_pylist()
    ['1', '2?']
    """
    schema = reduce(unite_schemas, (table.schema.remove_metadata() for table in tables))
    return pa.concat_tables([_fit(table, schema) for table in tables])


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the schema's columns; those it lacks are null."""
    columns = [_column(table, field) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    column = table[field.name]
    try:
        return column.cast(field.type)
    except pa.ArrowException:
        if not pa.types.is_string(field.type):
            raise
        return pa.array([as_text(v) for v in column.to_pylist()], pa.string())


def as_text(value: object) -> str | None:
    """Return a value as text: itself, or as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=plain_value)


@dataclass
class GrowingParquet:
    """Writes tables into one Parquet file and keeps only one of them in memory.

    A table with new columns or other kinds makes the file be written anew, batch by
    batch, with a schema that holds both; so the order of tables decides the bytes, and
    nothing else does.
    """

    path: Path
    rows: int = 0
    _writer: pa.parquet.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Write some rows."""
        if self._writer is None:
            self._open(table.schema.remove_metadata())
        elif not table.schema.equals(self._writer.schema):
            united = unite_schemas(self._writer.schema, table.schema)
            if not united.equals(self._writer.schema):
                self._widen(united)
        assert self._writer is not None
        if table.num_rows or not self.rows:
            self._writer.write_table(_fit(table, self._writer.schema))
        self.rows += table.num_rows

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, schema: pa.Schema) -> None:
        self._writer = pa.parquet.ParquetWriter(self.path, schema, compression="zstd")

    def _widen(self, schema: pa.Schema) -> None:
        self.close()
        old = self.path.with_name(self.path.name + ".old")
        self.path.replace(old)
        try:
            self._open(schema)
            assert self._writer is not None
            with pa.parquet.ParquetFile(old) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    self._writer.write_table(_fit(pa.Table.from_batches([batch]), schema))
        finally:
            old.unlink()


@contextmanager
def growing_parquet(path: str | Path) -> Iterator[GrowingParquet]:
    """Open a Parquet file that appears when all is written, or not at all.

    At least one table must be written, if only one without rows.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.parquet"
    >>> with growing_parquet(target) as file:
    ...     file.write(pa.table({"id": ["a"], "score": [1]}))
    ...     file.write(pa.table({"id": ["b"], "score": [0.5], "lang": ["en"]}))
    >>> pa.parquet.read_table(target).to_pylist()[0]
    {'id': 'a', 'score': 1.0, 'lang': None}
    """
    with atomic_write(path) as part:
        file = GrowingParquet(part)
        try:
            yield file
        finally:
            file.close()
