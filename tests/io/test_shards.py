from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import DataError
from llmlabel.io import list_shards, read_shard


def rows_of(listing) -> list[dict[str, object]]:
    return [
        row
        for shard in listing.shards
        for batch in read_shard(shard)
        for row in batch.documents.to_pylist()
    ]


def test_files_come_in_the_order_of_their_paths(tmp_path):
    for name in ("b/1.jsonl", "a.jsonl.gz", "b.parquet", "b/_SUCCESS", ".x.jsonl", "c/z.json.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        line = b'{"text": "t"}'
        if name.endswith(".parquet"):
            pq.write_table(pa.table({"text": ["t"]}), path)
        else:
            path.write_bytes(gzip.compress(line) if name.endswith(".gz") else line)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "a.exe").write_text("no")
    listing = list_shards(tmp_path)
    assert [s.id for s in listing.shards] == ["a.jsonl.gz", "b.parquet", "b/1.jsonl", "c/z.json.gz"]
    assert listing.ignored == ("README.md", "a.exe")
    assert [row["id"] for row in rows_of(listing)] == [f"{s.id}:1" for s in listing.shards]
    assert [s.id for s in list_shards(tmp_path, formats=["text"]).shards] == ["README.md"]


def test_parquet_is_cut_between_and_in_row_groups(tmp_path):
    texts = [f"{i:04d}" * 500 for i in range(1_000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=250)
    whole = list_shards(path)
    assert [s.id for s in whole.shards] == ["a.parquet"]
    between = list_shards(path, shard_bytes=900_000)
    assert [s.id for s in between.shards] == ["a.parquet.0-250"] + [
        f"a.parquet.{i}-{i + 250}" for i in (250, 500, 750)
    ]
    inside = list_shards(path, shard_bytes=100_000)
    assert len(inside.shards) > 12
    for listing in (between, inside):
        assert rows_of(listing) == rows_of(whole)
    assert rows_of(whole)[-1]["id"] == "a.parquet:1000"


@given(
    st.lists(st.text(max_size=30), min_size=1),
    st.integers(10, 200),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
)
def test_json_lines_are_the_same_however_they_are_cut(tmp_path_factory, texts, size, end, last):
    import llmlabel.io.shards as shards

    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    data = end.join(json.dumps({"text": t}, ensure_ascii=False) for t in texts)
    path.write_bytes((data + end * last).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_BLOCK", 16)  # else a block holds the whole file
        cut = list_shards(path, shard_bytes=size)
    assert [r["text"] for r in rows_of(cut)] == texts
    assert rows_of(cut) == rows_of(list_shards(path))
    stops = [s.stop for s in cut.shards]
    assert stops == [None] or stops[-1] == path.stat().st_size


def test_small_texts_share_a_shard(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    listing = list_shards(tmp_path, shard_bytes=12)
    assert [s.id for s in listing.shards] == ["0.txt.and-1-more", "2.txt.and-1-more", "4.txt"]
    assert rows_of(listing)[3] == {"id": "3.txt", "text": "text 3"}


def test_a_changed_file_is_another_shard(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}')
    before = list_shards(path).shards
    assert list_shards(path).shards == before
    path.write_text('{"text": "ab"}')
    assert list_shards(path).shards != before


def test_nothing_to_read_is_told(tmp_path):
    (tmp_path / "a.exe").write_text("no")
    with pytest.raises(DataError, match="nothing to read; expected files with"):
        list_shards(tmp_path)
    with pytest.raises(DataError, match="no such file, did you mean"):
        list_shards(tmp_path / "a.exee")
    (tmp_path / "b.txt").write_text("yes")
    with pytest.raises(DataError, match="expected files with .parquet$"):
        list_shards(tmp_path, formats=["parquet"])
    shard = list_shards(tmp_path / "b.txt").shards[0]
    assert Path(shard.path) == tmp_path


def test_the_shared_corpus_is_read_whole(shared_data):
    path = shared_data / "web" / "web.parquet"
    listing = list_shards(path, shard_bytes=8 << 20)
    found = [b.documents for s in listing.shards for b in read_shard(s)]
    whole = pq.read_table(path)
    table = pa.concat_tables(found)
    assert table.select(whole.column_names).equals(
        whole.cast(table.select(whole.column_names).schema)
    )
    assert len(listing.shards) > 4
