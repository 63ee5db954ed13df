"""Documents of web archives: WARC and WET files, record by record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from llmlabel.extras import need_packages
from llmlabel.io.bytestreams import ByteReader, chunks
from llmlabel.io.documents import Batch, Collector, ReadOptions
from llmlabel.io.shards import Shard

__all__ = ["read_warc"]

_LINE: Final = 32 << 10
_HEADERS: Final = 256 << 10
_DOCUMENTS: Final = frozenset({"response", "resource", "conversion"})
_OTHERS: Final = frozenset({"warcinfo", "request", "metadata", "revisit", "continuation"})
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_VERSION: Final = re.compile(rb"WARC/1\.\d\r?\n")
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*(\d+)[ \t]*\r?\n", re.IGNORECASE)
_TYPE: Final = re.compile(rb"\nwarc-type:[ \t]*([a-z]+)[ \t]*\r?\n", re.IGNORECASE)


def read_warc(shard: Shard, options: ReadOptions) -> Iterator[Batch]:
    """Yield the documents of a web archive; see `llmlabel.io.read_shard`.

    Responses, resources and conversions (of WET files) of HTML or plain text are documents
    with the columns ``url``, ``date`` and ``content_type``; other kinds of records are
    none. HTML becomes text unless ``options.html`` is ``keep``.

    Notes
    -----
    ISO 28500, the WARC file format. Records are framed here, so that a damaged one costs
    itself alone; their HTTP is read by FastWARC.
    """
    need_packages("reading web archives", "fastwarc", extra="corpus")
    collector = Collector(shard.file, options)
    reader = ByteReader(chunks(shard.path))
    number, seen = 0, False
    while True:
        headers, lost = _headers(reader)
        seen = seen or bool(headers or lost)
        if lost:
            collector.damage("broken record", f"{lost:,} bytes that are no record", number + 1)
        if (damage := reader.resume()) is not None:
            collector.note(damage)
            seen = True
            continue
        if not headers:
            break
        number += 1
        _record(reader, headers, number, collector)
        if collector.full:
            yield collector.take()
    if not seen:
        collector.damage("empty", "the file has no records")
    yield from collector.rest()


def _headers(reader: ByteReader) -> tuple[bytes, int]:
    """Return the next record's headers with their end, and how many bytes were passed over."""
    lost = 0
    while line := reader.line(_LINE):
        if line.startswith(b"WARC/"):
            break
        lost += len(line) if line.strip() else 0
    headers = bytearray(line)
    while line and line.strip() and len(headers) < _HEADERS:
        line = reader.line(_LINE)
        headers += line
    *_, last = [0, *(found.start() for found in _VERSION.finditer(headers))]
    if last:  # one record broke off in its headers, and the next began
        lost += last
        del headers[:last]
    return bytes(headers), lost


def _record(reader: ByteReader, headers: bytes, number: int, collector: Collector) -> None:
    length = _LENGTH.search(headers)
    kind = _TYPE.search(headers)
    if length is None or kind is None:
        missing = "Content-Length" if length is None else "WARC-Type"
        return collector.damage("broken record", f"no {missing} in its headers", number)
    name = kind[1].decode().lower()
    if name not in _DOCUMENTS | _OTHERS:
        collector.damage("broken record", f"unknown WARC-Type {name!r}", number)
    size, most = int(length[1]), collector.options.max_document_bytes
    if name not in _DOCUMENTS:
        reader.skip(size)
        return None
    if size > most:
        reader.skip(size)
        return collector.damage("too long", f"{size:,} bytes; at most {most:,} are read", number)
    body = reader.read(size)
    if reader.damage is not None:
        return None  # which is noted as the reading goes on behind it
    if len(body) < size:
        reason = f"ends after {len(body):,} of {size:,} bytes"
        return collector.damage("broken record", reason, number)
    return _document(headers + body, number, collector)


def _document(record: bytes, number: int, collector: Collector) -> None:
    from fastwarc.warc import WarcRecord, response

    try:
        parsed = WarcRecord.from_bytes(record)
        status = 200
        if parsed.record_type == response and parsed.is_http:
            parsed.parse_http(auto_decode="all")
            status = parsed.http_headers.status_code or 0
        content = parsed.reader.read(collector.options.max_document_bytes + 1)
    except (OSError, ValueError) as error:
        return collector.damage("broken record", str(error).split("\n")[0], number)
    if not 200 <= status < 300:
        return collector.damage("no text", f"HTTP status {status or 'unreadable'}", number)
    kind = _content_type(parsed)
    if kind not in _HTML and not kind.startswith("text/"):
        return collector.damage("no text", f"content type {kind or 'unknown'}", number)
    others = {
        "url": parsed.headers.get("WARC-Target-URI"),
        "date": parsed.headers.get("WARC-Date"),
        "content_type": kind,
    }
    collector.html = kind in _HTML and collector.options.html != "keep"
    text = content if collector.html else _decoded(content, parsed.http_charset)
    return collector.add(text, parsed.record_id, others, number)


def _content_type(parsed: Any) -> str:
    kind = parsed.http_content_type or parsed.headers.get("Content-Type") or ""
    return str(kind).split(";")[0].strip().lower()


def _decoded(content: bytes, charset: str | None) -> str | bytes:
    """Return the text where the server names a charset that reads it; else UTF-8 is tried."""
    try:
        return content.decode(charset) if charset else content
    except (LookupError, UnicodeDecodeError):
        return content
