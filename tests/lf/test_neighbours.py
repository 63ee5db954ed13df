"""The nearest anchors: exact in blocks, approximate by an index."""

from __future__ import annotations

import numpy as np
import pytest

import llmlabel.lf.neighbours as module
from llmlabel.embed import unit_rows
from llmlabel.errors import DataError, MissingExtraError
from llmlabel.lf import nearest
from llmlabel.lf.neighbours import approximate_search, top_k

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


def clusters(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(20, 32))
    return unit_rows(centres[rng.integers(0, 20, rows)] + rng.normal(size=(rows, 32)))


def test_the_index_finds_nearly_all_that_the_product_finds():
    pytest.importorskip("usearch", reason="usearch is not installed")
    anchors, queries = clusters(3000, 0), clusters(400, 1)
    at, cosine = approximate_search(anchors)(queries, 5)
    exact_at, exact = top_k(queries, anchors, 5)
    assert (at[:, 0] == exact_at[:, 0]).mean() > 0.97
    assert np.abs(cosine - exact).max() < 0.1
    assert (np.diff(cosine, axis=1) <= 0).all()
    again, _ = approximate_search(anchors)(queries, 5)
    np.testing.assert_array_equal(at, again)
    assert approximate_search(anchors)(queries[:0], 5)[0].shape == (0, 5)
    with pytest.raises(DataError, match="expected k from 1 to the 3000 anchors"):
        approximate_search(anchors)(queries, 0)


class Stored:
    def __init__(self, anchors: np.ndarray) -> None:
        self.anchors = anchors

    def encode(self, texts):
        return self.anchors[[int(t) for t in texts]]


def test_nearest_votes_alike_with_an_index():
    pytest.importorskip("usearch", reason="usearch is not installed")
    anchors, queries = clusters(2000, 2), clusters(500, 3)
    names = {c: [str(i) for i in range(2000) if i % 3 == c_] for c_, c in enumerate("ABC")}
    options = {"threshold": 0.5, "margin": 0.02}
    batch = {"embedding": queries}
    exact = nearest("n", names, Stored(anchors), **options)(batch)[0]
    approximate = nearest("n", names, Stored(anchors), approximate=True, **options)(batch)[0]
    assert (exact >= 0).mean() > 0.1
    assert (exact == approximate).mean() > 0.97


def test_without_usearch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs the package 'usearch'"):
        approximate_search(np.eye(3))


def test_a_prototype_given_twice_is_one():
    encoded: list[str] = []

    class Counting(Stored):
        def encode(self, texts):
            encoded.extend(texts)
            return super().encode(texts)

    anchors = clusters(10, 4)
    lf = nearest("n", {"A": ["1", "1", "2"], "B": ["3", "3"]}, Counting(anchors))
    lf({"embedding": anchors})
    assert encoded == ["1", "2", "3"]
