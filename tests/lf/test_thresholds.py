"""Where to cut similarities."""

from __future__ import annotations

import numpy as np
import pytest

from llmlabel.lf.thresholds import threshold_from_distribution, threshold_from_gold

RNG = np.random.default_rng(0)


def test_two_heaps_are_cut_between_them():
    values = np.concatenate([RNG.normal(0.7, 0.05, 200), RNG.normal(0.2, 0.05, 800)])
    assert 0.35 < threshold_from_distribution(values) < 0.55


def test_one_value_is_a_defined_cut():
    assert threshold_from_distribution([0.4] * 5) == pytest.approx(0.4, abs=0.6)


def test_gold_asks_for_precision():
    top = np.linspace(0.99, 0.01, 99)
    by_class = np.stack([top, np.zeros(99)], axis=1)
    gold = np.where(top > 0.5, 0, 1)
    cut = threshold_from_gold(by_class, gold, precision=0.9)
    assert 0.4 < cut < 0.52
    assert threshold_from_gold(by_class, np.ones(99, int)) > 1
    assert threshold_from_gold(by_class[:3], [0, 0, 0]) > 1
