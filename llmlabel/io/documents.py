"""Batches of documents, and beside them whatever was set aside and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa

from llmlabel.io.bytestreams import Damage
from llmlabel.io.growing import as_text
from llmlabel.io.html import html_to_text

__all__ = [
    "SET_ASIDE",
    "Batch",
    "Collector",
    "ReadOptions",
    "set_aside_table",
    "utf8_reason",
]

SET_ASIDE: Final = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("offset", pa.int64()),
        ("what", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Columns of what was set aside: the file, the line, row or record (from 1) or the byte,
where there is one, a short name of what is wrong, and the reason in words."""


@dataclass(frozen=True)
class ReadOptions:
    """How documents are read.

    Parameters
    ----------
    text
        The column of texts; it is called ``text`` in what is read.
    id
        The column of ids, where a file has it; it is called ``id`` in what is read. A row
        without one is named ``FILE:LINE``.
    html
        ``auto``: HTML of web archives becomes text; ``text``: that of all formats;
        ``keep``: none.
    max_document_bytes
        Longer documents are set aside; so are longer lines and records, unread.
    batch_rows, batch_bytes
        A batch is full when it has so many documents or so many bytes of text.
    """

    text: str = "text"
    id: str = "id"
    html: Literal["auto", "text", "keep"] = "auto"
    max_document_bytes: int = 10_000_000
    batch_rows: int = 4_096
    batch_bytes: int = 32 << 20


@dataclass(frozen=True)
class Batch:
    """Some documents, and what was set aside among them.

    Parameters
    ----------
    documents
        Columns ``id`` and ``text``, and the file's others as they are.
    set_aside
        Columns as in `SET_ASIDE`.
    """

    documents: pa.Table
    set_aside: pa.Table


def set_aside_table(file: str, damages: Iterable[Damage]) -> pa.Table:
    """Return what was set aside of a file as a table with the columns of `SET_ASIDE`.

    Examples
    --------
    >>> set_aside_table("a.jsonl", [Damage("not JSON", "unexpected end", 3)]).to_pylist()[0]["line"]
    3
    """
    rows = [
        {"file": file, "line": d.line, "offset": d.offset, "what": d.what, "reason": d.reason}
        for d in damages
    ]
    return pa.Table.from_pylist(rows, schema=SET_ASIDE)


@dataclass
class Collector:
    """Gathers documents and damages of one file into batches."""

    file: str
    options: ReadOptions
    html: bool = False
    _ids: list[str] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)
    _others: list[Mapping[str, Any]] = field(default_factory=list)
    _damages: list[Damage] = field(default_factory=list)
    _bytes: int = 0

    def add(self, text: str | bytes, id_: Any, others: Mapping[str, Any], line: int | None) -> None:
        """Take a document, or set it aside where it is too long or its HTML holds no text."""
        found: str | bytes | None = text
        if self.html and (size := len(text)) <= self.options.max_document_bytes:
            try:
                found = html_to_text(text)
            except (ValueError, RecursionError, AssertionError) as error:
                return self.damage("no text", f"its HTML cannot be read: {error}", line)
            if not found:
                return self.damage("no text", f"no main text in its HTML of {size:,} bytes", line)
        if isinstance(found, bytes):
            try:
                found = found.decode("utf-8")
            except UnicodeDecodeError as error:
                return self.damage("not UTF-8", utf8_reason(error), line)
        assert found is not None
        # A character is one byte at least: only a text that may be too long is measured.
        most = self.options.max_document_bytes
        if 4 * len(found) > most and (size := len(found.encode())) > most:
            return self.damage("too long", f"{size:,} bytes; at most {most:,} are read", line)
        self._ids.append(str(id_) if id_ is not None and id_ != "" else f"{self.file}:{line}")
        self._texts.append(found)
        self._others.append(others)
        self._bytes += len(found)
        return None

    def damage(
        self, what: str, reason: str, line: int | None = None, offset: int | None = None
    ) -> None:
        """Note something that is set aside."""
        self._damages.append(Damage(what, reason, line, offset))

    def note(self, damage: Damage) -> None:
        """Note something that is set aside."""
        self._damages.append(damage)

    @property
    def noted(self) -> bool:
        """Whether something is set aside, or read, that `take` has not returned yet."""
        return bool(self._ids or self._damages)

    @property
    def full(self) -> bool:
        """Whether it is time for `take`."""
        rows = max(len(self._ids), len(self._damages))
        return rows >= self.options.batch_rows or self._bytes >= self.options.batch_bytes

    def take(self) -> Batch:
        """Return what has been gathered and begin anew."""
        names = dict.fromkeys(name for row in self._others for name in row)
        columns = {
            "id": pa.array(self._ids, pa.string()),
            "text": pa.array(self._texts, pa.string()),
            **{name: _array([row.get(name) for row in self._others]) for name in names},
        }
        batch = Batch(pa.table(columns), set_aside_table(self.file, self._damages))
        self._ids, self._texts, self._others, self._damages, self._bytes = [], [], [], [], 0
        return batch

    def rest(self) -> Iterator[Batch]:
        """Yield the last batch, where there is anything in it."""
        if self.noted:
            yield self.take()


def utf8_reason(error: UnicodeDecodeError) -> str:
    """Say which byte is no UTF-8."""
    return f"byte 0x{error.object[error.start]:02x} at position {error.start}"


def _array(values: list[Any]) -> pa.Array:
    """Return values as Arrow's kind for them; as text where they are of several kinds."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([as_text(v) for v in values], pa.string())
