"""The documents of a folder or a file, whatever their format, as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import DataError, UnknownNameError, no_such_file
from llmlabel.io import SET_ASIDE, Batch, ReadOptions, list_shards, read_shard
from llmlabel.io.bytestreams import Damage
from llmlabel.io.documents import Collector, set_aside_table
from llmlabel.io.growing import join_tables
from llmlabel.rag.formats import FORMATS, Document, as_date

__all__ = ["Documents", "read_documents"]

_LINES: Final = (".jsonl", ".ndjson", ".parquet")
_PACKED: Final = (".gz", ".zst")
_COLUMNS: Final = ("id", "text", "title", "date", "source")


@dataclass(frozen=True)
class Documents:
    """What was read, and what was not.

    Parameters
    ----------
    documents
        Columns ``id``, ``text``, ``title``, ``date``, ``source`` (all text; the last three
        may be null but ``source``), then the files' others.
    set_aside
        Columns as in `llmlabel.io.SET_ASIDE`: the file, the line where there is one, what
        is wrong, and the reason.
    """

    documents: pa.Table
    set_aside: pa.Table

    def counts(self) -> dict[str, int]:
        """Return how many were read, and how many set aside by what was wrong."""
        what = self.set_aside["what"].to_pylist()
        return {"read": self.documents.num_rows, **{w: what.count(w) for w in sorted(set(what))}}


def read_documents(
    path: str | Path,
    *,
    text: str = "text",
    id: str = "id",  # noqa: A002 - the name that ReadOptions has
    title: str = "title",
    date: str = "date",
    source: str = "source",
    max_document_bytes: int = 10_000_000,
) -> Documents:
    r"""Read Markdown, plain text, HTML, PDF, JSONL and Parquet.

    The front matter of Markdown and the metadata of HTML and PDF become columns. The title
    of Markdown is its front matter's, else its first heading of the first level. HTML is
    read as Markdown by trafilatura: its main text, with headings and tables. What a document
    does not say of its source is its ``url``, else its file.

    Parameters
    ----------
    path
        A file, or a folder that is searched with its subfolders; names that begin with
        ``.`` or ``_`` are passed over.
    text, id, title, date, source
        The columns of JSONL and Parquet files and the keys of front matter that become
        the columns of these names. A document without an id is named by its file, and its
        line where there are several.
    max_document_bytes
        Longer documents are set aside.

    Returns
    -------
    Documents, in the order of their files, and what was set aside: files that are empty,
    binary, not UTF-8, encrypted, unreadable, without text or of no known format; lines and
    rows that hold no document; and documents whose id another one has.

    Raises
    ------
    DataError
        There is no such file, or nothing at all to read.
    UnknownNameError
        A single file of no known format.
    MissingExtraError
        A format needs a package that is not installed (``llmlabel[rag]``).

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.md").write_text("---\ndate: 2026-03-01\nteam: care\n---\n# Tents\n\nDry them.")
    >>> _ = (folder / "b.jsonl").write_text('{"id": "b1", "text": "Gas.", "url": "https://b.example"}')
    >>> _ = (folder / "c.txt").write_text("")
    >>> found = read_documents(folder)
    >>> found.documents.select(["id", "title", "date", "source"]).to_pylist()[0]
    {'id': 'a.md', 'title': 'Tents', 'date': '2026-03-01', 'source': 'a.md'}
    >>> found.documents["source"].to_pylist(), found.documents.column_names[5:]
    (['a.md', 'https://b.example'], ['team', 'url'])
    >>> found.set_aside.select(["file", "what", "reason"]).to_pylist()
    [{'file': 'c.txt', 'what': 'empty', 'reason': 'the file has no bytes'}]
    """
    root = Path(path).absolute()
    if not root.exists():
        raise DataError(no_such_file(root), file=path)
    folder = root if root.is_dir() else root.parent
    names = {"text": text, "id": id, "title": title, "date": date, "source": source}
    files = list(_files(root)) if root.is_dir() else [root]
    if not files:
        raise DataError("no files in it; expected documents", file=path)
    if root.is_file() and _suffix(root) is None:
        known = [*FORMATS, *_LINES]
        raise UnknownNameError("format", root.suffix or root.name, known, where=str(path))
    options = ReadOptions(text=text, id=id, html="keep", max_document_bytes=max_document_bytes)
    found = [(file, b) for file in files for b in _read(file, folder, names, options)]
    documents = _in_order(join_tables([b.documents for _, b in found]))
    aside = pa.concat_tables([b.set_aside for _, b in found])
    rows = np.repeat(np.arange(len(found)), [b.documents.num_rows for _, b in found])
    documents, twice = _once(documents, [_name(found[i][0], folder) for i in rows])
    return Documents(documents, pa.concat_tables([aside, twice]))


def _files(folder: Path) -> Iterator[Path]:
    found = (p for p in folder.rglob("*") if p.is_file())
    for file in sorted(found, key=lambda p: p.relative_to(folder).as_posix()):
        if not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts):
            yield file


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _suffix(file: Path) -> str | None:
    """Return the suffix by which a file is read; None where there is no way."""
    suffixes = [s.lower() for s in file.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        inner = suffixes[-2] if len(suffixes) > 1 else ""
        return ".jsonl" if inner in (".jsonl", ".ndjson", ".json") else None
    last = suffixes[-1] if suffixes else ""
    return last if last in FORMATS or last in _LINES else None


def _read(file: Path, folder: Path, names: dict[str, str], options: ReadOptions) -> Iterator[Batch]:
    name, suffix = _name(file, folder), _suffix(file)
    collector = Collector(name, options)
    if suffix in _LINES:
        for shard in list_shards(file).shards:
            for batch in read_shard(shard, options):
                table, aside = batch.documents, batch.set_aside
                yield Batch(_renamed(table, names, name), _in_file(aside, name))
        return
    if suffix is None:
        known = ", ".join([*FORMATS, *_LINES])
        collector.damage("unknown format", f"no format that is read (known: {known})")
    else:
        _read_file(file, name, FORMATS[suffix], names, collector)
    batch = collector.take()
    yield Batch(_renamed(batch.documents, names, name), batch.set_aside)


def _read_file(
    file: Path,
    name: str,
    read: Callable[[bytes, str], Document | Damage],
    names: dict[str, str],
    collector: Collector,
) -> None:
    size, most = file.stat().st_size, collector.options.max_document_bytes
    if not size:
        return collector.damage("empty", "the file has no bytes")
    if size > most:
        return collector.damage("too long", f"{size:,} bytes; at most {most:,} are read")
    found = read(file.read_bytes(), name)
    if isinstance(found, Damage):
        return collector.note(found)
    if not found.text.strip():
        return collector.damage("empty", "there is no text in it")
    # YAML's dates and lists of several kinds are no columns of one kind.
    columns = {n: as_date(v) if hasattr(v, "isoformat") else v for n, v in found.columns.items()}
    own = columns.pop(names["id"], None)
    for taken in ("id", "text"):
        columns.pop(taken, None)
    return collector.add(found.text, name if own in (None, "") else str(own), columns, None)


def _in_file(aside: pa.Table, name: str) -> pa.Table:
    """Name the file as seen from the folder that was asked for."""
    return aside.set_column(0, SET_ASIDE.field("file"), pa.array([name] * len(aside), pa.string()))


def _renamed(table: pa.Table, names: dict[str, str], file: str) -> pa.Table:
    """Call the columns of titles, dates and sources by their names; fill in sources and ids."""
    for ours in ("title", "date", "source"):
        theirs = names[ours]
        if theirs in table.column_names and theirs != ours:
            table = table.drop_columns([ours]) if ours in table.column_names else table
            table = table.rename_columns([ours if c == theirs else c for c in table.column_names])
    rows = table.num_rows
    columns = {c: table[c] for c in table.column_names}
    columns["id"] = pa.array([str(i) for i in table["id"].to_pylist()], pa.string())
    for ours in ("title", "date"):
        values = columns.get(ours, pa.nulls(rows)).to_pylist()
        columns[ours] = pa.array([as_date(v) for v in values], pa.string())
    places = [columns[c].to_pylist() for c in ("source", "url") if c in columns]
    first = [next((str(v) for v in row if v), file) for row in zip(*places, strict=True)]
    columns["source"] = pa.array(first if places else [file] * rows, pa.string())
    return pa.table(columns)


def _in_order(table: pa.Table) -> pa.Table:
    return table.select([*_COLUMNS, *(c for c in table.column_names if c not in _COLUMNS)])


def _once(documents: pa.Table, files: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Set aside documents without text, and those whose id has come before."""
    ids = documents["id"].to_pylist()
    trimmed = pc.utf8_trim_whitespace(documents["text"])
    empty = pc.equal(pc.utf8_length(trimmed), 0).to_numpy().astype(bool)
    seen: set[str] = set()
    kept, damages = [], []
    for row, (id_, blank) in enumerate(zip(ids, empty.tolist(), strict=True)):
        if blank:
            damages.append((files[row], Damage("empty", f"the document {id_!r} has no text")))
        elif id_ in seen:
            damages.append((files[row], Damage("id twice", f"another document is called {id_!r}")))
        else:
            seen.add(id_)
            kept.append(row)
    aside = [set_aside_table(file, [damage]) for file, damage in damages]
    return (
        documents.take(pa.array(kept, pa.int64())),
        pa.concat_tables([SET_ASIDE.empty_table(), *aside]),
    )
