from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.labelmodel import patterns
from llmlabel.labelmodel.patterns import find_patterns, one_hot

VOTES = st.tuples(st.integers(0, 20), st.integers(0, 10)).flatmap(
    lambda shape: arrays(np.int16, shape, elements=st.integers(-1, 2) | st.integers(-1, 32_766))
)


@given(VOTES)
def test_patterns_are_the_distinct_rows(votes):
    found = find_patterns(votes)
    assert sorted(map(tuple, found.votes)) == sorted({tuple(row) for row in votes})
    np.testing.assert_array_equal(found.votes[found.inverse], votes)
    assert found.weights.tolist() == [int((votes == row).all(axis=1).sum()) for row in found.votes]


@given(VOTES, st.data())
def test_weights_are_summed(votes, data):
    weights = np.array(
        data.draw(st.lists(st.integers(0, 5), min_size=len(votes), max_size=len(votes)))
    )
    found = find_patterns(votes, weights)
    for row, weight in zip(found.votes, found.weights, strict=True):
        assert weight == weights[(votes == row).all(axis=1)].sum()


def test_rows_that_share_a_hash_stay_apart(monkeypatch):
    monkeypatch.setattr(patterns, "hash_words", lambda words: np.zeros(len(words), np.uint64))
    votes = np.array([[0, 1], [1, 0], [0, 1]], np.int16)
    found = find_patterns(votes)
    assert len(found.votes) == 2
    np.testing.assert_array_equal(found.votes[found.inverse], votes)


def test_no_collision_among_rows_that_differ_little():
    bits = np.arange(1 << 16)[:, None] >> np.arange(16) & 1
    assert len(np.unique(patterns.row_hashes(bits.astype(np.int16)))) == 1 << 16


def test_many_rows_take_seconds():
    rng = np.random.default_rng(0)
    votes = np.where(rng.random((200_000, 100)) < 0.3, 1, -1).astype(np.int16)
    start = time.process_time()
    found = find_patterns(votes)
    assert time.process_time() - start < 4
    assert len(found.votes) > 199_000


@given(VOTES, st.integers(1, 4))
def test_one_hot_is_the_votes(votes, k):
    votes = np.minimum(votes, k - 1).astype(np.int16)
    dense = one_hot(votes, k).toarray().reshape(*votes.shape, k)
    np.testing.assert_array_equal(dense, votes[:, :, None] == np.arange(k))
