"""Rows in chunks: files larger than memory, and lines as they come on standard input."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TextIO

import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from llmlabel.errors import DataError, no_such_file
from llmlabel.io.files import atomic_write
from llmlabel.io.tables import check_suffix, json_lines, read_table, restore_text, write_table

__all__ = ["STDIN", "Chunk", "Sink", "count_rows", "json_object", "open_sink", "read_chunks"]

STDIN: Final = "-"
_ROWS: Final = 8_192
_LINES: Final = 256  # of standard input: somebody may be waiting for the answers
_LINES_OF_JSON: Final = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Chunk:
    """Some rows, and the number of the first of them, from 0."""

    table: pa.Table
    first: int


class Sink(Protocol):
    """Takes tables one after the other."""

    def write(self, table: pa.Table) -> None:
        """Write some rows."""


def count_rows(path: str | Path) -> int | None:
    """Return how many rows a Parquet file has; None where it takes reading to know."""
    path = Path(path)
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return None
    try:
        with pa.parquet.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (pa.ArrowException, OSError):
        return None  # whoever reads it says what is wrong


def read_chunks(path: str | Path, *, text_columns: Sequence[str] = ()) -> Iterator[Chunk]:
    """Yield a table's rows in order, a few thousand at a time.

    Parquet and plain JSONL files are never whole in memory; others are read at once.

    Parameters
    ----------
    path
        As for `read_table`; ``"-"`` reads JSONL from standard input.
    text_columns
        Columns that stay as they are written.

    Raises
    ------
    DataError
        As `read_table`; of a line that is no JSON object, its number.
    """
    as_text = tuple(text_columns)
    if str(path) == STDIN:
        yield from _json_lines(sys.stdin.buffer, "standard input", as_text, _LINES)
        return
    path = Path(path)
    if not path.exists():
        raise DataError(no_such_file(path), file=path)
    suffix = path.suffix.lower() if path.is_file() else ""
    if suffix in _LINES_OF_JSON:
        with path.open("rb") as handle:
            yield from _json_lines(handle, str(path), as_text, _ROWS)
    elif suffix == ".parquet":
        yield from _parquet(path, as_text)
    else:
        yield Chunk(read_table(path, text_columns=as_text), 0)


def _parquet(path: Path, as_text: tuple[str, ...]) -> Iterator[Chunk]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            if not file.metadata.num_rows:
                raise DataError("is empty; expected at least one row", file=path)
            first = 0
            for batch in file.iter_batches(batch_size=_ROWS):
                table = restore_text(pa.Table.from_batches([batch]), as_text)
                yield Chunk(table, first)
                first += table.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=path) from error


def _json_lines(
    handle: BinaryIO, name: str, as_text: tuple[str, ...], size: int
) -> Iterator[Chunk]:
    rows: list[dict[str, Any]] = []
    first = 0
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        rows.append(_row(line, name, number))
        if len(rows) == size:
            yield Chunk(_table(rows, name, as_text), first)
            first, rows = first + len(rows), []
    if rows:
        yield Chunk(_table(rows, name, as_text), first)
    elif not first:
        raise DataError("is empty; expected at least one row", file=name)


def _row(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        return json_object(line)
    except ValueError as error:
        raise DataError(str(error), file=name, line=number) from error


def json_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line; a ValueError says what it is instead."""
    text = line.removeprefix(codecs.BOM_UTF8).rstrip()
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            row = json.loads(text)  # takes NaN and integers of any size
        except ValueError:
            raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    return row


def _table(rows: list[dict[str, Any]], name: str, as_text: tuple[str, ...]) -> pa.Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    try:
        arrays = {c: pa.array([row.get(c) for row in rows]) for c in columns}
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(f"a column has values of several kinds: {error}", file=name) from error
    return restore_text(pa.table(arrays), as_text)


def open_sink(path: str | Path | None) -> AbstractContextManager[Sink]:
    """Open what takes rows: a file by its suffix, or, with None, JSONL on standard output.

    A file appears when all is written, or not at all.
    """
    if path is None:
        return _lines(sys.stdout)
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        return _parquet_sink(path)
    if path.suffix.lower() in _LINES_OF_JSON:
        return _lines_file(path)
    check_suffix(path)
    return _whole(path)


@dataclass
class _Lines:
    handle: TextIO

    def write(self, table: pa.Table) -> None:
        self.handle.writelines(json_lines(table))
        self.handle.flush()


@contextmanager
def _lines(handle: TextIO) -> Iterator[Sink]:
    yield _Lines(handle)


@contextmanager
def _lines_file(path: Path) -> Iterator[Sink]:
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as handle:
        yield _Lines(handle)


@dataclass
class _Parquet:
    part: Path
    target: Path
    writer: pa.parquet.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self.writer is None:
            self.writer = pa.parquet.ParquetWriter(
                self.part, _settled(table.schema), compression="zstd"
            )
        try:
            self.writer.write_table(table.cast(self.writer.schema))
        except (pa.ArrowException, ValueError) as error:
            raise DataError(
                f"rows differ in their columns or kinds: {error}; JSONL takes any", file=self.target
            ) from error

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _settled(schema: pa.Schema) -> pa.Schema:
    """A column without any value so far is taken for text, which it mostly is."""
    return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema])


@contextmanager
def _parquet_sink(path: Path) -> Iterator[Sink]:
    with atomic_write(path) as part:
        sink = _Parquet(part, path)
        try:
            yield sink
        finally:
            sink.close()


@dataclass
class _Tables:
    tables: list[pa.Table]

    def write(self, table: pa.Table) -> None:
        self.tables.append(table)


@contextmanager
def _whole(path: Path) -> Iterator[Sink]:
    sink = _Tables([])
    yield sink
    try:
        table = pa.concat_tables(sink.tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"rows differ in their columns or kinds: {error}; JSONL takes any", file=path
        ) from error
    write_table(table, path)
