"""Documents of Parquet files: row ranges, in batches of about as many bytes as asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from llmlabel.errors import did_you_mean
from llmlabel.io.bytestreams import Damage
from llmlabel.io.documents import Batch, Collector, ReadOptions, set_aside_table, utf8_reason
from llmlabel.io.shards import Shard

__all__ = ["read_parquet"]


def read_parquet(shard: Shard, options: ReadOptions) -> Iterator[Batch]:
    """Yield the documents of a range of rows; see `llmlabel.io.read_shard`."""
    trouble: Damage | None
    try:
        with pa.parquet.ParquetFile(shard.path) as file:
            trouble = _trouble(file, options)
            if trouble is None:
                yield from _groups(file, shard, options)
    except (pa.ArrowException, OSError) as error:
        trouble = Damage("unreadable", f"cannot be read as Parquet: {_first_line(error)}")
    if trouble is not None and shard.start == 0:  # once for a file, not for each shard of it
        yield _empty(shard.file, trouble)


def _trouble(file: pa.parquet.ParquetFile, options: ReadOptions) -> Damage | None:
    """Say why no row of a file can be read."""
    schema = file.schema_arrow
    if options.text not in schema.names:
        guess = did_you_mean(options.text, schema.names)
        columns = ", ".join(schema.names[:12])
        reason = f"the file is set aside: no column {options.text!r}{guess} (columns: {columns})"
        return Damage("missing column", reason)
    if len(set(schema.names)) < len(schema.names):
        return Damage("unreadable", "the file is set aside: two columns have one name")
    kind = schema.field(options.text).type
    if not _is_text(kind):
        return Damage(
            "no text", f"the file is set aside: expected text in {options.text!r}, got {kind}"
        )
    return None if file.metadata.num_rows else Damage("empty", "the file has no rows")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _groups(file: pa.parquet.ParquetFile, shard: Shard, options: ReadOptions) -> Iterator[Batch]:
    """Read row group by row group: one that is damaged costs its own rows."""
    row = 0
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        first, row = row, row + group.num_rows
        start = max(first, shard.start)
        stop = row if shard.stop is None else min(row, shard.stop)
        if start >= stop:
            continue
        share = max(1, group.total_byte_size // max(1, group.num_rows))
        rows = int(min(options.batch_rows, max(1, options.batch_bytes // share)))
        at = first
        try:
            for found in file.iter_batches(batch_size=rows, row_groups=[index]):
                begin, end = max(start, at), min(stop, at + found.num_rows)
                if begin < end:
                    table = pa.Table.from_batches([found]).slice(begin - at, end - begin)
                    yield _batch(table, begin, shard.file, options)
                at += found.num_rows
                if at >= stop:
                    break
        except (pa.ArrowException, OSError) as error:
            reason = f"rows {max(at, start) + 1:,} to {stop:,} cannot be read: {_first_line(error)}"
            yield _empty(shard.file, Damage("unreadable", reason, max(at, start) + 1))


def _batch(table: pa.Table, first: int, file: str, options: ReadOptions) -> Batch:
    """Take out the rows that are no documents and give the others ids."""
    lines = np.arange(first, first + table.num_rows) + 1
    table, lines, damages = _valid(table, lines)
    text = table[options.text]
    if pa.types.is_dictionary(text.type):
        text = text.cast(text.type.value_type)
    text = text.cast(pa.string())
    sizes = pc.fill_null(pc.binary_length(text), -1).to_numpy()
    most = options.max_document_bytes
    for at in np.flatnonzero((sizes < 0) | (sizes > most)):
        short = sizes[at] < 0
        reason = (
            "expected text, got null"
            if short
            else f"{sizes[at]:,} bytes; at most {most:,} are read"
        )
        damages.append(Damage("no text" if short else "too long", reason, int(lines[at])))
    good = (sizes >= 0) & (sizes <= most)
    keep = pa.array(good)
    table, text, lines = table.filter(keep), text.filter(keep), lines[good]
    ids = _ids(table, lines, file, options)
    others = table.drop_columns(
        [c for c in {options.text, "id", "text"} if c in table.column_names]
    )
    documents = pa.table(
        {"id": ids, "text": text, **dict(zip(others.column_names, others.columns, strict=True))}
    )
    if options.html == "text":
        return _from_html(documents, lines, file, options, damages)
    return Batch(documents, set_aside_table(file, sorted(damages, key=lambda d: d.line or 0)))


def _valid(
    table: pa.Table, lines: npt.NDArray[np.int64]
) -> tuple[pa.Table, npt.NDArray[np.int64], list[Damage]]:
    """Take out the rows with texts that are not UTF-8, which Parquet does not look at."""
    good = np.ones(table.num_rows, np.bool_)
    damages: list[Damage] = []
    for name in table.column_names:
        column = table[name]
        if not _is_text(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.dictionary(column.type.index_type, pa.binary()))
                column = column.cast(pa.binary())
            for at, data in enumerate(column.cast(pa.binary()).to_pylist()):
                try:
                    data = data if data is None else data.decode("utf-8")
                except UnicodeDecodeError as error:
                    if good[at]:
                        reason = f"column {name!r}: {utf8_reason(error)}"
                        damages.append(Damage("not UTF-8", reason, int(lines[at])))
                    good[at] = False
    if damages:
        table, lines = table.filter(pa.array(good)), lines[good]
    return table, lines, damages


def _ids(
    table: pa.Table, lines: npt.NDArray[np.int64], file: str, options: ReadOptions
) -> pa.Array:
    named = pa.array([f"{file}:{line}" for line in lines.tolist()], pa.string())
    if options.id not in table.column_names:
        return named
    ids = table[options.id]
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    try:
        ids = ids.cast(pa.string()).combine_chunks()
    except pa.ArrowException:
        ids = pa.array([str(v) for v in ids.to_pylist()], pa.string())
    return pc.if_else(pc.fill_null(pc.equal(ids, ""), True), named, ids)


def _from_html(
    documents: pa.Table,
    lines: npt.NDArray[np.int64],
    file: str,
    options: ReadOptions,
    damages: list[Damage],
) -> Batch:
    collector = Collector(file, options, html=True)
    for damage in damages:
        collector.note(damage)
    for row, line in zip(documents.to_pylist(), lines.tolist(), strict=True):
        collector.add(row.pop("text"), row.pop("id"), row, line)
    return collector.take()


def _empty(file: str, damage: Damage) -> Batch:
    documents = pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    return Batch(documents, set_aside_table(file, [damage]))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
