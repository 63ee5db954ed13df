from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.io.growing import growing_parquet, unite_schemas

VALUES = {
    "int": [1, None],
    "float": [0.5],
    "text": ["a", None],
    "list": [["x"], []],
    "struct": [{"a": 1}],
    "bool": [True],
    "null": [None],
}
tables = st.dictionaries(st.sampled_from("abc"), st.sampled_from(sorted(VALUES)), min_size=1).map(
    lambda kinds: pa.Table.from_pylist(
        [{name: VALUES[kind][0] for name, kind in kinds.items()}] * 2
    )
)


@given(st.lists(tables, min_size=1, max_size=4))
def test_every_row_and_column_arrives_whatever_comes_after(tmp_path_factory, several):
    path = tmp_path_factory.mktemp("growing") / "a.parquet"
    with growing_parquet(path) as file:
        for table in several:
            file.write(table)
    found = pq.read_table(path)
    assert found.num_rows == file.rows == 2 * len(several)
    assert set(found.column_names) == {n for t in several for n in t.column_names}
    for at, table in enumerate(several):
        for name in table.column_names:
            value = found[name][2 * at].as_py()
            assert (value is None) == (table[name][0].as_py() is None)
    assert [p.name for p in path.parent.iterdir()] == ["a.parquet"]


def test_numbers_become_floats_and_what_does_not_fit_text(tmp_path):
    with growing_parquet(tmp_path / "a.parquet") as file:
        file.write(pa.table({"score": [1], "tags": [["x"]]}))
        file.write(pa.table({"score": [0.5], "tags": ["y"]}))
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [
        {"score": 1.0, "tags": '["x"]'},
        {"score": 0.5, "tags": "y"},
    ]


def test_equal_tables_make_equal_bytes(tmp_path):
    for name in "ab":
        with growing_parquet(tmp_path / name) as file:
            file.write(pa.table({"x": pa.array([], pa.int64())}))
            file.write(pa.table({"x": [1.5], "y": ["a"]}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(tables, tables)
def test_united_schemas_hold_both_and_do_not_change_again(one, two):
    united = unite_schemas(one.schema, two.schema)
    assert set(united.names) == {*one.column_names, *two.column_names}
    assert unite_schemas(united, one.schema) == united
    assert unite_schemas(united, two.schema) == united
