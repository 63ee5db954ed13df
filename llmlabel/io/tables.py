"""Tables in and out, by suffix: CSV, TSV, JSONL, Parquet, Arrow, `datasets` folders."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet

from llmlabel.errors import DataError, no_such_file
from llmlabel.io.files import atomic_write

__all__ = ["check_suffix", "json_lines", "plain_value", "read_table", "restore_text", "write_table"]

_COMPRESSED: Final = frozenset({".gz", ".zst", ".bz2", ".lz4"})
_SHARDS: Final = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv", ".arrow", ".feather")
_MAX_BLOCK: Final = 2**31 - 1  # pyarrow's block size is an int32


def read_table(
    path: str | Path, *, text_columns: Iterable[str] = (), allow_empty: bool = False
) -> pa.Table:
    """Read a table whose format its suffix tells.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` (each may be ``.gz``, ``.zst``,
        ``.bz2``), ``.parquet``, ``.arrow``, ``.feather``; a folder written by
        ``datasets.Dataset.save_to_disk``; or a folder of files of one such kind.
    text_columns
        Columns to be read as they are written: an id ``007`` stays ``"007"`` and a
        text that looks like a date stays text.
    allow_empty
        Whether a table without rows is all right.

    Raises
    ------
    DataError
        No such file (with the nearest name), an unknown suffix, no rows, a line
        that does not parse or is not UTF-8 (with its number).
    """
    path = Path(path)
    as_text = tuple(text_columns)
    if not path.exists():
        raise DataError(no_such_file(path), file=path)
    table = _read_folder(path, as_text) if path.is_dir() else _read_file(path, as_text)
    table = restore_text(table, as_text)
    if not allow_empty and table.num_rows == 0:
        raise DataError("is empty; expected at least one row", file=path)
    return table


def write_table(table: pa.Table, path: str | Path) -> None:
    """Write a table atomically in the format of its suffix.

    Raises
    ------
    DataError
        An unknown suffix, or nested columns in a CSV.
    """
    path = Path(path)
    suffix = check_suffix(path)
    with atomic_write(path) as part:
        try:
            _writers()[suffix](table, part)
        except pa.ArrowInvalid as error:
            raise DataError(f"cannot write {suffix}: {error}", file=path) from error


def check_suffix(path: Path) -> str:
    """Return a file's suffix, or raise where nothing can be written under it."""
    suffix = path.suffix.lower()
    known = _writers()
    if suffix not in known:
        raise DataError(
            f"cannot write {suffix or 'a file without a suffix'}; expected one of "
            + ", ".join(known),
            file=path,
        )
    return suffix


def _writers() -> dict[str, Callable[[pa.Table, Path], None]]:
    return {
        ".parquet": lambda t, p: pa.parquet.write_table(t, p, compression="zstd"),
        ".csv": lambda t, p: pa.csv.write_csv(t, p),
        ".tsv": lambda t, p: pa.csv.write_csv(t, p, pa.csv.WriteOptions(delimiter="\t")),
        ".jsonl": _write_jsonl,
        ".ndjson": _write_jsonl,
        ".arrow": lambda t, p: pa.feather.write_feather(t, str(p)),
        ".feather": lambda t, p: pa.feather.write_feather(t, str(p)),
    }


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json_lines(table))


def json_lines(table: pa.Table) -> Iterator[str]:
    """Yield each row as a line of JSON."""
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield json.dumps(row, ensure_ascii=False, default=plain_value) + "\n"


def plain_value(value: Any) -> Any:
    """Return what stands in JSON for a value that JSON does not know."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_file(path: Path, as_text: tuple[str, ...]) -> pa.Table:
    suffix = _suffix(path)
    if path.stat().st_size == 0:
        raise DataError("is empty; expected at least one row", file=path)
    if suffix in {".csv", ".tsv"}:
        return _read_csv(path, "\t" if suffix == ".tsv" else ",", as_text)
    if suffix in {".jsonl", ".ndjson"}:
        return _read_jsonl(path)
    try:
        if suffix == ".parquet":
            return pa.parquet.read_table(path)
        if suffix in {".arrow", ".feather"}:
            return pa.feather.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"cannot be read as {suffix}: {error}", file=path) from error
    hint = (
        "a JSON array is not JSON Lines: write one object per line" if suffix == ".json" else None
    )
    raise DataError(
        f"unknown table format {suffix or '(no suffix)'}; expected one of {', '.join(_SHARDS)}, "
        "or a datasets folder",
        file=path,
        hint=hint,
    )


def _read_folder(path: Path, as_text: tuple[str, ...]) -> pa.Table:
    if (path / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in path.iterdir() if (p / "state.json").is_file())
        raise DataError(
            f"is a DatasetDict with the splits {', '.join(splits)}; name one, as in "
            f"{path / (splits[0] if splits else 'train')}",
            file=path,
        )
    if (path / "state.json").is_file():
        import datasets

        return _with_class_names(datasets.load_from_disk(str(path)))
    shards = sorted(p for p in path.iterdir() if p.is_file() and _suffix(p) in _SHARDS)
    if not shards:
        raise DataError(f"the folder holds no table files ({', '.join(_SHARDS)})", file=path)
    tables = [restore_text(_read_file(p, as_text), as_text) for p in shards]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"the files' columns do not fit together: {error}", file=path) from error


def _with_class_names(dataset: Any) -> pa.Table:
    """Read a datasets.Dataset; a ClassLabel column as the names it stands for."""
    table = dataset.with_format("arrow")[:]
    for name, feature in dataset.features.items():
        if hasattr(feature, "int2str"):
            names = pa.array(feature.names, pa.string())
            at = table.column_names.index(name)
            # -1 is how datasets writes a missing label
            index = pc.if_else(pc.less(table[name], 0), None, table[name])
            table = table.set_column(at, name, names.take(index.combine_chunks()))
    return table


def _read_csv(path: Path, delimiter: str, as_text: tuple[str, ...]) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(as_text, pa.string()), strings_can_be_null=False
    )
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def read(*, threads: bool) -> pa.Table:
        options = pa.csv.ReadOptions(use_threads=threads)
        with pa.input_stream(str(path), compression="detect") as stream:
            return pa.csv.read_csv(stream, options, parse, convert)

    try:
        table = read(threads=True)
    except (pa.ArrowInvalid, OSError):
        try:  # again on one thread: only then does the message name the row
            table = read(threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise _explain(path, error, "CSV") from error
    if any(pa.types.is_binary(f.type) for f in table.schema):  # what is not UTF-8 comes as bytes
        raise _explain(path, ValueError("not UTF-8"), "CSV")
    return table


def _read_jsonl(path: Path) -> pa.Table:
    def read(schema: pa.Schema | None) -> pa.Table:
        with pa.input_stream(str(path), compression="detect") as stream:
            data = stream.read_buffer() if path.suffix.lower() in _COMPRESSED else None
        source = pa.BufferReader(data) if data is not None else str(path)
        size = len(data) if data is not None else path.stat().st_size
        # One block, so that a long line never straddles two and types agree.
        options = pa.json.ReadOptions(block_size=min(max(size, 1 << 20), _MAX_BLOCK))
        parse = pa.json.ParseOptions(explicit_schema=schema, newlines_in_values=False)
        return pa.json.read_json(source, read_options=options, parse_options=parse)

    try:
        table = read(None)
        dates = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
        if dates:  # pyarrow guesses dates; JSON has none, so they were strings
            table = read(pa.schema([(name, pa.string()) for name in dates]))
        table.validate(full=True)  # the JSON reader does not look at the encoding
    except (pa.ArrowInvalid, OSError) as error:
        raise _explain(path, error, "JSON") from error
    return table


def _explain(path: Path, error: Exception, what: str) -> DataError:
    """Find the line that a reader stumbled over and say what is wrong with it."""
    with pa.input_stream(str(path), compression="detect") as stream:
        try:
            raw = stream.read()
        except OSError as broken:
            return DataError(f"cannot be decompressed: {broken}", file=path)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        hint = "convert it: iconv -f utf-16 -t utf-8 FILE"
        return DataError("is UTF-16; expected UTF-8", file=path, line=1, hint=hint)
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as bad:
            return DataError(
                f"not UTF-8 (byte 0x{line[bad.start]:02x} at position {bad.start})",
                file=path,
                line=number,
                hint="convert it: iconv -f latin1 -t utf-8 FILE",
            )
        if what == "JSON" and text.strip():
            try:
                value = json.loads(text)
            except json.JSONDecodeError as bad_json:
                return DataError(
                    f"not JSON: {bad_json.msg} at column {bad_json.colno}", file=path, line=number
                )
            if not isinstance(value, dict):
                return DataError(
                    f"expected a JSON object, got {type(value).__name__}", file=path, line=number
                )
    row = re.search(r"[Rr]ow #?(\d+)", str(error))
    line_number = int(row[1]) + (what == "JSON") if row else None
    message = str(error).split("\n")[0].removeprefix(f"{what} parse error: ")
    return DataError(f"cannot be read as {what}: {message}", file=path, line=line_number)


def restore_text(table: pa.Table, as_text: tuple[str, ...]) -> pa.Table:
    """Cast what should be text and was read as a number back to text; decode dictionaries."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # what pandas calls categorical
            table = table.set_column(at, field.name, table[at].cast(field.type.value_type))
    for name in as_text:
        if name not in table.column_names:
            continue
        kind: Any = table.schema.field(name).type
        if pa.types.is_integer(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
            at = table.column_names.index(name)
            table = table.set_column(at, name, table[name].cast(pa.string()))
    return table
