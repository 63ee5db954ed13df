"""Semantic duplicates are the pairs whose vectors are near."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.lsh import joined
from llmlabel.corpus.semantic import find_semantic, semantic_pairs
from llmlabel.errors import ConfigError, DataError


def vectors(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(n // 3, 1), 16))
    found = centres[random.integers(0, len(centres), n)] + 0.15 * random.normal(size=(n, 16))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 100), st.integers(1, 20))
def test_all_pairs_above_the_cosine_in_any_blocks(n: int, seed: int, block: int) -> None:
    table = vectors(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmlabel.corpus.semantic._BLOCK", block)
        found = semantic_pairs(table, 0.8)
    cosines = table.astype(np.float64) @ table.astype(np.float64).T
    clear = np.abs(cosines - 0.8) > 1e-5
    expected = np.triu((cosines >= 0.8) & clear, 1)
    got = np.zeros((n, n), bool)
    got[found.left, found.right] = True
    assert np.array_equal(got & clear, expected)
    assert np.allclose(found.similarity, cosines[found.left, found.right], atol=1e-5)


def test_neighbours_find_the_same_clusters_and_equal_vectors() -> None:
    table = np.concatenate([vectors(300, 1), np.repeat(vectors(1, 2), 40, axis=0)])
    exact, near = semantic_pairs(table, 0.85), semantic_pairs(table, 0.85, neighbours=20)
    one, other = (joined(len(table), pairs.left, pairs.right) for pairs in (exact, near))
    assert (one == other).mean() > 0.98
    assert len(np.unique(other[300:])) == 1
    codes = near.left * len(table) + near.right
    assert len(np.unique(codes)) == len(codes)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(DataError, match=r"row 1: expected unit vectors, got a length of 2"):
        semantic_pairs(np.array([[1.0, 0.0], [2.0, 0.0]]))
    with pytest.raises(DataError, match="row 0: expected unit vectors, got a length of nan"):
        semantic_pairs(np.array([[np.nan, 0.0]]))
    with pytest.raises(DataError, match=r"expected vectors of shape \(n, d\)"):
        semantic_pairs(np.ones(3))
    with pytest.raises(ConfigError, match="threshold"):
        semantic_pairs(np.eye(2), 0.0)


def test_clusters_keep_the_best_and_say_how_near_the_others_are() -> None:
    angles = np.array([0.0, 0.3, 0.6, 2.0])
    table = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = find_semantic(table, threshold=0.95, keep="best", values=[0.9, 0.5, 0.1, 0.0])
    assert found.kind.tolist() == ["kept", "semantic", "linked", ""]
    assert found.keep.tolist() == [True, False, False, True]
    assert found.similarity[1:3] == pytest.approx(np.cos([0.3, 0.6]), abs=1e-5)
    assert found.verdict().reason[1] == "semantic duplicate"
