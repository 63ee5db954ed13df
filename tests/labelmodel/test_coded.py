"""Votes as codes: there and back, told apart, counted, tabulated."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmlabel.labelmodel.coded import coded_rows, encode, layout_of, silent_rows


@st.composite
def voting(draw):
    k, m = draw(st.integers(2, 10)), draw(st.integers(1, 40))
    n = draw(st.integers(1, 30))
    return k, draw(arrays(np.int8, (n, m), elements=st.integers(-1, k - 1)))


@settings(max_examples=100)
@given(voting())
def test_codes_are_the_votes(drawn):
    k, votes = drawn
    layout = layout_of(votes.shape[1], k)
    assert layout is not None
    codes, keys = encode(votes, layout)
    np.testing.assert_array_equal(layout.decode(codes), votes)
    assert len(set(keys.tolist())) == len(np.unique(votes, axis=0))
    np.testing.assert_array_equal(silent_rows(keys, layout), (votes < 0).all(axis=1))


@settings(max_examples=100)
@given(voting(), st.integers(0, 9))
def test_counts_and_tables_are_those_of_the_votes(drawn, seed):
    k, votes = drawn
    rng = np.random.default_rng(seed)
    n, m = votes.shape
    layout = layout_of(m, k)
    assert layout is not None
    codes, _ = encode(votes, layout)
    weights = rng.random(n)
    said = votes[:, :, None] == np.arange(-1, k)
    np.testing.assert_allclose(
        layout.counts(codes, weights), (said * weights[:, None, None]).sum(axis=0)
    )
    terms = rng.normal(size=(2, m, k + 1))
    looked_up = sum(table[:, codes[:, i]] for i, table in enumerate(layout.tables(terms)))
    np.testing.assert_allclose(looked_up, np.einsum("nmb,cmb->cn", said, terms), atol=1e-9)


@settings(max_examples=100)
@given(voting(), st.integers(0, 9))
def test_distinct_rows_have_the_weight_of_all(drawn, seed):
    k, votes = drawn
    layout = layout_of(votes.shape[1], k)
    assert layout is not None
    weights = np.random.default_rng(seed).integers(0, 3, len(votes)).astype(float)
    rows, covered = coded_rows(votes, layout, weights)
    np.testing.assert_array_equal(covered, (votes >= 0).any(axis=1))
    found = {
        tuple(v): w
        for v, w in zip(layout.decode(rows.codes).tolist(), rows.weights, strict=True)
        if w > 0
    }
    expected: dict[tuple[int, ...], float] = {}
    for v, w in zip(votes.tolist(), weights, strict=True):
        if w > 0 and max(v) >= 0:
            expected[tuple(v)] = expected.get(tuple(v), 0) + w
    assert found == expected
    both = rows.joined(rows)
    assert both.weights.sum() == 2 * rows.weights.sum()
