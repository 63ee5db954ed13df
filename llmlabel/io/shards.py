"""A corpus as shards: pieces of its files, in one order, each small enough for one worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet

from llmlabel.errors import DataError, no_such_file

__all__ = ["Listing", "Shard", "ShardFormat", "list_shards"]

ShardFormat = Literal["parquet", "jsonl", "warc", "text"]

_SUFFIXES: Final[dict[str, ShardFormat]] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".warc": "warc",
    ".wet": "warc",
    ".txt": "text",
    ".md": "text",
}
_PACKED: Final[tuple[ShardFormat, ...]] = ("jsonl", "warc")
_SHARD_BYTES: Final = 64 << 20
_SLICES: Final = 8  # of one row group: each reads the group from its start
_TEXTS: Final = 1_000
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Shard:
    """A piece of a corpus.

    Parameters
    ----------
    id
        Its name: the file, and its range where it is a part of one.
    file
        The file's path under the corpus's folder, as ids and reasons name it.
    path
        Where the file is; of texts, the folder.
    format
        How it is read.
    start, stop
        Rows of a Parquet file, bytes of a plain JSONL file; no `stop` means all.
    first_line
        The number of its first line, from 1.
    texts
        Files of one document each, for the format ``text``.
    size, mtime_ns
        Of the file (of all texts together, and the last): a changed file is another shard.
    """

    id: str
    file: str
    path: str
    format: ShardFormat
    start: int = 0
    stop: int | None = None
    first_line: int = 1
    texts: tuple[str, ...] = ()
    size: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True)
class Listing:
    """The shards of a corpus, and its files that are none."""

    shards: tuple[Shard, ...]
    ignored: tuple[str, ...]


def list_shards(
    path: str | Path,
    *,
    formats: Sequence[ShardFormat] | None = None,
    shard_bytes: int = _SHARD_BYTES,
) -> Listing:
    """List a file's or a folder's shards, ordered by path and then by place.

    Parquet files are cut between row groups, and in them where they are large, plain JSONL
    files between lines (which are counted for it), compressed ones not at all. Small
    texts share a shard.

    Parameters
    ----------
    path
        A file, or a folder that is searched with its subfolders; names that begin with
        ``.`` or ``_`` are passed over.
    formats
        Which formats to take. By default all but ``text``, and ``text`` in a folder that
        holds nothing else: a README beside Parquet files is no document.
    shard_bytes
        About how many bytes a shard has, uncompressed.

    Raises
    ------
    DataError
        There is no such file, or nothing in it that can be read.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> pa.parquet.write_table(pa.table({"text": ["a", "b"]}), folder / "a.parquet")
    >>> _ = (folder / "b.jsonl").write_text('{"text": "c"}')
    >>> [shard.id for shard in list_shards(folder).shards]
    ['a.parquet', 'b.jsonl']
    """
    root = Path(path).absolute()
    if not root.exists():
        raise DataError(no_such_file(root), file=path)
    files = list(_files(root)) if root.is_dir() else [root]
    kinds = {file: _format(file) for file in files}
    tables = any(kind not in (None, "text") for kind in kinds.values())
    wanted = formats or (("parquet", "jsonl", "warc") if tables else ("text",))
    taken = [file for file in files if kinds[file] in wanted]
    if not taken:
        known = ", ".join(s for s, k in _SUFFIXES.items() if not formats or k in formats)
        raise DataError(f"nothing to read; expected files with {known}", file=path)
    folder = root if root.is_dir() else root.parent
    shards: list[Shard] = []
    texts = [file for file in taken if kinds[file] == "text"]
    for file in taken:
        if kinds[file] != "text":
            shards += _cut(file, folder, kinds[file], shard_bytes)
    shards += _texts(texts, folder, shard_bytes)
    ignored = [_name(file, folder) for file in files if file not in set(taken)]
    return Listing(tuple(shards), tuple(ignored))


def _files(folder: Path) -> Iterator[Path]:
    """Yield files in the order of their paths as text, the same on every machine."""
    found = (p for p in folder.rglob("*") if p.is_file())
    hidden = (".", "_")
    for file in sorted(found, key=lambda p: p.relative_to(folder).as_posix()):
        if not any(part.startswith(hidden) for part in file.relative_to(folder).parts):
            yield file


def _format(path: Path) -> ShardFormat | None:
    suffixes = [s.lower() for s in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in (".gz", ".zst")
    if packed:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if packed and last == ".json":  # how C4 and Dolma name their JSON lines
        return "jsonl"
    kind = _SUFFIXES.get(last)
    return None if packed and kind not in _PACKED else kind


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _cut(file: Path, folder: Path, kind: ShardFormat | None, shard_bytes: int) -> Iterator[Shard]:
    assert kind is not None
    name, stat = _name(file, folder), file.stat()
    ranges: list[tuple[int, int | None, int]] = [(0, None, 1)]
    if kind == "parquet":
        ranges = _row_ranges(file, shard_bytes)
    elif kind == "jsonl" and _plain(file) and stat.st_size > shard_bytes:
        ranges = list(_line_ranges(file, shard_bytes))
    for start, stop, first in ranges:
        whole = len(ranges) == 1
        yield Shard(
            id=name if whole else f"{name}.{start}-{stop}",
            file=name,
            path=str(file),
            format=kind,
            start=start,
            stop=None if whole else stop,
            first_line=first,
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
        )


def _plain(file: Path) -> bool:
    return file.suffix.lower() not in (".gz", ".zst")


def _row_ranges(file: Path, shard_bytes: int) -> list[tuple[int, int | None, int]]:
    try:
        with pa.parquet.ParquetFile(file) as handle:
            meta = handle.metadata
            groups = [
                (meta.row_group(i).num_rows, meta.row_group(i).total_byte_size)
                for i in range(meta.num_row_groups)
            ]
    except (pa.ArrowException, OSError):
        return [(0, None, 1)]  # its reader says what is wrong
    cuts, row, held = [0], 0, 0
    for rows, size in groups:
        if held and held + size > shard_bytes:
            cuts.append(row)
            held = 0
        slices = max(1, min(_SLICES, size // shard_bytes, rows))
        cuts += [row + rows * i // slices for i in range(1, slices)]
        row, held = row + rows, held + size
    ends = [*cuts[1:], row]
    return [(start, stop, start + 1) for start, stop in zip(cuts, ends, strict=True)]


def _line_ranges(file: Path, shard_bytes: int) -> Iterator[tuple[int, int, int]]:
    start, at, first, count = 0, 0, 1, 0
    with file.open("rb") as handle:
        while block := handle.read(_BLOCK):
            end = block.rfind(b"\n") + 1
            if end and at + end - start >= shard_bytes:
                count += block.count(b"\n")
                yield start, at + end, first
                start, first, count = at + end, first + count, 0
            else:
                count += block.count(b"\n")
            at += len(block)
    if at > start:
        yield start, at, first


def _texts(files: Sequence[Path], folder: Path, shard_bytes: int) -> Iterator[Shard]:
    held: list[Path] = []
    size = 0
    for file in files:
        held.append(file)
        size += file.stat().st_size
        if size >= shard_bytes or len(held) == _TEXTS:
            yield _text_shard(held, folder, size)
            held, size = [], 0
    if held:
        yield _text_shard(held, folder, size)


def _text_shard(files: Sequence[Path], folder: Path, size: int) -> Shard:
    names = tuple(_name(file, folder) for file in files)
    more = f".and-{len(names) - 1}-more" if len(names) > 1 else ""
    return Shard(
        id=names[0] + more,
        file=names[0],
        path=str(folder),
        format="text",
        texts=names,
        size=size,
        mtime_ns=max(file.stat().st_mtime_ns for file in files),
    )
