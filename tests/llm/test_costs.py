"""The cost before a run: ranges that hold the truth, past answers, warnings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError
from llmlabel.llm import Cache, Request, Response, Usage
from llmlabel.llm.costs import Range, answer_limit, estimate_completion_tokens, plan_cost
from llmlabel.llm.prices import load_prices
from llmlabel.llm.tokens import token_counter

PRICES = load_prices({"m": {"input": 1.0, "output": 2.0, "batch_discount": 0.5}})
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["HAM", "SPAM"]},
        "confidence": {"type": "number"},
    },
}


def asked(n: int, model: str = "m", seed: int = 0, **fields: object) -> list[Request]:
    lengths = np.random.default_rng(seed).integers(1, 60, n)
    return [
        Request(
            f"row-{i}", model, [{"role": "user", "content": f"{i} is " + "spam " * k}], **fields
        )
        for i, k in enumerate(lengths)
    ]


def test_calls_are_distinct_questions_that_the_cache_does_not_answer(tmp_path: Path) -> None:
    requests = asked(20)
    with Cache(tmp_path / "a.sqlite") as cache:
        cache.put_many({r.key("p"): Response("yes", "m") for r in requests[:5]})
        plan = plan_cost([*requests, *requests], "p", PRICES, cache=cache)
        assert (plan.total, plan.cached, plan.calls, plan.sampled) == (40, 5, 15, 15)
        cache.put_many({r.key("p"): Response("yes", "m") for r in requests})
        done = plan_cost(requests, "p", PRICES, cache=cache)
    assert done.calls == 0 and done.usd == Range(0, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_holds_the_total_of_all_prompts(seed: int) -> None:
    requests = asked(3000, seed=seed)
    counted = float(token_counter("m").prompts(requests).sum())
    plan = plan_cost(requests, "p", PRICES, sample=200, seed=seed)
    assert plan.sampled == 200
    assert plan.prompt_tokens.expected == pytest.approx(counted, rel=0.15)
    assert plan.prompt_tokens.low < counted < plan.prompt_tokens.high


@pytest.mark.parametrize("seed", range(5))
def test_past_answers_set_the_tokenizer_right_and_narrow_the_range(
    tmp_path: Path, seed: int
) -> None:
    requests = asked(1000, seed=seed, schema=SCHEMA)
    counted = token_counter("m").prompts(requests)
    noise = np.random.default_rng(seed)
    real = [Usage(int(c * noise.uniform(1.7, 1.9)), int(noise.integers(300, 500))) for c in counted]
    blind = plan_cost(requests, "p", PRICES)
    with Cache(tmp_path / "a.sqlite") as cache:
        known = noise.permutation(1000)[:100]
        cache.put_many({requests[i].key("p"): Response("yes", "m", usage=real[i]) for i in known})
        plan = plan_cost(requests, "p", PRICES, cache=cache)
    rest = set(range(1000)) - set(known.tolist())
    prompt = sum(real[i].prompt_tokens for i in rest)
    completion = sum(real[i].completion_tokens for i in rest)
    assert plan.prompt_tokens.low * 0.99 < prompt < plan.prompt_tokens.high * 1.01
    assert plan.completion_tokens.expected == pytest.approx(completion, rel=0.05)
    assert plan.usd is not None and blind.usd is not None
    truth = (prompt + 2 * completion) / 1e6
    assert plan.usd.expected == pytest.approx(truth, rel=0.05)
    assert plan.usd.high / plan.usd.low < 1.2 < blind.usd.high / blind.usd.low
    assert any("100 past answers" in line for line in plan.basis)


def test_dollars_follow_the_tokens_and_the_batch_discount() -> None:
    plan = plan_cost(asked(50, schema=SCHEMA), "p", PRICES)
    half = plan_cost(asked(50, schema=SCHEMA), "p", PRICES, batch=True)
    assert plan.usd is not None and half.usd is not None
    tokens = plan.prompt_tokens.expected + 2 * plan.completion_tokens.expected
    assert plan.usd.expected == pytest.approx(tokens / 1e6)
    assert half.usd.high == pytest.approx(plan.usd.high / 2)


def test_max_tokens_cuts_the_answers() -> None:
    free = plan_cost(asked(10), "p", PRICES)
    short = plan_cost(asked(10, params={"max_tokens": 4}), "p", PRICES)
    assert free.completion_tokens.high > 40 == short.completion_tokens.high
    request = asked(1, params={"max_tokens": 9, "max_completion_tokens": 7})[0]
    assert answer_limit(request) == 7 and answer_limit(asked(1)[0]) is None


def test_what_the_reader_must_know_is_said() -> None:
    unpriced = plan_cost(asked(3, "gpt-4o-minni"), "p", PRICES)
    assert unpriced.usd is None and unpriced.priced_as is None and unpriced.calls == 3
    assert "did you mean 'gpt-4o-mini'" in unpriced.warnings[0]
    assert "hidden thoughts" in plan_cost(asked(3, "o3"), "p", PRICES).warnings[0]
    own = load_prices({"x": {"input": 1, "output": 1}})
    assert "no batch discount" in plan_cost(asked(3, "x"), "p", own, batch=True).warnings[0]
    assert plan_cost(asked(3), "p", PRICES).warnings == ()


def test_one_plan_is_of_one_model() -> None:
    with pytest.raises(ConfigError, match="one model, got m, o"):
        plan_cost([*asked(1), *asked(1, "o")], "p", PRICES)
    assert plan_cost([*asked(1), *asked(1, "o")], "p", PRICES, model="m").priced_as == "m"
    assert plan_cost([], "p", PRICES, model="m").calls == 0


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True))
def test_an_answers_range_is_ordered_and_grows_with_fields(values: list[str]) -> None:
    one = estimate_completion_tokens({"properties": {"a": {"enum": values}}})
    two = estimate_completion_tokens(
        {"properties": {"a": {"enum": values}, "why": {"type": "string"}}}
    )
    assert 0 < one.low <= one.expected <= one.high
    assert two.expected > one.expected and two.high > one.high


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        ({"type": "boolean"}, 1, 2),
        ({"type": "integer"}, 1, 2),
        ({"type": "number"}, 1, 4),
        ({"type": "string"}, 5, 200),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 3}, 1, 7),
    ],
)
def test_kinds_of_values(rule: dict[str, object], low: int, high: int) -> None:
    value = estimate_completion_tokens(rule)
    assert (value.low, value.high) == (low, high)
