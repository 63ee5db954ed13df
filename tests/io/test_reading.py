"""Bad input is set aside with its place and a reason, and the rest is read."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import DataError
from llmlabel.io import SET_ASIDE, ReadOptions, list_shards, read_shard


def read(path: Path, **options) -> tuple[list[dict[str, object]], list[tuple[object, ...]]]:
    """Return the documents and (what, line) of what was set aside."""
    batches = [b for s in list_shards(path).shards for b in read_shard(s, ReadOptions(**options))]
    assert all(b.set_aside.schema == SET_ASIDE for b in batches)
    bad = [row for b in batches for row in b.set_aside.to_pylist()]
    assert all(row["reason"] and row["file"] for row in bad)
    documents = [row for b in batches for row in b.documents.to_pylist()]
    return documents, [(row["what"], row["line"]) for row in bad]


def reasons(path: Path, **options) -> list[str]:
    shards = list_shards(path).shards
    return [
        r
        for s in shards
        for b in read_shard(s, ReadOptions(**options))
        for r in b.set_aside["reason"].to_pylist()
    ]


def texts(documents) -> list[object]:
    return [d["text"] for d in documents]


BAD_LINES = b"""{"text": "good", "id": "g", "lang": "en"}
{"text": "caf\xe9"}
[1, 2]
{"text": "cut
{"text": null}
{"text": 7}
{"txt": "other"}

{"text": "half \\ud83d"}
{"text": "\xf0\x9f\x98\x80 \\ud83d\\ude00", "id": 12, "score": NaN}
{"text": "good too", "id": ""}"""


def test_every_kind_of_bad_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(BAD_LINES)
    documents, bad = read(path)
    assert bad == [
        ("not UTF-8", 2),
        ("no object", 3),
        ("not JSON", 4),
        ("no text", 5),
        ("no text", 6),
        ("missing column", 7),
        ("not UTF-8", 9),
    ]
    assert [d["id"] for d in documents] == ["g", "12", "a.jsonl:11"]
    assert texts(documents) == ["good", "\U0001f600 \U0001f600", "good too"]
    assert [d["lang"] for d in documents] == ["en", None, None]
    assert reasons(path)[5] == "no column 'text', did you mean 'txt'? (columns: txt)"
    assert reasons(path)[0] == "byte 0xe9 at position 13"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_broken_member_is_set_aside_and_the_next_is_read(tmp_path, suffix):
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"a.jsonl{suffix}"
    members = [pack(json.dumps({"text": w * 300}).encode() + b"\n") for w in ("one", "two", "six")]
    members[1] = members[1][:-9] + b"\xff" * 9
    path.write_bytes(b"".join(members))
    documents, bad = read(path)
    assert texts(documents) == ["one" * 300, "six" * 300]
    assert [what for what, _ in bad] == ["broken compression"]
    path.write_bytes(members[0] + members[2][:-4])
    documents, bad = read(path)
    assert texts(documents)[0] == "one" * 300
    assert [what for what, _ in bad] == ["broken compression"]


def test_long_documents_and_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"text": "x" * n} for n in (10, 200, 20)]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read(path, max_document_bytes=100) == (
        [{"id": "a.jsonl:1", "text": "x" * 10}, {"id": "a.jsonl:3", "text": "x" * 20}],
        [("too long", 2)],
    )
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "b.parquet")
    documents, bad = read(tmp_path / "b.parquet", max_document_bytes=100)
    assert (len(documents), bad) == (2, [("too long", 2)])


def test_empty_files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(b"\n \n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b""))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"")
    (tmp_path / "f.warc.gz").write_bytes(gzip.compress(b""))
    assert read(tmp_path) == ([], [("empty", None)] * 6)


def test_a_file_without_the_column_is_set_aside_whole(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "a"}\n' * 5)
    (tmp_path / "b.jsonl").write_text('{"content": "a"}\n' * 5_000)
    pq.write_table(pa.table({"texts": ["a", "b"]}), tmp_path / "c.parquet", row_group_size=1)
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "d.parquet")
    (tmp_path / "e.jsonl").write_text('{"text": "good"}')
    documents, bad = read(tmp_path)
    assert texts(documents) == ["good"]
    assert bad == [("missing column", 1)] * 2 + [("missing column", None), ("no text", None)]
    assert "no column 'text', did you mean 'texts'? (columns: texts)" in reasons(tmp_path)[2]
    assert len(read(tmp_path, text="content")[0]) == 5_005


def test_damaged_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    path = tmp_path / "b.parquet"
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 122, 200))) for _ in range(300)]
    pq.write_table(pa.table({"text": words}), path, row_group_size=100, compression="zstd")
    meta = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = meta.dictionary_page_offset or meta.data_page_offset
    data[start : start + meta.total_compressed_size] = b"\xff" * meta.total_compressed_size
    path.write_bytes(data)
    documents, bad = read(tmp_path)
    assert texts(documents) == words[:100] + words[200:]
    assert bad == [("unreadable", None), ("unreadable", 101)]


def test_parquet_rows_that_are_no_documents(tmp_path):
    raw = pa.array([b"good", b"caf\xe9", b"x", None, b"also"], pa.binary())
    source = pa.array([b"a", b"a", b"\xff", b"a", b"b"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 5, raw.buffers())
    table = pa.table(
        {
            "doc": ["d1", "d2", "d3", "d4", None],
            "text": text,
            "source": pa.Array.from_buffers(pa.string(), 5, source.buffers()),
            "n": [1, 2, 3, 4, 5],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    documents, bad = read(tmp_path / "a.parquet", id="doc")
    assert documents == [
        {"id": "d1", "text": "good", "doc": "d1", "source": "a", "n": 1},
        {"id": "a.parquet:5", "text": "also", "doc": None, "source": "b", "n": 5},
    ]
    assert bad == [("not UTF-8", 2), ("not UTF-8", 3), ("no text", 4)]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_kinds_of_text_in_parquet(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).cast(kind)}), tmp_path / "a.parquet")
    assert texts(read(tmp_path / "a.parquet")[0]) == ["a", "b", "a"]


def test_numbers_as_ids_and_columns_that_come_and_go(tmp_path):
    pq.write_table(pa.table({"id": [7, 8], "text": ["a", "b"]}), tmp_path / "a.parquet")
    lines = [{"text": "c", "meta": {"a": 1}}, {"text": "d", "meta": "x", "tags": ["t"]}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))
    documents, bad = read(tmp_path)
    assert bad == []
    assert [d["id"] for d in documents] == ["7", "8", "b.jsonl:1", "b.jsonl:2"]
    assert [d["meta"] for d in documents[2:]] == ['{"a": 1}', "x"]


def test_batches_are_bounded_by_rows_and_bytes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": "x" * 100}) for _ in range(50)))
    pq.write_table(
        pa.table({"text": ["x" * 100] * 50}), tmp_path / "b.parquet", use_dictionary=False
    )
    for shard in list_shards(tmp_path).shards:
        rows = [b.documents.num_rows for b in read_shard(shard, ReadOptions(batch_rows=20))]
        assert rows == [20, 20, 10]
        rows = [b.documents.num_rows for b in read_shard(shard, ReadOptions(batch_bytes=1_000))]
        assert sum(rows) == 50
        assert max(rows) <= 10


def test_texts_of_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.md").write_bytes(b"")
    (tmp_path / "d.md").write_text("x" * 200)
    documents, bad = read(tmp_path, max_document_bytes=100)
    assert documents == [{"id": "a.txt", "text": "one\ntwo"}]
    assert bad == [("not UTF-8", None), ("empty", None), ("too long", None)]


def test_html_in_any_format(tmp_path):
    page = "<html><body><nav>Home</nav><p>" + "A good long sentence. " * 20 + "</p></body></html>"
    rows = [{"text": page, "n": 1}, {"text": "<html></html>", "n": 2}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    documents, bad = read(tmp_path, html="text")
    assert [(d["id"], d["n"]) for d in documents] == [("a.jsonl:1", 1), ("b.parquet:1", 1)]
    assert all(str(t).startswith("A good long") and "Home" not in str(t) for t in texts(documents))
    assert bad == [("no text", 2)] * 2
    assert len(read(tmp_path)[0]) == 4


def test_a_file_that_is_gone_is_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    shard = list_shards(path).shards[0]
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        next(read_shard(shard))


@given(st.lists(st.one_of(st.binary(max_size=30), st.just(b'{"text": "good"}')), max_size=8))
def test_no_bytes_stop_the_reading_of_lines(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(b"\n".join(parts))
    documents, bad = read(path)
    whole = [p for p in parts if p.strip() == b'{"text": "good"}']
    assert len(documents) >= len(whole)
    if not documents:
        assert bad


@given(
    st.binary(max_size=200), st.integers(1, 150), st.sampled_from(["jsonl.gz", "warc.gz", "warc"])
)
def test_no_damage_stops_the_reading_of_archives(tmp_path_factory, noise, at, suffix):
    path = tmp_path_factory.mktemp("any") / f"a.{suffix}"
    good = b'{"text": "good"}\n'
    if "warc" in suffix:
        good = (
            b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 4\r\n\r\ngood\r\n\r\n"
        )
    member = gzip.compress(good, mtime=0) if suffix.endswith("gz") else good
    path.write_bytes(member[:at] + noise + b"\n" + member)
    documents, bad = read(path)
    assert len(documents) + len(bad) >= 1


SCRIPT = """
import sys
from llmlabel.io import list_shards, read_shard
def status(name):
    return int(open("/proc/self/status").read().split(name)[1].split()[0])
n = bad = 0
before = status("VmHWM:")
for shard in list_shards(sys.argv[1]).shards:
    for batch in read_shard(shard):
        n += batch.documents.num_rows
        bad += batch.set_aside.num_rows
print(n, bad, status("VmHWM:") - before)
"""


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_line_of_100_mb_is_set_aside_in_bounded_memory(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    block = b"x" * (1 << 20)
    with path.open("wb") if suffix == ".jsonl" else gzip.open(path, "wb", 1) as handle:
        handle.write(b'{"text": "one"}\n{"text": "')
        for _ in range(100):
            handle.write(block)
        handle.write(b'"}\n{"text": "two"}\n')
    command = [sys.executable, "-c", SCRIPT, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    documents, bad, grown = map(int, ended.stdout.split())
    assert (documents, bad) == (2, 1)
    assert grown < 100_000  # kB; the line alone has 102,400
