from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.errors import DataError
from llmlabel.evaluate import Evaluation, accuracy, ece, evaluate, macro_f1, nll


@st.composite
def cases(draw):
    k, n = draw(st.integers(2, 4)), draw(st.integers(1, 20))
    gold = draw(arrays(np.int64, n, elements=st.integers(-1, k - 1)))
    gold[0] = 0
    if draw(st.booleans()):
        predicted = draw(arrays(np.int64, n, elements=st.integers(-1, k - 1)))
    else:
        raw = draw(arrays(np.float64, (n, k), elements=st.integers(1, 5).map(float)))
        predicted = raw / raw.sum(axis=1, keepdims=True)
    covered = draw(st.none() | arrays(np.bool_, n))
    return gold, predicted, [f"c{i}" for i in range(k)], covered


@settings(max_examples=60)
@given(cases())
def test_round_trip_through_json(case):
    gold, predicted, classes, covered = case
    found = evaluate(gold, predicted, classes, covered=covered, resamples=50)
    assert Evaluation.from_dict(json.loads(json.dumps(found.as_dict(), allow_nan=False))) == found


@settings(max_examples=60)
@given(cases())
def test_figures_are_those_of_the_rows_with_gold(case):
    gold, predicted, classes, covered = case
    k, known = len(classes), gold >= 0
    found = evaluate(gold, predicted, classes, covered=covered, resamples=50)
    said = known & (covered if covered is not None else True)
    said &= (predicted >= 0) if predicted.ndim == 1 else True
    assert found.n == known.sum()
    assert found.coverage == pytest.approx(said.sum() / known.sum())
    right = accuracy(gold[said], predicted[said], k) * said.sum() if said.any() else 0
    assert found.accuracy.value == pytest.approx(right / known.sum())
    assert np.sum(found.confusion) == pytest.approx(found.n)
    assert np.sum(found.confusion, axis=0)[k] == pytest.approx(found.n - said.sum())
    assert [s.support for s in found.per_class] == np.bincount(gold[known], minlength=k).tolist()
    if not said.any():
        assert (found.covered_accuracy, found.nll, found.ece) == (None, None, None)
    else:
        assert found.covered_accuracy.value == pytest.approx(right / said.sum())
    if said.any() and predicted.ndim == 2:
        assert found.nll == pytest.approx(nll(gold[said], predicted[said]))
        assert found.ece == pytest.approx(ece(gold[said], predicted[said]))
        assert sum(found.reliability.count) == said.sum()
    if (said == known).all():
        assert found.macro_f1.value == pytest.approx(macro_f1(gold[known], predicted[known], k))


def test_a_prior_of_uncovered_rows_wins_nothing():
    gold, p = [1, 1, 0, 0], [[0.1, 0.9]] * 4
    found = evaluate(gold, p, ["A", "B"], covered=[True, False, True, False])
    assert (found.coverage, found.accuracy.value, found.covered_accuracy.value) == (0.5, 0.25, 0.5)
    assert found.confusion == ((0.0, 1.0, 1.0), (0.0, 1.0, 1.0))


def test_hard_labels_have_no_calibration():
    found = evaluate([0, 1], [0, 0], ["A", "B"])
    assert (found.nll, found.brier, found.ece, found.reliability) == (None, None, None, None)
    assert found.per_class[1].precision is None
    assert found.per_class[1].recall == 0.0


def test_a_class_without_rows_is_none_not_zero():
    absent = evaluate([0, 0], [0, 0], ["A", "B"]).per_class[1]
    assert (absent.precision, absent.recall, absent.f1, absent.support) == (None, None, None, 0)


@pytest.mark.parametrize(
    ("gold", "predicted", "covered", "message"),
    [
        ([-1, -1], [0, 1], None, "none of the 2 rows has a gold label"),
        ([], [], None, "none of the 0 rows"),
        ([0], [0, 1], None, r"gold: expected one label per prediction, shape \(2,\), got \(1,\)"),
        ([0, 1], [0, 1], [1, 0], "covered: expected 2 booleans, got int64"),
        ([0, 5], [0, 1], None, "gold: expected 0 to 1 for 2 classes, got 5"),
    ],
)
def test_wrong_input(gold, predicted, covered, message):
    with pytest.raises(DataError, match=message):
        evaluate(gold, predicted, ["A", "B"], covered=covered)


def test_what_is_no_evaluation():
    whole = evaluate([0], [0], ["A", "B"]).as_dict()
    for broken in ({}, whole | {"extra": 1}, {k: v for k, v in whole.items() if k != "n"}):
        with pytest.raises(DataError, match="this is no evaluation"):
            Evaluation.from_dict(broken)
