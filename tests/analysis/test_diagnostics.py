"""The vectorised diagnostics against plain Python that reads like their definitions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.analysis import conflicts, correlations, coverage, diagnostics, overlaps, summary
from llmlabel.errors import DataError
from llmlabel.votes import VoteMatrix

BASE = ["name", "j", "Polarity", "Coverage", "Overlaps", "Conflicts"]


def matrix(votes, k):
    votes = np.asarray(votes, np.int16)
    return VoteMatrix(votes, [f"lf{j}" for j in range(votes.shape[1])], [f"c{i}" for i in range(k)])


@st.composite
def voting(draw):
    k, shape = draw(st.integers(2, 4)), (draw(st.integers(0, 12)), draw(st.integers(1, 5)))
    votes = draw(arrays(np.int16, shape, elements=st.integers(-1, k - 1)))
    gold = draw(arrays(np.int64, shape[0], elements=st.integers(-1, k - 1)))
    return matrix(votes, k), gold


@pytest.fixture(scope="module", params=[diagnostics._CHUNK, 3], ids=["whole", "3 rows at a time"])
def _chunk(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnostics, "_CHUNK", request.param)
        yield


def share(flags):
    flags = list(flags)
    return sum(flags) / len(flags) if flags else 0.0


def plain_row(L, gold, j):
    rows = L.votes.tolist()
    others = [[v for i, v in enumerate(row) if i != j and v != -1] for row in rows]
    mine = [row[j] for row in rows]
    judged = [(v, g) for v, g in zip(mine, gold, strict=True) if v != -1 and g != -1]
    correct = sum(v == g for v, g in judged)
    return {
        "name": L.lf_names[j],
        "j": j,
        "Polarity": [L.classes[v] for v in sorted(set(mine) - {-1})],
        "Coverage": share(v != -1 for v in mine),
        "Overlaps": share(v != -1 and bool(o) for v, o in zip(mine, others, strict=True)),
        "Conflicts": share(
            v != -1 and any(x != v for x in o) for v, o in zip(mine, others, strict=True)
        ),
        "Correct": correct,
        "Incorrect": len(judged) - correct,
        "Emp. Acc.": correct / len(judged) if judged else None,
    }


@pytest.mark.usefixtures("_chunk")
@given(voting())
def test_the_table_agrees_with_plain_python(case):
    L, gold = case
    found = summary(L, gold).to_table()
    expected = [plain_row(L, gold.tolist(), j) for j in range(L.shape[1])]
    assert found.column_names == [*BASE, "Correct", "Incorrect", "Emp. Acc."]
    for row, wanted in zip(found.to_pylist(), expected, strict=True):
        assert row.pop("Polarity") == wanted.pop("Polarity")
        assert row == pytest.approx(wanted)


@pytest.mark.usefixtures("_chunk")
@given(voting())
def test_matrices_agree_with_plain_python(case):
    L, _ = case
    m, rows = L.shape[1], L.votes.tolist()
    for a in range(m):
        for b in range(m):
            both = [(r[a], r[b]) for r in rows]
            assert overlaps(L)[a, b] == pytest.approx(share(x != -1 and y != -1 for x, y in both))
            assert conflicts(L)[a, b] == pytest.approx(
                share(x != -1 and y != -1 and x != y for x, y in both)
            )
    np.testing.assert_allclose(np.diag(overlaps(L)), coverage(L))


@pytest.mark.usefixtures("_chunk")
@given(voting())
def test_correlations_are_those_of_the_vote_indicators(case):
    L, _ = case
    n = len(L)
    x = (L.votes[:, :, None] == np.arange(len(L.classes))).astype(float)
    x -= x.mean(axis=0) if n else 0
    covariance = np.einsum("njc,nlc->jl", x, x)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    found = correlations(L)
    varies = np.diag(covariance) > 1e-9
    assert np.isnan(found[~varies]).all()
    inside = np.ix_(varies, varies)
    np.testing.assert_allclose(found[inside], covariance[inside] / scale[inside], atol=1e-9)


def test_two_classes_always_voted_have_pearsons_correlation():
    votes = np.random.default_rng(0).integers(0, 2, (200, 3))
    np.testing.assert_allclose(correlations(matrix(votes, 2)), np.corrcoef(votes.T), atol=1e-12)


def test_columns_stand_where_there_is_something_to_say():
    L = matrix([[0, 1], [1, -1]], 2)
    assert summary(L).to_table().column_names == BASE
    table = summary(L, learned_accuracies=[0.9, np.nan]).to_table()
    assert table.column_names == [*BASE, "Learned Acc."]
    assert table["Learned Acc."].to_pylist() == [0.9, None]
    assert summary(L, [0, -1], [0.9, 0.8]).to_table().column_names == [
        *BASE, "Correct", "Incorrect", "Emp. Acc.", "Learned Acc.",
    ]  # fmt: skip


def test_many_rows_take_seconds():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 200_000)
    votes = np.where(rng.random((200_000, 100)) < 0.3, gold[:, None], -1)
    L = matrix(votes, 3)
    start = time.process_time()
    found = summary(L, gold)
    assert time.process_time() - start < 5
    assert (found.empirical_accuracy == 1).all()


@pytest.mark.parametrize(
    ("gold", "learned", "message"),
    [
        ([0], None, r"gold: expected 2 class indices, got int64 of shape \(1,\)"),
        ([0.0, 1.0], None, "gold: expected 2 class indices, got float64"),
        ([0, 2], None, r"row 1: gold: expected -1 \(none\) to 1, got 2"),
        (None, [0.5], r"expected one per LF, shape \(2,\), got \(1,\)"),
    ],
)
def test_wrong_input(gold, learned, message):
    with pytest.raises(DataError, match=message):
        summary(matrix([[0, 1], [1, -1]], 2), gold, learned)
