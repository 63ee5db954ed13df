"""Similarities: nearest anchors in blocks, and where to cut."""

from __future__ import annotations

import numpy as np
import pytest

import llmlabel.lf.thresholds as module
from llmlabel.errors import DataError
from llmlabel.lf.thresholds import threshold_from_distribution, threshold_from_gold, top_k

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_blocks_find_what_one_product_finds(k, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 40)
    vectors, anchors = RNG.normal(size=(53, 5)), RNG.normal(size=(7, 5))
    at, cosine = top_k(vectors, anchors, k)
    whole = vectors @ anchors.T
    expected = np.sort(whole, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(cosine, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        np.take_along_axis(whole, at, axis=1), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("k", [0, 8])
def test_more_than_there_are_is_an_error(k):
    with pytest.raises(DataError, match="expected k from 1 to the 7 anchors"):
        top_k(np.ones((2, 3)), np.ones((7, 3)), k)


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
