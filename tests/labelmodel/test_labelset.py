from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.errors import DataError
from llmlabel.io import read_table, write_table
from llmlabel.labelmodel import LabelSet


@st.composite
def label_sets(draw, min_rows=0):
    n, k = draw(st.integers(min_rows, 8)), draw(st.integers(2, 4))
    raw = draw(arrays(np.float64, (n, k), elements=st.floats(0.0, 1.0))) + 1e-9
    covered = draw(arrays(np.bool_, n))
    classes = draw(st.lists(st.text(min_size=1, max_size=5), min_size=k, max_size=k, unique=True))
    ids = draw(st.lists(st.integers(0, 99), min_size=n, max_size=n, unique=True))
    return LabelSet(ids, classes, raw / raw.sum(axis=1, keepdims=True), covered)


@given(label_sets())
def test_table_round_trip_is_exact(labels):
    table = labels.to_table()
    assert LabelSet.from_table(table) == labels
    names = [f"p.{c}" for c in labels.classes]
    assert table.column_names == ["id", "label", "confidence", "covered", *names]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_file_round_trip(tmp_path, suffix):
    thirds = np.full((1, 3), 1 / 3)
    labels = LabelSet(["a"], ["x", "y", "z"], thirds, [True])
    write_table(labels.to_table(), tmp_path / f"l{suffix}")
    back = LabelSet.from_table(read_table(tmp_path / f"l{suffix}"))
    np.testing.assert_allclose(back.probabilities, thirds, atol=1e-6)
    assert (back.ids, back.classes, back.covered.tolist()) == (("a",), ("x", "y", "z"), [True])


@given(label_sets())
def test_only_rows_with_votes_have_a_label(labels):
    assert ((labels.labels >= 0) == labels.covered).all()
    at = np.flatnonzero(labels.covered)
    np.testing.assert_array_equal(
        labels.probabilities[at, labels.labels[at]], labels.confidence[at]
    )
    names = labels.to_table()["label"].to_pylist()
    assert names == [labels.classes[i] if i >= 0 else None for i in labels.labels]


def test_arrays_are_read_only_and_not_the_callers():
    mine = np.array([[0.5, 0.5]])
    labels = LabelSet(["a"], ["x", "y"], mine, [True])
    mine[0] = 7
    assert labels.probabilities.tolist() == [[0.5, 0.5]]
    with pytest.raises(ValueError, match="read-only"):
        labels.probabilities[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "a"]}, "row 'a': the id occurs twice"),
        ({"ids": ["a"]}, r"expected shape \(1, 2\) for 1 ids and 2 classes, got \(2, 2\)"),
        ({"classes": ["x", "x"]}, "at least two classes, all different"),
        (
            {"probabilities": [[0.5, 0.5], [0.5, 0.6]]},
            r"row 'b': expected probabilities that sum to 1",
        ),
        ({"probabilities": [[0.5, 0.5], [np.nan, 1.0]]}, "row 'b': expected probabilities"),
        ({"probabilities": [[-0.5, 1.5], [0.5, 0.5]]}, "row 'a': expected probabilities"),
        ({"covered": [1, 0]}, "expected 2 booleans, got int64"),
        ({"covered": [True]}, "expected 2 booleans"),
    ],
)
def test_wrong_parts(change, message):
    parts = {
        "ids": ["a", "b"],
        "classes": ["x", "y"],
        "probabilities": [[0.5, 0.5], [1.0, 0.0]],
        "covered": [True, True],
    }
    with pytest.raises(DataError, match=message):
        LabelSet(**parts | change)


def test_wrong_tables():
    table = LabelSet(["a"], ["x", "y"], [[0.5, 0.5]], [True]).to_table()
    with pytest.raises(DataError, match="'covered' is missing"):
        LabelSet.from_table(table.drop_columns(["covered"]))
    with pytest.raises(DataError, match="at least two classes"):
        LabelSet.from_table(table.drop_columns(["p.x"]))
    holes = table.set_column(4, "p.x", pa.array([None], pa.float64()))
    with pytest.raises(DataError, match=r"row 0, column 'p\.x': is empty"):
        LabelSet.from_table(holes)


def test_table_is_json_ready():
    labels = LabelSet([1], ["x", "y"], [[0.25, 0.75]], [True])
    assert json.loads(json.dumps(labels.to_table().to_pylist())) == [
        {"id": 1, "label": "y", "confidence": 0.75, "covered": True, "p.x": 0.25, "p.y": 0.75}
    ]
