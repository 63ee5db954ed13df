"""What the limiter holds back, for how long, and that nothing is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.llm.limits import Bucket, Limiter


def waits(limiter: Limiter, tokens: float = 1.0) -> float:
    """Seconds until a call got through, which then ends well."""

    async def one() -> float:
        started = time.monotonic()
        ticket = await asyncio.wait_for(limiter.acquire(tokens), 5)
        limiter.release(ticket, 200, {})
        return time.monotonic() - started

    return asyncio.run(one())


def test_without_a_limit_nothing_waits():
    async def many() -> int:
        limiter = Limiter()
        for _ in range(1000):
            await asyncio.wait_for(limiter.acquire(100), 1)
        return limiter.in_flight

    assert asyncio.run(many()) == 1000


def test_many_refusals_cut_what_is_in_flight_and_success_lets_it_grow():
    async def run() -> tuple[float, float]:
        limiter = Limiter()
        for _ in range(20):
            tickets = [await limiter.acquire(1) for _ in range(40)]
            for ticket in tickets:
                limiter.release(ticket, 429, {})
            if limiter.window < 40:
                break
        cut = limiter.window
        for _ in range(50):
            limiter.release(await limiter.acquire(1), 200, {})
        return cut, limiter.window

    cut, grown = asyncio.run(run())
    assert 20 <= cut <= 30  # three quarters of what was still in flight
    assert grown > cut


def test_a_few_refusals_are_chance_and_cut_nothing():
    async def run() -> float:
        limiter = Limiter()
        for i in range(400):
            limiter.release(await limiter.acquire(1), 429 if i % 20 == 0 else 200, {})
        return limiter.window

    assert asyncio.run(run()) == float("inf")


def test_one_refusal_with_retry_after_holds_back_nobody_else():
    async def refused(limiter: Limiter) -> None:
        limiter.release(await limiter.acquire(1), 429, {"Retry-After": "3"})

    limiter = Limiter()
    asyncio.run(refused(limiter))
    assert waits(limiter) < 0.1


def test_where_most_are_refused_retry_after_holds_back_all():
    async def run() -> float:
        limiter = Limiter()
        for ticket in [await limiter.acquire(1) for _ in range(60)]:
            limiter.release(ticket, 429, {"Retry-After": "0.3"})
        started = time.monotonic()
        await asyncio.wait_for(limiter.acquire(1), 5)
        return time.monotonic() - started

    assert asyncio.run(run()) == pytest.approx(0.3, abs=0.1)


def test_headers_that_say_nothing_is_left_hold_back_all():
    headers = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }

    async def run() -> float:
        limiter = Limiter()
        limiter.release(await limiter.acquire(1), 200, headers)
        started = time.monotonic()
        await asyncio.wait_for(limiter.acquire(1), 5)
        return time.monotonic() - started

    assert asyncio.run(run()) == pytest.approx(0.1, abs=0.08)  # ten in a second: one in .1 s


def test_a_cancelled_wait_gives_its_place_back():
    async def run() -> int:
        limiter = Limiter()
        limiter.window = 1
        first = await limiter.acquire(1)
        waiting = asyncio.create_task(limiter.acquire(1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        limiter.release(first, 200, {})
        await asyncio.wait_for(limiter.acquire(1), 1)
        return limiter.in_flight

    assert asyncio.run(run()) == 1


@given(
    takes=st.lists(st.tuples(st.floats(0.1, 30), st.floats(0, 5)), min_size=1, max_size=40),
    limit=st.floats(30, 1000),
)
def test_a_bucket_never_gives_more_than_its_rate_and_what_it_held(takes, limit):
    bucket = Bucket(limit, now=0.0)
    now = taken = 0.0
    for amount, pause in takes:
        now += pause
        now += bucket.delay(amount, now) + 1e-9
        bucket.take(amount, now)
        taken += amount
        assert taken <= limit + bucket.rate * now + 1e-6
