from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.votes import VoteMatrix

CLASSES = ("A", "B", "C")


def matrices() -> st.SearchStrategy[VoteMatrix]:
    shapes = st.tuples(st.integers(0, 12), st.integers(1, 5))
    votes = shapes.flatmap(lambda s: arrays(np.int16, s, elements=st.integers(-1, 2)))
    return st.builds(_matrix, votes, st.booleans())


def _matrix(votes: np.ndarray, confident: bool) -> VoteMatrix:
    conf = np.where(votes >= 0, np.float32(0.25) + votes * np.float32(0.125), np.nan)
    names = [f"lf{j}" for j in range(votes.shape[1])]
    return VoteMatrix(votes, names, CLASSES, conf if confident else None)


@given(matrices())
def test_long_format_round_trip(matrix):
    ids = [f"r{i}" for i in range(len(matrix))]
    table = matrix.to_long(ids)
    back, back_ids = VoteMatrix.from_long(table, CLASSES, ids=ids, lf_names=matrix.lf_names)
    assert back == matrix
    assert back_ids == ids
    assert table.num_rows == int((matrix.votes >= 0).sum())


@given(matrices())
def test_file_round_trip_is_exact_and_without_pickle(matrix):
    file = io.BytesIO()
    matrix.save(file)
    file.seek(0)
    assert VoteMatrix.load(file) == matrix


@given(matrices())
def test_coverage_counts_what_is_not_abstained(matrix):
    expected = [np.mean(matrix[name] >= 0) if len(matrix) else 0.0 for name in matrix.lf_names]
    assert np.allclose(matrix.coverage(), expected)
    assert matrix.covered().tolist() == [any(v >= 0 for v in row) for row in matrix.votes]


def test_votes_are_read_only_and_not_the_callers_array():
    mine = np.array([[0], [1]], np.int16)
    matrix = VoteMatrix(mine, ["a"], CLASSES)
    mine[0, 0] = 2
    assert matrix["a"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        matrix.votes[0, 0] = 1


def test_a_vote_outside_the_classes_names_row_and_lf():
    with pytest.raises(DataError, match=r"row 1: LF 'b' voted 7; expected -1 \(abstain\) to 2"):
        VoteMatrix([[0, 1], [0, 7]], ["a", "b"], CLASSES)
    with pytest.raises(DataError, match="LF 'a' voted -2"):
        VoteMatrix([[-2]], ["a"], CLASSES)


@pytest.mark.parametrize(
    ("votes", "names", "message"),
    [
        ([[0, 1]], ["a"], r"expected shape \(n, 1\)"),
        ([[0, 1]], ["a", "a"], "two labeling functions have the name 'a'"),
        ([[0.5]], ["a"], "expected integers"),
        ([["x"]], ["a"], "expected integers"),
    ],
)
def test_wrong_matrices(votes, names, message):
    with pytest.raises(DataError, match=message):
        VoteMatrix(votes, names, CLASSES)


def test_confidences_are_checked_and_blank_where_abstained():
    matrix = VoteMatrix([[0, -1]], ["a", "b"], CLASSES, [[0.5, 0.9]])
    assert matrix.confidences is not None
    assert np.isnan(matrix.confidences[0, 1])
    with pytest.raises(DataError, match="LF 'a' gave the confidence 1.5"):
        VoteMatrix([[0]], ["a"], CLASSES, [[1.5]])
    with pytest.raises(DataError, match="shape"):
        VoteMatrix([[0]], ["a"], CLASSES, [[0.5, 0.5]])


def test_select_and_take():
    matrix = VoteMatrix([[0, 1], [2, -1]], ["a", "b"], CLASSES, [[0.5, 0.6], [0.7, np.nan]])
    assert matrix.select(["b"]).votes.tolist() == [[1], [-1]]
    assert matrix.take([False, True]).votes.tolist() == [[2, -1]]
    with pytest.raises(UnknownNameError, match="did you mean 'b'"):
        matrix.select(["bb"])


def test_long_format_errors():
    table = pa.table({"task": ["r", "r"], "worker": ["w", "w"], "label": ["A", "B"]})
    with pytest.raises(DataError, match="worker 'w' voted more than once"):
        VoteMatrix.from_long(table, CLASSES)
    with pytest.raises(UnknownNameError, match="unknown class 'B'"):
        VoteMatrix.from_long(table, ["A", "X"])
    with pytest.raises(DataError, match="'worker' is missing"):
        VoteMatrix.from_long(table.drop_columns(["worker"]), CLASSES)


def test_votes_mapped_from_disk_are_not_copied(tmp_path):
    np.save(tmp_path / "votes.npy", np.array([[0, -1], [1, 1]], np.int8))
    mapped = np.load(tmp_path / "votes.npy", mmap_mode="r")
    L = VoteMatrix(mapped, ["a", "b"], ["A", "B"])
    assert np.shares_memory(L.votes, mapped)
    writable = np.array([[0, -1]], np.int8)
    own = VoteMatrix(writable, ["a", "b"], ["A", "B"])
    writable[0, 0] = 1
    assert own.votes[0, 0] == 0


def test_more_than_127_classes_take_two_bytes():
    names = [f"c{i}" for i in range(128)]
    assert VoteMatrix([[127]], ["a"], names).votes.dtype == np.int16
    assert VoteMatrix([[126]], ["a"], names[:-1]).votes.dtype == np.int8


def test_sparse_votes_outside_the_classes_are_named():
    said = sp.coo_array(([0, 7], ([0, 2], [1, 0])), shape=(3, 2))
    with pytest.raises(DataError, match="row 2: LF 'a' voted 7; expected -1"):
        VoteMatrix.from_sparse(said, ["a", "b"], ["A", "B"])
    with pytest.raises(DataError, match="for 3 LFs"):
        VoteMatrix.from_sparse(said, ["a", "b", "c"], ["A", "B"])
