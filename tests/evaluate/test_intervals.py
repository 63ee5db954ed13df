from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.evaluate import accuracy, bootstrap, bootstrap_difference, macro_f1, mcnemar

METRICS = {"accuracy": accuracy, "macro_f1": macro_f1}


def noisy(rng, n, k, right):
    gold = rng.integers(0, k, n)
    said = np.where(rng.random(n) < right, gold, rng.integers(0, k, n))
    return gold, said


@pytest.mark.parametrize("metric", METRICS)
def test_agrees_with_resampling_row_by_row(metric):
    rng = np.random.default_rng(0)
    gold, said = noisy(rng, 150, 3, 0.7)
    said[::10] = -1
    found = bootstrap(gold, said, 3, metric, resamples=20_000)
    rows = rng.integers(0, 150, (4_000, 150))
    plain = [METRICS[metric](gold[r], said[r], 3) for r in rows]
    assert found.value == pytest.approx(METRICS[metric](gold, said, 3))
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(plain, [0.025, 0.975]), atol=0.01
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_agrees_with_resampling_row_by_row(metric):
    rng = np.random.default_rng(1)
    gold, a = noisy(rng, 150, 3, 0.8)
    b = np.where(rng.random(150) < 0.3, rng.integers(0, 3, 150), a)
    score = METRICS[metric]
    found = bootstrap_difference(gold, a, b, 3, metric, resamples=20_000)
    rows = rng.integers(0, 150, (4_000, 150))
    plain = [score(gold[r], a[r], 3) - score(gold[r], b[r], 3) for r in rows]
    assert found.value == pytest.approx(score(gold, a, 3) - score(gold, b, 3))
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(plain, [0.025, 0.975]), atol=0.012
    )


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(400):
        right = rng.random(200) < 0.8
        found = bootstrap(np.zeros(200, int), np.where(right, 0, 1), 2, level=0.9)
        inside += found.low <= 0.8 <= found.high
    assert 0.85 < inside / 400 < 0.95


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(METRICS)))
def test_seeded_and_blind_to_row_order(seed, metric):
    rng = np.random.default_rng(seed)
    gold, said = noisy(rng, 40, 4, 0.6)
    p = rng.dirichlet(np.ones(4), 40).round(1)
    p[:, 0] += 1 - p.sum(axis=1)
    p = np.clip(p, 0, 1) / np.clip(p, 0, 1).sum(axis=1, keepdims=True)
    order = rng.permutation(40)
    for predicted in (said, p):
        found = bootstrap(gold, predicted, 4, metric, seed=seed)
        assert bootstrap(gold[order], predicted[order], 4, metric, seed=seed) == found
        assert found.low <= found.value + 0.2
        assert found.low <= found.high


def test_another_seed_draws_other_rows_and_a_higher_level_is_wider():
    gold, said = noisy(np.random.default_rng(3), 300, 3, 0.5)
    found = bootstrap(gold, said, 3)
    assert bootstrap(gold, said, 3, seed=1) != found
    wider = bootstrap(gold, said, 3, level=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_nothing_to_vary_has_no_width():
    found = bootstrap([0, 1], [0, 1], 2)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    same = bootstrap_difference([0, 1, 1], [0, 0, 1], [0, 0, 1], 2, "macro_f1")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(4)
    gold, a = noisy(rng, 400, 2, 0.6)
    b = a.copy()
    b[:12] = 1 - gold[:12]
    paired = bootstrap_difference(gold, a, b, 2)
    alone = bootstrap(gold, a, 2)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_a_million_rows_take_a_second():
    gold, said = noisy(np.random.default_rng(5), 1_000_000, 10, 0.7)
    start = time.process_time()
    found = bootstrap(gold, said, 10, "macro_f1")
    assert time.process_time() - start < 5
    assert found.high - found.low < 0.01


def test_many_kinds_of_rows_are_drawn_in_blocks(monkeypatch):
    gold, said = noisy(np.random.default_rng(6), 2_000, 40, 0.5)
    whole = bootstrap(gold, said, 40, "macro_f1")
    monkeypatch.setattr("llmlabel.evaluate.intervals._BLOCK", 50_000)
    assert bootstrap(gold, said, 40, "macro_f1") == whole


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_mcnemar_is_the_exact_binomial_test(pairs):
    gold = np.zeros(len(pairs), int)
    a = np.array([0 if right else 1 for right, _ in pairs], int)
    b = np.array([0 if right else 1 for _, right in pairs], int)
    found = mcnemar(gold, a, b, 2)
    assert found.only_a == sum(x and not y for x, y in pairs)
    assert found.only_b == sum(y and not x for x, y in pairs)
    n, fewer = found.only_a + found.only_b, min(found.only_a, found.only_b)
    assert found.p_value == pytest.approx(min(1, 2 * binom.cdf(fewer, n, 0.5)) if n else 1)


def test_mcnemar_gives_a_tied_row_to_the_one_that_has_it_righter():
    found = mcnemar([0, 0], [[0.5, 0.5], [0.5, 0.5]], [1, 0], 2)
    assert (found.only_a, found.only_b) == (1, 1)


def test_wrong_input():
    with pytest.raises(UnknownNameError, match="unknown metric 'acuracy', did you mean 'accuracy'"):
        bootstrap([0], [0], 2, "acuracy")
    with pytest.raises(ConfigError, match="level: expected a share between 0 and 1, got 95"):
        bootstrap([0], [0], 2, level=95)
    with pytest.raises(ConfigError, match="resamples: expected at least 1, got 0"):
        bootstrap([0], [0], 2, resamples=0)
    with pytest.raises(DataError, match="no rows with gold labels"):
        bootstrap([], [], 2)
    with pytest.raises(DataError, match="got 2 gold labels and 1 predictions"):
        bootstrap_difference([0, 1], [0, 1], [0], 2)
