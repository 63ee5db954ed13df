"""A student that answers where it is sure: the accuracy it promises holds."""

from __future__ import annotations

import numpy as np
import pytest

from llmlabel.distill.selective import lower_bound, selective_cut
from llmlabel.errors import ConfigError, DataError


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(4, 1, n)  # the chance to be right; what the student says is bolder
    return p**0.5, rng.random(n) < p


def test_the_promise_holds_as_often_as_it_says():
    target, broken, answered = 0.9, 0, []
    big_sure, big_right = draw(200_000, 10_000)
    for seed in range(300):
        cut = selective_cut(*draw(400, seed), target)
        chosen = big_sure >= cut.threshold
        answered.append(chosen.mean())
        broken += bool(chosen.any()) and big_right[chosen].mean() < target
    assert broken / 300 <= 0.08  # 5 % and three standard errors
    assert np.mean(answered) > 0.2  # and it is not kept by saying nothing


def test_nothing_is_answered_where_nothing_is_good_enough():
    rng = np.random.default_rng(0)
    cut = selective_cut(rng.random(500), rng.random(500) < 0.6, 0.97)
    assert cut.threshold > 1
    assert cut.answered == 0


def test_everything_is_where_all_is_right():
    cut = selective_cut(np.linspace(0.4, 1, 300), np.ones(300, bool), 0.95)
    assert cut.answered == 1
    assert cut.low >= 0.95


def test_rows_that_are_equally_sure_are_answered_together():
    sure = np.repeat([0.9, 0.6], 150)
    right = np.repeat([True, False], 150)
    cut = selective_cut(sure, right, 0.9)
    assert (cut.threshold, cut.answered) == (0.9, 0.5)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (97, 100)])
def test_the_bound_is_that_of_scipy(right, n):
    from scipy.stats import binomtest

    expected = binomtest(right, n, alternative="greater").proportion_ci(0.95, "exact").low
    assert lower_bound(right, n) == pytest.approx(expected)


def test_bad_input():
    with pytest.raises(ConfigError, match="target: expected a share"):
        selective_cut([0.5], [True], 97)
    with pytest.raises(DataError, match="one truth value per row"):
        selective_cut([0.5], [True, False], 0.9)
    assert selective_cut([], [], 0.9).threshold > 1
