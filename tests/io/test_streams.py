"""Rows in chunks: what comes out is what `read_table` reads, however it is cut."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import llmlabel.io.streams as module
from llmlabel.errors import DataError
from llmlabel.io import count_rows, open_sink, read_chunks, read_table, write_table


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 7)


TABLE = pa.table(
    {
        "id": [str(i) for i in range(23)],
        "text": [f"text {i} ü 你" for i in range(23)],
        "n": [None if i % 3 else i for i in range(23)],
        "tags": [["a"] * (i % 3) for i in range(23)],
    }
)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".arrow"])
def test_chunks_together_are_the_file(tmp_path, suffix):
    file = tmp_path / f"rows{suffix}"
    write_table(TABLE, file)
    chunks = list(read_chunks(file, text_columns=["id", "text"]))
    assert [c.first for c in chunks] == ([0] if suffix == ".arrow" else [0, 7, 14, 21])
    whole = pa.concat_tables([c.table for c in chunks], promote_options="permissive")
    assert whole.to_pylist() == read_table(file, text_columns=["id", "text"]).to_pylist()
    assert count_rows(file) == (23 if suffix == ".parquet" else None)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz", ".csv"])
def test_what_is_written_in_parts_is_the_whole(tmp_path, suffix):
    table = TABLE.drop_columns(["tags"])
    file = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl.gz":
        with pytest.raises(DataError, match="cannot write"), open_sink(file) as sink:
            sink.write(table)
        return
    with open_sink(file) as sink:
        for start in range(0, 23, 5):
            sink.write(table.slice(start, 5))
            assert not file.exists()
    assert read_table(file, text_columns=["id"]).to_pylist() == table.to_pylist()


def test_nothing_is_left_of_a_write_that_failed(tmp_path):
    file = tmp_path / "rows.parquet"
    with pytest.raises(DataError, match="differ in their columns"), open_sink(file) as sink:
        sink.write(TABLE)
        sink.write(TABLE.drop_columns(["n"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "not JSON"), ("[1]", "expected a JSON object, got list"), ("\x00", "not JSON")],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": "a"}) + "\n\n" + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        list(read_chunks(file))
    assert "rows.jsonl:3: " in str(caught.value)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n")
    pq.write_table(TABLE.slice(0, 0), tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        with pytest.raises(DataError, match="is empty"):
            list(read_chunks(tmp_path / name))
    with pytest.raises(DataError, match="no such file, did you mean"):
        list(read_chunks(tmp_path / "row.jsonl"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(read_chunks(tmp_path / "no.parquet"))


def test_values_of_several_kinds_are_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": "x"}\n')
    with pytest.raises(DataError, match="several kinds"):
        list(read_chunks(tmp_path / "rows.jsonl"))


def test_kinds_may_widen_between_chunks(tmp_path):
    file = tmp_path / "rows.csv"
    with open_sink(file) as sink:
        sink.write(pa.table({"a": [1, 2]}))
        sink.write(pa.table({"a": [0.5]}))
    assert read_table(file)["a"].to_pylist() == [1.0, 2.0, 0.5]
    file = tmp_path / "rows.parquet"
    with open_sink(file) as sink:
        sink.write(pa.table({"a": pa.nulls(2)}))
        sink.write(pa.table({"a": ["x"]}))
    assert read_table(file)["a"].to_pylist() == [None, None, "x"]


def test_a_suffix_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    with pytest.raises(DataError, match="cannot write .txt"):
        open_sink(tmp_path / "rows.txt")


def test_what_json_leaves_open_is_read_as_it_was(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": NaN}\n{"a": 1.5}\n')
    (chunk,) = read_chunks(file)
    assert chunk.table["a"].to_pylist()[1] == 1.5
    file.write_text('{"a": -1}\n{"a": 18446744073709551615}\n')
    with pytest.raises(DataError, match="several kinds"):
        list(read_chunks(file))
    (tmp_path / "broken.parquet").write_bytes(b"")
    assert count_rows(tmp_path / "broken.parquet") is None
