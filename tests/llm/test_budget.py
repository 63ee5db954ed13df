"""Budgets: never passed while estimates are bounds, nothing in flight lost, any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import BudgetExceeded, ClientError, ConfigError
from llmlabel.llm import Cache, Failure, Request, Response, Usage, complete_all
from llmlabel.llm.budget import Amount, Budget, Budgeted, plan_bound
from llmlabel.llm.costs import plan_cost
from llmlabel.llm.prices import PriceTable, load_prices

PRICES = load_prices({"m": {"input": 1.0, "output": 1.0}, "free": {"input": 0, "output": 0}})


class Meter:
    """A client that takes what it is told and counts who is in flight."""

    provider = "meter"

    def __init__(self, answer: Callable[[Request], Usage | None], seconds: float = 0.0) -> None:
        self.answer = answer
        self.seconds = seconds
        self.calls = self.in_flight = self.most = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def complete(self, request: Request) -> Response:
        self.calls += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self.seconds * (self.calls % 3))
            return Response("yes", "m", usage=self.answer(request))
        finally:
            self.in_flight -= 1


def asked(n: int, model: str = "m", **params: object) -> list[Request]:
    return [
        Request(f"row-{i}", model, [{"role": "user", "content": f"text {i:04d}"}], params)
        for i in range(n)
    ]


amounts = st.builds(
    Amount,
    usd=st.floats(0, 3, allow_nan=False),
    tokens=st.integers(0, 300),
    calls=st.integers(0, 3),
)


@given(
    st.floats(0, 10, allow_nan=False) | st.none(),
    st.integers(0, 1000) | st.none(),
    st.integers(0, 10),
    st.lists(st.tuples(amounts, st.floats(0, 1), st.integers(0, 5)), max_size=40),
)
def test_no_order_of_reserving_and_settling_passes_the_cap(
    cost: float | None, tokens: int | None, calls: int, steps: list[tuple[Amount, float, int]]
) -> None:
    budget = Budget(cost, tokens, calls)
    in_flight: list[tuple[int, Amount]] = []
    for estimate, share, pick in steps:
        try:
            ticket = budget.reserve(estimate)
        except BudgetExceeded:
            ticket = None
        if ticket is not None:
            in_flight.append((ticket, estimate))
        elif in_flight:
            done, bound = in_flight.pop(pick % len(in_flight))
            real = Amount(bound.usd * share, int(bound.tokens * share), bound.calls)
            budget.settle(done, None if share > 0.9 else real)
        spent, reserved = budget.spent, budget.reserved
        assert cost is None or spent.usd + reserved.usd <= cost + 1e-12
        assert tokens is None or spent.tokens + reserved.tokens <= tokens
        assert spent.calls + reserved.calls <= calls
    for ticket, _ in in_flight:
        budget.settle(ticket, Amount())
    assert budget.reserved == Amount()


def test_waiting_is_told_apart_from_never() -> None:
    budget = Budget(max_tokens=100)
    first = budget.reserve(Amount(tokens=80))
    assert first is not None and budget.reserve(Amount(tokens=30)) is None
    with pytest.raises(BudgetExceeded, match="100 tokens: 0 are used .* may take 101"):
        budget.reserve(Amount(tokens=101))
    budget.settle(first, Amount(tokens=75))
    with pytest.raises(BudgetExceeded, match="75 are used"):
        budget.reserve(Amount(tokens=30))
    assert budget.reserve(Amount(tokens=25)) is not None


@pytest.mark.parametrize(
    ("caps", "words"),
    [({}, "at least one"), ({"max_cost": -1}, "max_cost"), ({"max_cost": float("nan")}, "nan")],
)
def test_a_budget_needs_a_cap_that_is_one(caps: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Budget(**caps)  # type: ignore[arg-type]


def test_a_run_stops_before_the_cap_and_keeps_every_answer(tmp_path: Path) -> None:
    meter = Meter(lambda _: Usage(60, 10), seconds=0.002)
    budget = Budget(max_tokens=3000)
    client = Budgeted(meter, budget, PRICES)
    with Cache(tmp_path / "a.sqlite") as cache:
        with pytest.raises(BudgetExceeded, match="3,000 tokens") as caught:
            complete_all(asked(500, max_tokens=10), client, cache=cache, max_in_flight=16)
        assert len(cache) == meter.calls == budget.spent.calls
    assert budget.spent.tokens == 70 * meter.calls <= 3000
    assert budget.spent.tokens > 3000 - 130  # one call's bound and no more is left over
    assert budget.reserved == Amount() and meter.in_flight == 0
    assert caught.value.hint is not None and "kept" in caught.value.hint


def test_nothing_waits_where_the_budget_is_ample() -> None:
    meter = Meter(lambda _: Usage(50, 10), seconds=0.001)
    client = Budgeted(meter, Budget(max_cost=10), PRICES)
    results = complete_all(asked(100, max_tokens=10), client, max_in_flight=32)
    assert all(isinstance(r, Response) for r in results) and meter.most == 32


def test_a_raised_budget_goes_on_from_the_cache(tmp_path: Path) -> None:
    meter = Meter(lambda _: Usage(60, 10))
    with Cache(tmp_path / "a.sqlite") as cache:
        with pytest.raises(BudgetExceeded):
            complete_all(asked(30), Budgeted(meter, Budget(max_calls=10), PRICES), cache=cache)
        assert meter.calls == 10
        client = Budgeted(meter, Budget(max_calls=20), PRICES)
        assert len(complete_all(asked(30), client, cache=cache)) == 30
    assert meter.calls == 30


def test_dollars_need_a_price_and_other_caps_do_not() -> None:
    meter = Meter(lambda _: Usage(50, 10))
    with pytest.raises(ConfigError, match="a budget in dollars needs prices: no price for .*'x'"):
        complete_all(asked(1, "x"), Budgeted(meter, Budget(max_cost=1), PriceTable({})))
    assert meter.calls == 0
    complete_all(asked(1, "x"), Budgeted(meter, Budget(max_calls=1), PriceTable({})))
    complete_all(asked(9, "free"), Budgeted(meter, Budget(max_cost=0), PRICES))
    assert meter.calls == 10


def test_the_clients_model_is_the_one_that_is_priced() -> None:
    budget = Budget(max_cost=1)
    client = Budgeted(Meter(lambda _: Usage(1000, 0)), budget, PRICES, model="gpt-4o-mini")
    complete_all(asked(1, "unheard-of"), client)
    assert budget.spent.usd == pytest.approx(0.15e-3)


@pytest.mark.parametrize(
    ("status", "whole"), [(None, True), (200, True), (400, False), (429, False), (500, False)]
)
def test_a_failure_counts_whole_where_it_may_have_been_billed(
    status: int | None, whole: bool
) -> None:
    def fail(request: Request) -> Usage:
        raise ClientError("no", status=status)

    budget = Budget(max_tokens=10_000)
    results = complete_all(asked(1, max_tokens=7), Budgeted(Meter(fail), budget, PRICES))
    assert isinstance(results[0], Failure)
    assert (budget.spent.tokens > 50) == whole and budget.spent.calls == 1
    assert budget.reserved == Amount()


def test_an_answer_without_a_count_is_taken_at_its_bound() -> None:
    budget = Budget(max_tokens=10_000)
    complete_all(asked(1, max_tokens=7), Budgeted(Meter(lambda _: None), budget, PRICES))
    assert budget.spent.tokens > 50


def test_without_max_tokens_twice_the_longest_answer_is_reserved() -> None:
    budget = Budget(max_tokens=5000)
    client = Budgeted(Meter(lambda _: Usage(60, 1000)), budget, PRICES)
    with pytest.raises(BudgetExceeded):
        complete_all(asked(10), client, max_in_flight=1)
    # After the first, each reserves 2,000 of answer and its bytes: 1,060 * 3 + 2,000 < 5,000.
    assert budget.spent == Amount(pytest.approx(3 * 1060e-6), 3 * 1060, 3)


def test_threads_with_loops_of_their_own_share_one_budget() -> None:
    budget = Budget(max_calls=50, max_tokens=6000)
    meters = [Meter(lambda _: Usage(60, 10), seconds=0.001) for _ in range(4)]

    def run(meter: Meter) -> None:
        with pytest.raises(BudgetExceeded):
            complete_all(asked(60, max_tokens=10), Budgeted(meter, budget, PRICES), max_in_flight=8)

    threads = [threading.Thread(target=run, args=(meter,)) for meter in meters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert sum(m.calls for m in meters) == budget.spent.calls <= 50
    assert budget.spent.tokens <= 6000 and budget.reserved == Amount()


def test_a_recording_stays_a_recording() -> None:
    meter = Meter(lambda _: Usage(1, 1))
    assert not Budgeted(meter, Budget(max_calls=1), PRICES).answers_by_row
    meter.answers_by_row = True  # type: ignore[attr-defined]
    assert Budgeted(meter, Budget(max_calls=1), PRICES).answers_by_row


def test_a_batch_is_reserved_by_its_plan_as_a_whole() -> None:
    plan = plan_cost(asked(100, max_tokens=10), "meter", PRICES)
    bound = plan_bound(plan)
    assert plan.usd is not None
    assert (bound.calls, bound.usd) == (100, plan.usd.high)
    assert 0 <= bound.tokens - plan.prompt_tokens.high - plan.completion_tokens.high < 1
    with pytest.raises(BudgetExceeded, match="is spent and the next may take"):
        Budget(max_cost=bound.usd / 2).reserve(bound)
