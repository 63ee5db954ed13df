"""The students' benchmark: its scores and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.distill import Set, Split, draw, mean_of, measure_classes
from llmlabel.votes import VoteMatrix


def data_of(classes: tuple[str, ...], groups: dict[str, str]) -> Set:
    split = Split(["a", "b", "c", "d"], None, np.array([0, 1, 1, 0]))
    L = np.array([[0, 0], [1, 1], [1, 0], [0, -1]], np.int8)
    votes = VoteMatrix(L, ["rule", "llm"], classes)
    return Set(classes, split, split, split, votes, groups, np.array([0, 1, 0, -1]), None)


def test_f1_for_sms_and_accuracy_for_others():
    found, gold = np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])
    assert measure_classes(data_of(("ham", "spam"), {}), found, gold) == 50.0
    assert measure_classes(data_of(("A", "B"), {}), found, gold) == 50.0
    none = np.zeros(4, int)
    assert measure_classes(data_of(("ham", "spam"), {}), none, gold) == 0.0


def test_the_llm_is_silent_on_rows_that_it_did_not_read():
    from dataclasses import replace

    data = replace(data_of(("A", "B"), {"llm": "p"}), model="llm")
    targets, read = data.labels(np.array([0, 3]))
    assert read.tolist() == [True, False, False, False]
    assert targets[0].tolist() == [1, 0]
    assert data.labels()[1].tolist() == [True, True, True, False]


def test_means_with_their_intervals():
    assert mean_of("x", [90.0, 90.0]) == {"x": 90.0, "x_half_width": 0.0}
    found = mean_of("x", [89.0, 90.0, 91.0])
    assert found["x_half_width"] == pytest.approx(2.48, abs=0.01)
    assert len(set(draw(100, 30, 1).tolist())) == 30
