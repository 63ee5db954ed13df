"""What a run did cost, from the columns that the ask step writes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from llmlabel.llm.prices import load_prices
from llmlabel.llm.usage import usage_summary

PRICES = load_prices()
TABLE = pa.table(
    {
        "model": ["gpt-4o-mini-2024-07-18"] * 3 + ["gpt-4o", None, "mine"],
        "prompt_tokens": pa.array([100, 200, 300, 1000, None, 50], pa.int64()),
        "completion_tokens": pa.array([10, 20, 30, 100, None, 5], pa.int64()),
        "cached": [False, False, True, False, False, False],
        "lf": ["a", "b", "a", "b", "a", "b"],
    }
)


def test_tokens_and_dollars_are_summed_by_model_and_savings_apart() -> None:
    used = usage_summary(TABLE, PRICES)
    assert [m.model for m in used.models] == ["gpt-4o", "gpt-4o-mini-2024-07-18", "mine"]
    large, mini, mine = used.models
    assert (mini.calls, mini.cached, mini.prompt_tokens, mini.completion_tokens) == (2, 1, 300, 30)
    assert mini.saved_tokens == 330
    assert mini.usd == pytest.approx((300 * 0.15 + 30 * 0.6) / 1e6)
    assert mini.saved_usd == mini.usd
    assert large.usd == pytest.approx((1000 * 2.5 + 100 * 10) / 1e6)
    assert mine.usd is None and mine.calls == 1
    assert used.usd == pytest.approx((large.usd or 0) + (mini.usd or 0))
    assert used.warnings == (PRICES.unpriced("mine"),)


def test_groups_sum_up_to_the_whole() -> None:
    apart = usage_summary(TABLE, PRICES, by="lf")
    assert {m.group for m in apart.models} == {"a", "b"}
    whole = usage_summary(TABLE, PRICES)
    assert apart.usd == pytest.approx(whole.usd) and apart.saved_usd == whole.saved_usd
    assert sum(m.calls for m in apart.models) == sum(m.calls for m in whole.models)


def test_batch_answers_cost_less() -> None:
    assert usage_summary(TABLE, PRICES, batch=True).usd == usage_summary(TABLE, PRICES).usd / 2


def test_answers_without_a_count_are_said() -> None:
    table = pa.table(
        {
            "model": ["gpt-4o"] * 2,
            "prompt_tokens": pa.array([None, 10], pa.int64()),
            "completion_tokens": pa.array([None, 1], pa.int64()),
            "cached": [False, False],
        }
    )
    used = usage_summary(table, PRICES)
    assert used.models[0].unknown == 1 and used.models[0].prompt_tokens == 10
    assert "1 answers of 'gpt-4o' without a count of tokens" in used.warnings[0]


def test_a_table_without_answers_costs_nothing() -> None:
    used = usage_summary(TABLE.slice(4, 1), PRICES)
    assert used.models == () and used.usd == 0 and used.warnings == ()
