"""Bytes of files that may be damaged: what can be read of them, and where it could not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from llmlabel.extras import need_packages

__all__ = ["COMPRESSED", "ByteReader", "Damage", "chunks", "lines"]

COMPRESSED: Final = (".gz", ".zst")
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Damage:
    """A place where bytes could not be read, or not be kept.

    Parameters
    ----------
    what
        A short name of the kind of damage: ``broken compression``, ``too long``.
    reason
        What was found there.
    line
        The number of the line, where lines are read.
    offset
        The byte in the file, where it is known.
    """

    what: str
    reason: str
    line: int | None = None
    offset: int | None = None


@dataclass(frozen=True)
class _Codec:
    name: str
    new: Callable[[], Any]
    error: type[Exception]
    feed: int  # bytes at a time: small where a few of them may stand for very many
    starts: Callable[[bytes, int], bool]  # whether a member may start at this place
    magic: bytes
    header: int


def _gzip_starts(data: bytes, at: int) -> bool:
    # Three bytes of magic come by chance in any 16 MB; the rest of a header does not.
    flags, extra, system = data[at + 3], data[at + 8], data[at + 9]
    return flags & 0xE0 == 0 and extra in (0, 2, 4) and (system <= 13 or system == 255)


def _codec(path: Path) -> _Codec | None:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        new = lambda: zlib.decompressobj(wbits=31)  # noqa: E731
        return _Codec("gzip", new, zlib.error, 1 << 15, _gzip_starts, b"\x1f\x8b\x08", 10)
    if suffix == ".zst":
        need_packages(f"reading {path.name}", "zstandard", extra="corpus")
        import zstandard

        return _Codec(
            "zstd",
            lambda: zstandard.ZstdDecompressor().decompressobj(),
            zstandard.ZstdError,
            1 << 10,
            lambda data, at: data[at + 4] & 0x08 == 0,
            b"\x28\xb5\x2f\xfd",
            5,
        )
    return None


def chunks(path: str | Path, start: int = 0, stop: int | None = None) -> Iterator[bytes | Damage]:
    """Yield a file's bytes in order, decompressed by its suffix, and where they are damaged.

    After a broken gzip member or zstd frame, reading goes on at the next one. What was
    read of a member before its damage is kept, but for the last few kilobytes.

    Parameters
    ----------
    path
        Any file; ``.gz`` and ``.zst`` are decompressed, whose memory stays bounded too.
    start, stop
        A range of bytes, of a file that is not compressed.

    Examples
    --------
    >>> import gzip, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.gz"
    >>> _ = file.write_bytes(gzip.compress(b"one") + b"broken" + gzip.compress(b"two"))
    >>> [c if isinstance(c, bytes) else (c.what, c.offset) for c in chunks(file)]
    [b'one', ('broken compression', 23), b'two']
    """
    path = Path(path)
    codec = _codec(path)
    with path.open("rb") as handle:
        if codec is not None:
            yield from _members(handle, codec)
            return
        handle.seek(start)
        left = stop - start if stop is not None else path.stat().st_size - start
        while left > 0 and (data := handle.read(min(_BLOCK, left))):
            left -= len(data)
            yield data


def _members(handle: BinaryIO, codec: _Codec) -> Iterator[bytes | Damage]:
    at, data = 0, b""
    while True:
        data = (data or handle.read(codec.feed)).lstrip(b"\0")  # tapes and tars pad with zeros
        if not data:
            if not (data := handle.read(codec.feed)):
                return
            continue
        at = handle.tell() - len(data)
        decoder, reason = codec.new(), ""
        while not decoder.eof:
            try:
                found = decoder.decompress(data)
            except codec.error as error:
                reason = str(error)
                break
            if found:
                yield found
            if not decoder.eof and not (data := handle.read(codec.feed)):
                reason = "ends early"
                break
        data = decoder.unused_data if not reason else b""
        if reason:
            yield Damage("broken compression", f"{codec.name}: {reason}", offset=at)
            if not _seek_member(handle, at + 1, codec):
                return


def _seek_member(handle: BinaryIO, start: int, codec: _Codec) -> bool:
    """Go to the next place where a member may start; False where there is none."""
    handle.seek(start)
    base, data = start, b""
    while block := handle.read(_BLOCK):
        data += block
        at = data.find(codec.magic)
        while 0 <= at <= len(data) - codec.header:
            if codec.starts(data, at):
                handle.seek(base + at)
                return True
            at = data.find(codec.magic, at + 1)
        keep = codec.header - 1
        base, data = base + max(0, len(data) - keep), data[-keep:]
    return False


def lines(
    parts: Iterator[bytes | Damage], limit: int, first: int = 1
) -> Iterator[tuple[int, bytes] | Damage]:
    r"""Yield lines and their numbers; of a line that is too long or damaged, that it is.

    A line of any length takes no more memory than `limit` and a chunk.

    Parameters
    ----------
    parts
        As `chunks` yields them.
    limit
        Bytes that a line may have.
    first
        The number of the first line. After damage, only lines that could be read count.

    Examples
    --------
    >>> for line in lines(iter([b"a\nlong", b"er\nb"]), limit=5):
    ...     print(line if isinstance(line, tuple) else (line.what, line.line))
    (1, b'a')
    ('too long', 2)
    (3, b'b')
    """
    number, held, size = first, list[bytes](), 0

    def end() -> tuple[int, bytes] | Damage:
        if size > limit:
            return Damage("too long", f"{size:,} bytes; at most {limit:,} are read", number)
        return number, b"".join(held)

    for part in parts:
        if isinstance(part, Damage):
            yield Damage(part.what, part.reason, number, part.offset)
            held, size = [], 0  # the line in which it broke off
            continue
        pieces = part.split(b"\n")
        for piece in pieces[:-1]:
            size += len(piece)
            held.append(piece)
            yield end()
            number, held, size = number + 1, [], 0
        size += len(pieces[-1])
        held = [*held, pieces[-1]] if size <= limit else []
    if size:
        yield end()


class ByteReader:
    """Reads by counts and lines what `chunks` yields, and skips what nobody wants.

    Each method stops at damage: it returns what came before, and `damage` is then set
    until `resume` is called.
    """

    def __init__(self, parts: Iterator[bytes | Damage]) -> None:
        self._parts = parts
        self._data = b""
        self._at = 0
        self.damage: Damage | None = None

    def _fill(self) -> bool:
        """Get more bytes once all are used; False at the end or at damage."""
        while self._at >= len(self._data):
            part = None if self.damage is not None else next(self._parts, None)
            if part is None:
                return False
            if isinstance(part, Damage):
                self.damage = part
                return False
            self._data, self._at = part, 0
        return True

    def resume(self) -> Damage | None:
        """Return the damage that stopped the last read, and read on behind it."""
        damage, self.damage = self.damage, None
        return damage

    def read(self, count: int) -> bytes:
        """Return `count` bytes, fewer at the end or at damage."""
        found = bytearray()
        while len(found) < count and self._fill():
            part = self._data[self._at : self._at + count - len(found)]
            self._at += len(part)
            found += part
        return bytes(found)

    def skip(self, count: int) -> int:
        """Pass over `count` bytes; return how many there were."""
        left = count
        while left and self._fill():
            step = min(left, len(self._data) - self._at)
            self._at += step
            left -= step
        return count - left

    def line(self, limit: int) -> bytes:
        """Return a line with its end, cut after `limit` bytes; nothing at the end."""
        found = bytearray()
        while len(found) < limit and self._fill():
            end = self._data.find(b"\n", self._at) + 1 or len(self._data)
            end = min(end, self._at + limit - len(found))
            found += self._data[self._at : end]
            self._at = end
            if found.endswith(b"\n"):
                break
        return bytes(found)
