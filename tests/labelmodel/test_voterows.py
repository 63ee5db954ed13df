from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.labelmodel.dependence import vote_shares_of
from llmlabel.labelmodel.voterows import (
    certainties,
    distinct_rows,
    merge_rows,
    sample_rows,
    vote_rows,
)

K = 3
VOTES = st.tuples(st.integers(1, 20), st.integers(1, 7)).flatmap(
    lambda shape: arrays(np.int16, shape, elements=st.integers(-1, K - 1))
)


def dense(rows):
    """The votes again, and their weights."""
    m = rows.shape[0]
    votes = np.full((len(rows), m), -1)
    chunk = rows.chunk(0, len(rows))
    votes[chunk.row, chunk.lf] = chunk.label
    return votes, rows.weights


def as_counts(votes, weights):
    return {tuple(v): pytest.approx(w) for v, w in zip(votes.tolist(), weights, strict=True)}


@given(VOTES)
def test_distinct_rows_are_the_rows_with_votes(votes):
    found, weights = dense(distinct_rows(votes, K))
    expected = {}
    for row in votes.tolist():
        if max(row) >= 0:
            expected[tuple(row)] = expected.get(tuple(row), 0) + 1
    assert as_counts(found, weights) == expected


@given(VOTES, VOTES)
def test_merged_shards_are_the_whole(one, other):
    other = np.resize(other, (len(other), one.shape[1])).astype(np.int16)
    whole = distinct_rows(np.concatenate([one, other]), K)
    parts = merge_rows(distinct_rows(one, K), distinct_rows(other, K))
    np.testing.assert_array_equal(parts.hashes, whole.hashes)
    np.testing.assert_array_equal(parts.cells, whole.cells)
    np.testing.assert_array_equal(parts.weights, whole.weights)


def test_rows_of_other_confidences_are_other_rows():
    votes = np.array([[0, 1], [0, 1], [0, 1], [0, 1]], np.int16)
    sure = np.array([[0.9, 0.8], [0.9, 0.8], [0.8, 0.9], [np.nan, 1.0]], np.float32)
    rows = distinct_rows(votes, K, sure)
    assert sorted(rows.weights.tolist()) == [1, 1, 2]
    hard = distinct_rows(votes[:1], K).hashes[0]
    assert hard in rows.hashes  # of the row whose votes are all sure
    np.testing.assert_allclose(certainties(np.array([1 / 3, 1, 2 / 3]), 3), [0, 1, 0.5], atol=1e-6)


def test_a_sample_keeps_the_heavy_rows_and_the_total():
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, K, (5_000, 9)).astype(np.int16)
    votes[:2_000] = votes[0]
    rows = distinct_rows(votes, K)
    some = sample_rows(rows, 400)
    assert len(some) == 400
    assert some.weights.sum() == pytest.approx(rows.weights.sum())
    heaviest = rows.hashes[rows.weights.argmax()]
    at = np.flatnonzero(some.hashes == heaviest)
    assert some.weights[at] == rows.weights.max()
    assert sample_rows(rows, len(rows)) is rows


@given(VOTES, st.integers(0, 2**32 - 1))
def test_shares_are_one_over_the_dependence_on_agreeing_votes(votes, seed):
    m = votes.shape[1]
    phi = np.triu(np.random.default_rng(seed).random((m, m)), 1)
    phi = np.where(phi > 0.6, phi, 0)
    phi += phi.T
    chunk = vote_rows(votes, K).chunk(0, len(votes))
    shares = vote_shares_of(chunk, phi, K)
    assert (shares is None) == (not phi.any())
    if shares is not None:
        for row, lf, share in zip(chunk.row, chunk.lf, shares, strict=True):
            agree = votes[row] == votes[row, lf]
            assert share == pytest.approx(1 / (1 + phi[lf, agree].sum()))
