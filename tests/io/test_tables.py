from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import DataError
from llmlabel.io import check_rows, read_table, write_table

# Unpaired surrogates cannot be written as UTF-8; CSV knows no difference of \r and \n.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=30)


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather"]
)
def test_each_format_round_trips(tmp_path, suffix):
    table = pa.table(
        {"id": ["007", "8"], "text": ['a "quoted"\nline, with comma', "ünï ☃"], "n": [1, 2]}
    )
    path = tmp_path / f"t{suffix}"
    write_table(table, path)
    assert read_table(path, text_columns=["id"]).to_pydict() == table.to_pydict()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@given(st.lists(texts, min_size=1, max_size=8))
def test_jsonl_keeps_any_text(tmp_path_factory, column):
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    write_table(pa.table({"text": column}), path)
    assert read_table(path, text_columns=["text"])["text"].to_pylist() == column


def test_text_that_looks_like_a_date_or_a_number_stays_text(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "2020-01-01"}\n{"text": "2020-01-02"}\n')
    assert read_table(path)["text"].to_pylist() == ["2020-01-01", "2020-01-02"]
    csv = tmp_path / "t.csv"
    csv.write_text("id,text\n001,12\n002,13\n")
    read = read_table(csv, text_columns=["id", "text"])
    assert read.to_pylist() == [{"id": "001", "text": "12"}, {"id": "002", "text": "13"}]


def test_compressed_and_folders_of_shards(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": "1"}\n'))
    (tmp_path / "b.jsonl").write_text('{"id": "2"}\n')
    (tmp_path / "notes.txt").write_text("ignored")
    assert read_table(tmp_path)["id"].to_pylist() == ["1", "2"]


def test_datasets_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"id": ["a", "b"], "text": ["x", "y"]})
    one.save_to_disk(tmp_path / "one")
    assert read_table(tmp_path / "one").to_pydict() == {"id": ["a", "b"], "text": ["x", "y"]}
    datasets.DatasetDict({"train": one}).save_to_disk(tmp_path / "both")
    assert read_table(tmp_path / "both" / "train").num_rows == 2
    with pytest.raises(DataError, match="splits train; name one, as in .*both/train"):
        read_table(tmp_path / "both")


def test_class_labels_of_datasets_are_their_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["HAM", "SPAM"])}
    )
    made = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features
    )
    made.save_to_disk(tmp_path / "d")
    assert read_table(tmp_path / "d")["label"].to_pylist() == ["SPAM", "HAM", None]


def test_categories_are_decoded(tmp_path):
    table = pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()})
    write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["text"].type == pa.string()


def test_jsonl_is_exact(tmp_path):
    import datetime

    row = {
        "n": 2**53 + 1,
        "none": None,
        "f": 0.1 + 0.2,
        "d": datetime.date(2024, 1, 2),
        "b": b"\xff",
    }
    write_table(pa.Table.from_pylist([row]), tmp_path / "t.jsonl")
    line = (tmp_path / "t.jsonl").read_text()
    assert (
        line
        == '{"n": 9007199254740993, "none": null, "f": 0.30000000000000004, "d": "2024-01-02", "b": "/w=="}\n'
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,text\n1,x\n".encode("utf-16"), "is UTF-16; expected UTF-8"),
        ("a.jsonl", b"", "a.jsonl: is empty; expected at least one row"),
        ("a.csv", b"id,text\n", "a.csv: is empty"),
        ("a.jsonl", b'{"id": 1}\n{"id": \n', "a.jsonl:2: not JSON: Expecting value"),
        ("a.jsonl", b'{"id": 1}\n[1]\n', "a.jsonl:2: expected a JSON object, got list"),
        (
            "a.jsonl",
            b'{"t": "x"}\n{"t": "\xff"}\n',
            r"a.jsonl:2: not UTF-8 \(byte 0xff at position 7\)",
        ),
        ("a.csv", b"id,text\n1,caf\xe9\n", r"a.csv:2: not UTF-8 \(byte 0xe9"),
        (
            "a.csv",
            b"id,text\n1,a\n2,b,c\n",
            "a.csv:3: cannot be read as CSV: .*Expected 2 columns, got 3",
        ),
        ("a.jsonl", b'{"id": 1}\n{"id": "x"}\n', "a.jsonl:2: .*changed from number to string"),
        ("a.json", b"[]", "unknown table format .json; expected one of"),
        ("a.parquet", b"not parquet", "cannot be read as .parquet"),
        ("a.jsonl.gz", b"not gzip", "cannot be"),
    ],
)
def test_bad_files_say_what_and_where(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"no such file, did you mean '.*train.jsonl'"):
        read_table(tmp_path / "tran.jsonl")


def test_unwritable_formats(tmp_path):
    with pytest.raises(DataError, match="cannot write .xlsx"):
        write_table(pa.table({"a": [1]}), tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="cannot write .csv"):
        write_table(pa.table({"a": [[1]]}), tmp_path / "a.csv")
    assert list(Path(tmp_path).iterdir()) == []


class TestCheckRows:
    TABLE = pa.table({"key": ["a", "b", "c"], "text": ["x", "y", "z"], "n": [1, 2, 3]})

    def check(self, table: pa.Table, **options: object) -> pa.Table:
        options = {"text": ["text"], "id_column": "key", "file": "f.csv", **options}
        return check_rows(table, **options)  # type: ignore[arg-type]

    def test_ids_come_from_the_column_or_are_numbered(self):
        assert self.check(self.TABLE)["id"].to_pylist() == ["a", "b", "c"]
        numbered = self.check(self.TABLE, id_column=None, prefix="train")
        assert numbered["id"].to_pylist() == ["train-0", "train-1", "train-2"]

    def test_two_columns_of_one_name(self):
        table = self.TABLE.rename_columns(["key", "text", "text"])
        with pytest.raises(DataError, match="column 'text': two columns have this name"):
            self.check(table)

    def test_missing_column(self):
        with pytest.raises(
            DataError, match=r"f.csv, column 'txt': is missing, did you mean 'text'\?"
        ):
            self.check(self.TABLE, text=["txt"])

    def test_not_text(self):
        with pytest.raises(DataError, match="column 'n': expected text, got int64"):
            self.check(self.TABLE, text=["n"])

    def test_duplicate_ids(self):
        table = self.TABLE.set_column(0, "key", [["a", "b", "a"]])
        with pytest.raises(DataError, match="row 'a'.*used more than once.*rows number 1 and 3"):
            self.check(table)

    def test_empty_id(self):
        table = self.TABLE.set_column(0, "key", [["a", None, "c"]])
        with pytest.raises(DataError, match="the id of row number 2 is empty"):
            self.check(table)

    @pytest.mark.parametrize("blank", ["", "  \n", None])
    def test_a_row_without_text_is_named(self, blank):
        table = self.TABLE.set_column(1, "text", [["x", blank, "z"]])
        with pytest.raises(DataError, match="row 'b', column 'text': the text is empty"):
            self.check(table)

    def test_one_of_several_text_columns_is_enough(self):
        table = self.TABLE.append_column("body", [["", "y", ""]])
        assert self.check(table, text=["text", "body"]).num_rows == 3
