"""Bytes of one file to a document: Markdown, plain text, HTML, PDF; or why there is none."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from llmlabel.errors import ConfigError
from llmlabel.extras import need_packages
from llmlabel.io import parse_yaml
from llmlabel.io.bytestreams import Damage
from llmlabel.io.documents import utf8_reason

__all__ = ["FORMATS", "Document", "as_date", "front_matter"]

_FRONT: Final = re.compile(
    r"---[ \t]*\r?\n(.*?)(?:\r?\n)?^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M
)
_TITLE: Final = re.compile(r"^ {0,3}#[ \t]+(.+?)[ \t]*#*[ \t]*$", re.M)
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Document:
    """A text, and what its file says of it."""

    text: str
    columns: Mapping[str, Any] = field(default_factory=dict)


def as_date(value: object) -> str | None:
    """Return a date as text: ISO 8601 where it is one of Python's or YAML's.

    Examples
    --------
    >>> as_date(date(2026, 3, 1)), as_date("March 2026"), as_date(None)
    ('2026-03-01', 'March 2026', None)
    """
    if value is None or value == "":
        return None
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def front_matter(text: str, file: str) -> tuple[dict[str, Any], str]:
    r"""Return the YAML between ``---`` lines at the start of a text, and the rest.

    Raises
    ------
    ConfigError
        It is no YAML.

    Examples
    --------
    >>> front_matter("---\ntitle: Tents\n---\n# Tents\n", "a.md")
    ({'title': 'Tents'}, '# Tents\n')
    >>> front_matter("---\nA line above.\n---\n", "a.md")
    ({}, '---\nA line above.\n---\n')
    """
    match = _FRONT.match(text)
    if match is None:
        return {}, text
    found, _ = parse_yaml(match[1], file=file, first_line=2)
    if not isinstance(found, dict):  # two rules with text between them
        return {}, text
    return {str(name): value for name, value in found.items()}, text[match.end() :]


def _decoded(data: bytes) -> str | Damage:
    if data.startswith(_UTF16):
        return Damage("not UTF-8", "its first bytes are those of UTF-16")
    if (at := data.find(b"\x00")) >= 0:
        return Damage("binary", f"a zero byte at position {at}", offset=at)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Damage("not UTF-8", utf8_reason(error), offset=error.start)


def _markdown(data: bytes, file: str) -> Document | Damage:
    text = _decoded(data)
    if isinstance(text, Damage):
        return text
    try:
        columns, body = front_matter(text, file)
    except ConfigError as error:
        line = re.search(rf"{re.escape(file)}:(\d+)", error.message)
        return Damage("front matter", error.message, int(line[1]) if line else None)
    if not columns.get("title") and (heading := _TITLE.search(body)):
        columns["title"] = heading[1].strip("*_` ")
    return Document(body, columns)


def _plain(data: bytes, _: str) -> Document | Damage:
    text = _decoded(data)
    return text if isinstance(text, Damage) else Document(text)


def _html(data: bytes, file: str) -> Document | Damage:
    need_packages(f"reading {file}", "trafilatura", extra="rag")
    from trafilatura import extract, extract_metadata

    # It warns of each page without text; its reason is kept here.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    if not data.startswith(_UTF16) and (at := data.find(b"\x00")) >= 0:
        return Damage("binary", f"a zero byte at position {at}", offset=at)
    try:
        text = extract(
            data, output_format="markdown", include_comments=False, include_formatting=True
        )
        said = extract_metadata(data) if text else None
    except (ValueError, RecursionError, AssertionError, LookupError) as error:
        return Damage("no text", f"its HTML cannot be read: {error}")
    if not text:
        return Damage("no text", f"no main text in its HTML of {len(data):,} bytes")
    columns = {name: getattr(said, name, None) for name in ("title", "date", "url", "author")}
    return Document(text, {name: value for name, value in columns.items() if value})


def _pdf(data: bytes, file: str) -> Document | Damage:
    need_packages(f"reading {file}", "pypdf", extra="rag")
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return Damage("encrypted", "a password is needed to read it")
        pages = [page.extract_text() for page in reader.pages]
        said = _pdf_metadata(reader)
    except pypdf.errors.DependencyError as error:
        return Damage("encrypted", str(error))
    except Exception as error:  # noqa: BLE001, RUF100 - a broken PDF may raise anything
        return Damage("unreadable", f"cannot be read as PDF: {error or type(error).__name__}")
    text = "\n\n".join(page.strip() for page in pages).strip()
    if not text:
        return Damage("no text", f"no text on its {len(pages)} pages; are they pictures?")
    return Document(text, {**said, "pages": len(pages)})


def _pdf_metadata(reader: Any) -> dict[str, Any]:
    meta = reader.metadata
    if meta is None:
        return {}
    try:
        created = meta.creation_date
    except ValueError:  # a date that is none costs no document
        created = None
    said = {"title": meta.title, "date": created, "author": meta.author}
    return {name: value for name, value in said.items() if value}


FORMATS: Final[Mapping[str, Callable[[bytes, str], Document | Damage]]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".pdf": _pdf,
}
"""How the bytes of a file with a suffix become a document."""
