"""Read one shard in batches; what is damaged is set aside with its place, the rest is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llmlabel.errors import DataError, did_you_mean, no_such_file
from llmlabel.io.bytestreams import Damage, chunks, lines
from llmlabel.io.documents import Batch, Collector, ReadOptions, utf8_reason
from llmlabel.io.parquet_documents import read_parquet
from llmlabel.io.shards import Shard, ShardFormat
from llmlabel.io.streams import json_object
from llmlabel.io.warc import read_warc

__all__ = ["read_shard"]

_LOOK: Final = 1_000  # lines without the text's column after which a file is set aside whole
_DEFAULTS: Final = ReadOptions()


def read_shard(shard: Shard, options: ReadOptions = _DEFAULTS) -> Iterator[Batch]:
    r"""Yield a shard's documents in bounded batches, and what was set aside.

    Nothing that a file holds stops the reading. Set aside are: a broken gzip member or
    zstd frame (the next one is read on), a line, record or document that is too long, is
    not UTF-8, no JSON object or has no text; an empty file, and a file without the text's
    column, whole.

    Parameters
    ----------
    shard
        As `list_shards` lists it.
    options
        Which columns hold text and id, what becomes of HTML, and the limits.

    Raises
    ------
    DataError
        The file is gone.
    MissingExtraError
        The format needs a package that is not installed (``llmlabel[corpus]``).

    Examples
    --------
    >>> import tempfile
    >>> from llmlabel.io import list_shards
    >>> file = Path(tempfile.mkdtemp()) / "a.jsonl"
    >>> _ = file.write_text('{"text": "one", "lang": "en"}\n[]\n{"text": "two"}')
    >>> batch = next(read_shard(list_shards(file).shards[0]))
    >>> batch.documents.column_names, batch.documents["id"].to_pylist()
    (['id', 'text', 'lang'], ['a.jsonl:1', 'a.jsonl:3'])
    >>> batch.set_aside["reason"].to_pylist()
    ['expected a JSON object, got list']
    """
    path = Path(shard.path)
    if not path.exists():
        raise DataError(no_such_file(path), file=path)
    if shard.format != "text" and path.stat().st_size == 0:
        nothing = Collector(shard.file, options)
        nothing.damage("empty", "the file has no bytes")
        yield nothing.take()
        return
    yield from _READERS[shard.format](shard, options)


def _read_jsonl(shard: Shard, options: ReadOptions) -> Iterator[Batch]:
    collector = Collector(shard.file, options, html=options.html == "text")
    objects = _Objects(collector)
    parts = chunks(shard.path, shard.start, shard.stop)
    for line in lines(parts, options.max_document_bytes, shard.first_line):
        if isinstance(line, Damage):
            objects.blank = False
            collector.note(line)
            continue
        if not line[1].strip():
            continue
        if not objects.take(*line):
            break
        if collector.full:
            yield collector.take()
    objects.finish()
    yield from collector.rest()


@dataclass
class _Objects:
    """Takes lines of JSON; a file is set aside whole whose lines lack the text's column."""

    collector: Collector
    blank: bool = True
    found: bool = False  # whether a line had the column
    without: list[Damage] = field(default_factory=list)  # those before it

    def take(self, number: int, line: bytes) -> bool:
        """Take a line; False when it is clear that the others lack the column as well."""
        self.blank = False
        row = _object(line, number, self.collector)
        name = self.collector.options.text
        if row is not None and name in row:
            self.found = True
            self._settle()
            _add(row, number, self.collector)
        elif row is not None:
            self.without.append(Damage("missing column", _no_column(name, list(row)), number))
            if self.found:
                self._settle()
        return len(self.without) < _LOOK

    def finish(self) -> None:
        """Say what there is to say of the whole file."""
        if self.blank:
            self.collector.damage("empty", "there are no lines")
        if self.without:
            first = self.without[0]
            reason = f"the file is set aside: {first.reason}"
            self.collector.damage(first.what, reason, first.line)

    def _settle(self) -> None:
        for damage in self.without:
            self.collector.note(damage)
        self.without.clear()


def _object(data: bytes, number: int, collector: Collector) -> dict[str, Any] | None:
    try:
        row = json_object(data)
        # Only what orjson refuses may hold half a surrogate pair, which is no text.
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        collector.damage("not UTF-8", "half of a surrogate pair", number)
    except ValueError as error:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as bad:
            collector.damage("not UTF-8", utf8_reason(bad), number)
        else:
            what = "not JSON" if str(error).startswith("not JSON") else "no object"
            collector.damage(what, str(error), number)
    else:
        return row
    return None


def _add(row: dict[str, Any], number: int, collector: Collector) -> None:
    options = collector.options
    text = row.pop(options.text)
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        return collector.damage("no text", f"expected text, got {kind}", number)
    id_ = row.get(options.id)
    for name in ("id", "text"):
        row.pop(name, None)
    return collector.add(text, id_, row, number)


def _no_column(name: str, columns: list[str]) -> str:
    return f"no column {name!r}{did_you_mean(name, columns)} (columns: {', '.join(columns[:12])})"


def _read_texts(shard: Shard, options: ReadOptions) -> Iterator[Batch]:
    for name in shard.texts:
        collector = Collector(name, options, html=options.html == "text")
        file = Path(shard.path) / name
        size = file.stat().st_size
        if size > options.max_document_bytes:
            most = options.max_document_bytes
            collector.damage("too long", f"{size:,} bytes; at most {most:,} are read")
        elif not size:
            collector.damage("empty", "the file has no bytes")
        else:
            collector.add(file.read_bytes(), name, {}, None)
        yield from collector.rest()


_READERS: Final[Mapping[ShardFormat, Callable[[Shard, ReadOptions], Iterator[Batch]]]] = {
    "parquet": read_parquet,
    "jsonl": _read_jsonl,
    "warc": read_warc,
    "text": _read_texts,
}
