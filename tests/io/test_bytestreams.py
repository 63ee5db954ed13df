from __future__ import annotations

import gzip
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.io.bytestreams import ByteReader, Damage, chunks, lines

PACK = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
packed = pytest.mark.parametrize("suffix", list(PACK))


def write(folder: Path, suffix: str, data: bytes) -> Path:
    path = folder / f"a{suffix}"
    path.write_bytes(data)
    return path


def split(path: Path) -> tuple[bytes, list[Damage]]:
    found = list(chunks(path))
    good = b"".join(c for c in found if isinstance(c, bytes))
    return good, [c for c in found if isinstance(c, Damage)]


@packed
def test_members_follow_one_another(tmp_path, suffix):
    texts = [b"one\n" * 50_000, b"", b"two"]
    path = write(tmp_path, suffix, b"".join(map(PACK[suffix], texts)) + b"\0" * 700)
    assert split(path) == (b"".join(texts), [])


@packed
def test_a_broken_member_costs_itself(tmp_path, suffix):
    first, second, third = (PACK[suffix](w * 1_000) for w in (b"one", b"two", b"six"))
    broken = second[:-6] + bytes(b ^ 0xFF for b in second[-6:])
    good, damages = split(write(tmp_path, suffix, first + broken + third))
    assert good.startswith(b"one" * 1_000)
    assert good.endswith(b"six" * 1_000)
    assert [(d.what, d.offset) for d in damages] == [("broken compression", len(first))]


@packed
def test_a_file_that_ends_early_keeps_what_came_before(tmp_path, suffix):
    whole = PACK[suffix](bytes(range(256)) * 2_000)
    good, damages = split(write(tmp_path, suffix, whole[:-3]))
    assert good == (bytes(range(256)) * 2_000)[: len(good)]
    assert [d.offset for d in damages] == [0]
    assert damages[0].reason.endswith("ends early")


@packed
def test_what_is_not_compressed_is_damage(tmp_path, suffix):
    good, damages = split(write(tmp_path, suffix, b"plain text\n" * 10))
    assert good == b""
    assert len(damages) == 1


def test_a_range_of_bytes(tmp_path):
    path = write(tmp_path, ".jsonl", b"0123456789")
    assert b"".join(chunks(path, 3, 7)) == b"3456"
    assert b"".join(chunks(path, 3)) == b"3456789"


@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b""))),
    st.lists(st.integers(0, 60), max_size=6),
    st.integers(3, 12),
)
def test_lines_are_those_of_the_bytes_wherever_chunks_end(texts, cuts, limit):
    data = b"\n".join(texts)
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    parts = [data[a:b] for a, b in pairwise(edges)]
    expected = data.split(b"\n")
    expected = expected[:-1] if not expected[-1] else expected
    found = list(lines(iter(parts), limit))
    assert len(found) == len(expected)
    for number, (line, text) in enumerate(zip(found, expected, strict=True), 1):
        if len(text) > limit:
            assert (line.what, line.line) == ("too long", number)
        else:
            assert line == (number, text)


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_reader_reads_every_byte_once(data, steps):
    parts = [data[i : i + 7] for i in range(0, len(data), 7)]
    reader = ByteReader(iter(parts))
    at, turn = 0, 0
    while at < len(data):
        step = steps[turn % len(steps)]
        if turn % 3 == 0:
            assert reader.read(step) == data[at : at + step]
        elif turn % 3 == 1:
            assert reader.skip(step) == min(step, len(data) - at)
        else:
            line = reader.line(step)
            assert line == data[at : at + step].split(b"\n")[0] + b"\n" * line.endswith(b"\n")
            step = len(line)
        at, turn = at + step, turn + 1
    assert reader.read(1) == b""


def test_a_reader_stops_at_damage_until_it_is_told_to_go_on():
    reader = ByteReader(iter([b"ab", Damage("broken", "x"), b"cd\n"]))
    assert reader.read(9) == b"ab"
    assert reader.line(9) == b""
    assert reader.resume() == Damage("broken", "x")
    assert reader.line(9) == b"cd\n"
    assert reader.resume() is None


@pytest.mark.parametrize("suffix", [".jsonl", *PACK])
def test_a_line_of_100_mb_takes_little_memory(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    block = b"x" * (1 << 20)
    with _opened(path) as handle:
        for _ in range(100):
            handle.write(block)
        handle.write(b"\nshort\n")
    tracemalloc.start()
    long, short = lines(chunks(path), 10_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (long.what, long.line, long.reason.split()[0]) == ("too long", 1, "104,857,600")
    assert short == (2, b"short")
    # What counts is the limit of 10 MB and the worst chunk: 32 kB of gzip that stand for 33 MB.
    assert peak < 80 << 20


def _opened(path: Path):
    if path.suffix == ".gz":
        return gzip.open(path, "wb", 1)
    return zstandard.open(path, "wb") if path.suffix == ".zst" else path.open("wb")
