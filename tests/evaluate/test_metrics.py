from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from llmlabel.errors import DataError
from llmlabel.evaluate import (
    accuracy,
    brier,
    class_scores,
    confusion,
    decisions,
    ece,
    macro_f1,
    nll,
    reliability,
)


@st.composite
def labeled(draw, min_rows=1, abstain=False):
    k, n = draw(st.integers(2, 5)), draw(st.integers(min_rows, 25))
    gold = draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    said = draw(arrays(np.int64, n, elements=st.integers(-1 if abstain else 0, k - 1)))
    return gold, said, k


@st.composite
def probable(draw, min_rows=1):
    k, n = draw(st.integers(2, 5)), draw(st.integers(min_rows, 25))
    gold = draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    raw = draw(arrays(np.float64, (n, k), elements=st.floats(0.001, 1.0)))
    return gold, raw / raw.sum(axis=1, keepdims=True), k


@given(labeled())
def test_hard_labels_agree_with_scikit_learn(case):
    gold, said, k = case
    assert accuracy(gold, said, k) == pytest.approx(reference.accuracy_score(gold, said))
    assert macro_f1(gold, said, k) == pytest.approx(
        reference.f1_score(gold, said, average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(
        confusion(gold, said, k)[:, :k], reference.confusion_matrix(gold, said, labels=range(k))
    )
    scores = class_scores(gold, said, k)
    theirs = reference.precision_recall_fscore_support(
        gold, said, labels=range(k), zero_division=np.nan
    )
    np.testing.assert_allclose(scores.precision, theirs[0])
    np.testing.assert_allclose(scores.recall, theirs[1])
    np.testing.assert_allclose(scores.f1, theirs[2])
    np.testing.assert_array_equal(scores.support, theirs[3])


@given(labeled(abstain=True))
def test_an_abstention_is_wrong_and_counted_apart(case):
    gold, said, k = case
    counts = confusion(gold, said, k)
    assert counts.sum() == len(gold)
    np.testing.assert_array_equal(counts[:, k], np.bincount(gold[said < 0], minlength=k))
    assert accuracy(gold, said, k) == pytest.approx((gold == said).mean())
    np.testing.assert_array_equal(
        class_scores(gold, said, k).support, np.bincount(gold, minlength=k)
    )


@given(probable())
def test_probabilities_agree_with_scikit_learn(case):
    gold, p, k = case
    assert nll(gold, p) == pytest.approx(reference.log_loss(gold, p, labels=range(k)))
    one_hot = np.eye(k)[gold]
    assert brier(gold, p) == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())


@given(probable())
def test_ece_agrees_with_a_plain_loop(case):
    gold, p, k = case
    confidence, right = p.max(axis=1), decisions(p, k)[np.arange(len(gold)), gold]
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
    assert ece(gold, p) == pytest.approx(expected)


@given(probable())
def test_reliability_holds_every_row_once(case):
    gold, p, k = case
    curve = reliability(gold, p)
    assert sum(curve.count) == len(gold)
    assert min(curve.count) > 0
    for low, high, mean in zip(curve.low, curve.high, curve.confidence, strict=True):
        assert low - 1e-12 <= mean <= high + 1e-12
    total = np.dot(curve.count, curve.accuracy)
    assert total == pytest.approx(decisions(p, k)[np.arange(len(gold)), gold].sum())


@given(probable(), st.randoms(use_true_random=False))
def test_class_order_helps_nobody(case, random):
    gold, p, k = case
    p = np.round(p * 4)  # many ties
    p[p.sum(axis=1) == 0] = 1
    p /= p.sum(axis=1, keepdims=True)
    order = np.array(random.sample(range(k), k))
    there = accuracy(np.argsort(order)[gold], p[:, order], k)
    assert there == pytest.approx(accuracy(gold, p, k))


def test_a_tie_counts_by_expectation():
    p = [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0], [0.4, 0.4 - 1e-15, 0.2]]
    np.testing.assert_allclose(decisions(p, 3), [[1 / 3] * 3, [0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert accuracy([0, 1, 2], p, 3) == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    np.testing.assert_array_equal(class_scores([0, 1, 2], p, 3).support, [1, 1, 1])


def test_a_certain_error_costs_a_finite_amount():
    assert nll([0], [[0.0, 1.0]]) == pytest.approx(-np.log(1e-12))


def test_no_rows_is_nan():
    none = np.zeros((0, 2))
    found = [f([], none, 2) for f in (accuracy, macro_f1)] + [
        f([], none) for f in (nll, brier, ece)
    ]
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([0, 2], [0, 1], "row 1: gold: expected 0 to 1 for 2 classes, got 2"),
        ([0, -1], [0, 1], "row 1: gold: expected 0 to 1 for 2 classes, got -1"),
        ([0, 1], [0, -2], "row 1: predicted: expected -1 to 1"),
        ([0, 1], [0.5, 1.5], "predicted: expected class indices"),
        ([0], [0, 1], "got 1 gold labels and 2 predictions"),
        ([0], [[0.5, 0.6]], "row 0: expected probabilities that sum to 1"),
        ([0], [[np.nan, 1.0]], "row 0: expected probabilities"),
        ([0], [[0.2, 0.3, 0.5]], r"expected shape \(n, 2\), got \(1, 3\)"),
    ],
)
def test_wrong_input(gold, predicted, message):
    with pytest.raises(DataError, match=message):
        accuracy(gold, predicted, 2)
