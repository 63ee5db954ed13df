"""Contextual calibration, temperature and Platt scaling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError
from llmlabel.llm.calibration import (
    Calibration,
    content_free_requests,
    contextual_calibration,
    fit_calibration,
    fit_platt,
    fit_temperature,
)


def drawn(n, k, temperature, seed=0, bias=0.0):
    """Distributions that are `temperature` times too sure, and gold drawn from the true ones."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1.5, (n, k))
    true = np.exp(scores + bias * np.arange(k))
    true /= true.sum(axis=1, keepdims=True)
    gold = (rng.random((n, 1)) > true.cumsum(axis=1)).sum(axis=1)
    P = np.exp(temperature * scores)
    return P / P.sum(axis=1, keepdims=True), gold


@pytest.mark.parametrize(("k", "temperature"), [(2, 2.5), (4, 0.5), (8, 3.0)])
def test_a_planted_temperature_is_recovered(k, temperature):
    P, gold = drawn(4000, k, temperature)
    fitted = fit_temperature(P, gold)
    assert fitted.temperature == pytest.approx(temperature, rel=0.1)
    assert fitted.nll_after < fitted.nll_before
    assert (fitted.apply(P).argmax(axis=1) == P.argmax(axis=1)).all()


def test_a_planted_slope_and_bias_are_recovered():
    P, gold = drawn(6000, 2, 2.0, bias=0.7)
    fitted = fit_platt(P, gold)
    assert fitted.slope == pytest.approx(0.5, rel=0.1)
    assert fitted.bias[1] - fitted.bias[0] == pytest.approx(0.7, abs=0.1)


def test_no_rows_change_nothing_and_few_rows_little():
    P, gold = drawn(4000, 2, 4.0)
    none = fit_temperature(P[:0], gold[:0])
    assert none.temperature == pytest.approx(1, abs=1e-3)
    few = [fit_temperature(P[i : i + 3], gold[i : i + 3]).temperature for i in range(0, 90, 3)]
    assert min(few) > 0.3 and max(few) < 3.3
    assert fit_platt(P[:0], gold[:0]).slope == pytest.approx(1)
    # All right or all wrong: still finite.
    assert 0.1 < fit_temperature([[0.1, 0.9]] * 5, [1] * 5).temperature < 1
    assert 1 < fit_temperature([[0.1, 0.9]] * 5, [0] * 5).temperature < 10


def test_rows_without_gold_are_left_out():
    P, gold = drawn(200, 3, 2.0)
    more = np.concatenate([P, P[:50]]), np.concatenate([gold, np.full(50, -1)])
    assert fit_temperature(*more) == fit_temperature(P, gold)


def test_a_model_that_is_always_wrong_says_nothing_and_not_the_contrary():
    P = np.array([[0.1, 0.9], [0.9, 0.1]] * 200)
    gold = np.array([0, 1] * 200)
    fitted = fit_platt(P, gold)
    assert fitted.slope == 0
    np.testing.assert_allclose(fitted.apply(P), 0.5, atol=0.01)


def test_the_choice_is_made_by_held_out_rows():
    P, gold = drawn(2000, 2, 1.0)
    assert fit_calibration(P, gold).method == "none"
    P, gold = drawn(2000, 2, 3.0)
    assert fit_calibration(P, gold).method == "temperature"
    P, gold = drawn(2000, 2, 1.0, bias=1.5)
    assert fit_calibration(P, gold).method == "platt"
    P, gold = drawn(2000, 3, 3.0)
    assert fit_calibration(P, gold).method == "temperature"
    assert fit_calibration(P[:9], gold[:9]).method == "none"
    assert fit_calibration(P, gold, seed=1) == fit_calibration(P, gold, seed=1)


def test_calibrating_helps_on_rows_not_seen():
    P, gold = drawn(4000, 3, 3.0)
    made = fit_calibration(P[:100], gold[:100])
    Q = made.apply(P[100:])
    at = np.arange(len(Q))
    assert -np.log(Q[at, gold[100:]]).mean() < -np.log(P[100:][at, gold[100:]]).mean() - 0.1


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_contextual_calibration_maps_its_prior_to_uniform(rows):
    P = np.array(rows) + 0.01
    P /= P.sum(axis=1, keepdims=True)
    made = contextual_calibration(P)
    np.testing.assert_allclose(made.apply(P.mean(axis=0)), 1 / 3)
    W = np.diag(1 / P.mean(axis=0))
    expected = P[0] @ W
    np.testing.assert_allclose(made.apply(P[0]), expected / expected.sum())


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda p: sum(p) > 0.01),
    st.floats(0, 10),
)
def test_applied_rows_are_distributions_in_the_same_order(p, slope):
    given_p = np.array(p) / sum(p)
    out = Calibration("temperature", slope).apply(given_p)
    assert out.sum() == pytest.approx(1)
    assert (np.diff(out[np.argsort(given_p)]) >= -1e-12).all()


def test_what_is_no_distribution_is_refused():
    with pytest.raises(DataError, match=r"row 1: expected a distribution of sum 1"):
        fit_temperature([[0.5, 0.5], [0.5, 0.6]], [0, 1])
    with pytest.raises(DataError, match="expected -1 to 1, got 0 to 2"):
        fit_temperature([[0.5, 0.5], [0.5, 0.5]], [0, 2])
    with pytest.raises(DataError, match="expected 2 integers"):
        fit_temperature([[0.5, 0.5], [0.5, 0.5]], [0])
    with pytest.raises(ConfigError, match="for two classes, got 3"):
        fit_platt([[0.2, 0.3, 0.5]], [0])
    with pytest.raises(DataError, match="for 3 classes, got 2"):
        contextual_calibration([[0.2, 0.3, 0.5]]).apply([0.5, 0.5])
    with pytest.raises(DataError, match="shape"):
        Calibration("temperature", 0.5).apply([[1.0]])


def test_content_free_requests_ask_the_prompt_itself(prompt, task):
    asked = content_free_requests(prompt, task, model="m", params={"logprobs": True})
    assert [r.messages[-1]["content"] for r in asked] == ["<N/A>", "<[MASK]>", "<>"]
    assert {r.prompt_fingerprint for r in asked} == {prompt.fingerprint(task)}
    assert asked[0].params == {"temperature": 0, "logprobs": True}
    assert len({r.custom_id for r in asked}) == 3
