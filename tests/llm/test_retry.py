"""When to ask again."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.llm.retry import backoff, is_retryable, retry_after, seconds


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_asked_again(status):
    assert is_retryable(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_cannot_pass_is_not(status):
    assert not is_retryable(status)


@given(attempt=st.integers(0, 10_000))
def test_backoff_grows_to_a_bound_and_is_half_chance(attempt):
    low, high = backoff(attempt, draw=0.0), backoff(attempt, draw=1.0)
    assert high == 2 * low
    assert high <= 30.0
    assert high <= backoff(attempt + 1, draw=1.0)
    assert low <= backoff(attempt) <= high


def test_retry_after_reads_a_date():
    wait = retry_after({"Retry-After": formatdate(time.time() + 10, usegmt=True)})
    assert wait is not None
    assert 8 <= wait <= 10


def test_milliseconds_stand_before_seconds():
    assert retry_after({"retry-after-ms": "1500", "Retry-After": "9"}) == 1.5


@given(text=st.text(max_size=20))
def test_any_text_is_a_span_or_none(text):
    found = seconds(text)
    assert found is None or found >= 0
    after = retry_after({"Retry-After": text})
    assert after is None or after >= 0


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1x", "s", "1s2", "1 m"])
def test_what_is_no_span(text):
    assert seconds(text) is None
