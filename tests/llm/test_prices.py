"""Prices: names, versions, the user's own, what is wrong with them, what calls cost."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.llm import Usage
from llmlabel.llm.prices import ModelPrice, PriceTable, cost_of, load_prices, model_prices

PRICES = load_prices()


def test_every_shipped_price_has_a_date_and_a_page_and_costs_something() -> None:
    for name, price in PRICES.prices.items():
        assert date.fromisoformat(price.date) and price.source.startswith("https://"), name
        assert 0 < price.input <= price.output, name
        assert price.cached_input is None or price.cached_input < price.input, name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("gpt-3.5-turbo-1106", "gpt-3.5-turbo-1106"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("openai/gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
    ],
)
def test_a_versioned_name_has_its_bases_price_unless_it_has_its_own(model: str, name: str) -> None:
    found = PRICES.find(model)
    assert found is not None and found == (name, PRICES.prices[name])


@pytest.mark.parametrize("model", ["", "gpt", "gpt-4o-audio-preview", "ft:gpt-4o-mini:me::1"])
def test_other_names_have_no_price(model: str) -> None:
    assert PRICES.find(model) is None
    assert cost_of(Usage(10, 10), model, PRICES).usd is None


def test_a_fine_tuned_model_has_the_price_given_for_its_kind() -> None:
    own = load_prices({"ft:gpt-4o-mini": {"input": 0.3, "output": 1.2}})
    found = own.find("ft:gpt-4o-mini-2024-07-18:me::1")
    assert found is not None and found[1].input == 0.3


def test_an_unpriced_model_is_named_with_the_nearest_that_has_one() -> None:
    assert "did you mean 'gpt-4.1-nano'" in PRICES.unpriced("gpt-4.1-nanno")
    assert "did you mean" not in PRICES.unpriced("zzzzzz")


def test_own_prices_come_first() -> None:
    own = load_prices({"gpt-4o-mini": {"input": 1, "output": 2}, "free": {"input": 0, "output": 0}})
    assert cost_of(Usage(1_000_000, 1_000_000), "gpt-4o-mini-2024-07-18", own).usd == 3
    assert cost_of(Usage(1_000_000, 1_000_000), "free", own).usd == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"input": 1}, "'output' is missing"),
        ({"input": -1, "output": 1}, "input: expected dollars .*, got -1"),
        ({"input": "1", "output": 1}, "input: expected dollars"),
        ({"input": True, "output": 1}, "input: expected dollars"),
        ({"input": float("nan"), "output": 1}, "input: expected dollars"),
        ({"input": 1, "output": 1, "batch_discount": 50}, "a part from 0 to 1, got 50"),
        ({"input": 1, "output": 1, "reasoning": "no"}, "true or false"),
        (3, "expected {input"),
    ],
)
def test_a_wrong_price_says_where_and_what_was_expected(entry: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^prices: m: .*{words}|^prices: m: {words}"):
        model_prices({"m": entry})


def test_an_unknown_key_and_a_wrong_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'outptu', did you mean 'output'"):
        model_prices({"m": {"input": 1, "outptu": 2}})
    with pytest.raises(ConfigError, match="expected models with their prices"):
        model_prices([1])
    (tmp_path / "p.yaml").write_text("prices: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="p.yaml: expected a mapping with 'models'"):
        load_prices(path=tmp_path / "p.yaml")


def test_batch_and_cached_input_are_cheaper_where_the_table_says_so() -> None:
    table = PriceTable({"m": ModelPrice(2, 4, cached_input=1, batch_discount=0.5)})
    usage = Usage(1_000_000, 500_000)
    assert cost_of(usage, "m", table).usd == 4
    assert cost_of(usage, "m", table, batch=True).usd == 2
    assert cost_of(usage, "m", table, cached_prompt_tokens=500_000).usd == 3.5
    plain = PriceTable({"m": ModelPrice(2, 4)})
    assert cost_of(usage, "m", plain, batch=True, cached_prompt_tokens=10).usd == 4


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.sampled_from(sorted(PRICES.prices)))
def test_cost_adds_up_over_calls(a: int, b: int, model: str) -> None:
    apart = (cost_of(Usage(a, 0), model, PRICES).usd or 0) + (
        cost_of(Usage(0, b), model, PRICES).usd or 0
    )
    assert cost_of(Usage(a, b), model, PRICES).usd == pytest.approx(apart)
