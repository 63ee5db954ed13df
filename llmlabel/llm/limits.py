"""How fast one provider may be asked: found out from its refusals and its headers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from llmlabel.llm.retry import retry_after, seconds

__all__ = ["Bucket", "Limiter"]

_CUT: Final = 0.75
_MUCH: Final = 0.15
"""The share of calls refused that means too much is in flight. Below it, refusals are chance."""
_MOST: Final = 0.5
"""The share from which Retry-After holds back all calls and not the refused one alone."""
_MEMORY: Final = 0.05
_GROWTH: Final = 0.05
_KINDS: Final = ("requests", "tokens")


class Bucket:
    """A token bucket as ``x-ratelimit-*`` headers describe it.

    Parameters
    ----------
    limit
        What it holds when full.

    Examples
    --------
    >>> bucket = Bucket(60.0, now=0.0)
    >>> bucket.observe(60.0, remaining=0.0, reset=60.0, now=0.0)
    >>> bucket.delay(2.0, now=0.0), bucket.delay(2.0, now=1.0), bucket.delay(2.0, now=2.0)
    (2.0, 1.0, 0.0)
    """

    def __init__(self, limit: float, *, now: float) -> None:
        self.limit = self.level = limit
        self.rate = limit / 60
        self.at = now

    def observe(self, limit: float, remaining: float, reset: float | None, now: float) -> None:
        """Take over what a response says: of `limit`, `remaining` are left, all in `reset` s."""
        self.limit, self.level, self.at = limit, remaining, now
        # Both leaky buckets (OpenAI) and windows are full again after `reset`.
        known = reset is not None and reset > 0 and remaining < limit
        self.rate = (limit - remaining) / reset if known and reset else limit / 60

    def delay(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` may be taken."""
        self._refill(now)
        missing = min(amount, self.limit) - self.level
        return max(0.0, missing / self.rate) if self.rate > 0 else 60.0 * (missing > 0)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`; the level may become negative."""
        self._refill(now)
        self.level -= amount

    def _refill(self, now: float) -> None:
        self.level = min(self.limit, self.level + self.rate * max(0.0, now - self.at))
        self.at = now


class Limiter:
    """The gate through which all calls to one provider go, in one event loop.

    Three things hold a call back, each only as long as it must:

    - the number in flight: no bound at first; where more than 15 % of the last
      calls are refused (429, 503, 529) or time out, it is cut to three quarters
      of what was in flight, at most once per round trip, and grows by 5 %
      (at least one) per round trip without (additive increase, multiplicative
      decrease: D. Chiu and R. Jain, 1989, in the form of TCP);
    - requests and tokens per minute, where ``x-ratelimit-*`` headers tell them:
      token buckets that follow the headers;
    - ``Retry-After``, where the headers say that nothing is left or where more
      than half of the last calls were refused. Otherwise it holds back the
      refused call alone.

    Examples
    --------
    >>> async def two() -> int:
    ...     limiter = Limiter()
    ...     first = await limiter.acquire(10)
    ...     limiter.release(first, 200, {})
    ...     return limiter.in_flight
    >>> asyncio.run(two())
    0
    """

    def __init__(self) -> None:
        self.window = float("inf")
        self.in_flight = 0
        self.successes = 0
        self.failures = 0  # in a row
        self._sent = 0
        self._cut_at = 0
        self._refused = 0.0
        self._paused_until = 0.0
        self._buckets: dict[str, Bucket] = {}
        self._seen: dict[str, int] = {}
        self._queue: deque[tuple[asyncio.Future[int], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, tokens: float) -> int:
        """Wait until a call of about so many tokens may begin; return its ticket."""
        if not self._queue and self._delay(tokens) == 0:
            return self._take(tokens)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append((future, tokens))
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # let through and cancelled at once
                self.in_flight -= 1
                self._wake()
            raise

    def release(self, ticket: int, status: int | None, headers: Mapping[str, str]) -> None:
        """Say how a call ended.

        Parameters
        ----------
        ticket
            What `acquire` returned.
        status
            HTTP status; None: it timed out, broke off or was cancelled.
        headers
            Of the response.
        """
        self.in_flight -= 1
        pushed_back = status in {429, 503, 529}
        self._refused += _MEMORY * (pushed_back - self._refused)
        if pushed_back:
            self._slow_down(ticket, retry_after(headers))
        elif status is not None and self.window != float("inf"):
            self.window += max(1.0, _GROWTH * self.window) / self.window
        if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers:
            self._read(ticket, headers, refused=status == 429)
        if self._queue:
            self._wake()

    def timed_out(self, ticket: int) -> None:
        """Say that a call got no answer in time, which a server with too much to do does."""
        self._refused += _MEMORY * (1 - self._refused)
        self._slow_down(ticket, None)

    def succeeded(self) -> None:
        """Say that a whole, readable answer has come."""
        self.successes += 1
        self.failures = 0

    def _slow_down(self, ticket: int, after: float | None) -> None:
        if after is not None and self._refused > _MOST:
            self._paused_until = max(self._paused_until, time.monotonic() + after)
        if self._refused > _MUCH and ticket > self._cut_at:
            self.window = max(1.0, _CUT * min(self.window, self.in_flight + 1))
            self._cut_at = self._sent
            self._refused /= 2

    def _read(self, ticket: int, headers: Mapping[str, str], *, refused: bool) -> None:
        now = time.monotonic()
        for kind in _KINDS:
            limit = seconds(headers.get(f"x-ratelimit-limit-{kind}"))
            left = seconds(headers.get(f"x-ratelimit-remaining-{kind}"))
            if not limit or left is None or ticket < self._seen.get(kind, 0):
                continue
            reset = seconds(headers.get(f"x-ratelimit-reset-{kind}"))
            bucket = self._buckets.setdefault(kind, Bucket(limit, now=now))
            self._seen[kind] = ticket
            # What was sent after this call may not have been counted by the server yet.
            later = self._sent - ticket if kind == "requests" else 0
            bucket.observe(limit, left - later, reset, now)
            after = retry_after(headers)
            if refused and left <= 0 and after is not None:
                self._paused_until = max(self._paused_until, now + after)

    def _delay(self, tokens: float) -> float | None:
        """Seconds until a call may begin; None: not before another one ends."""
        if self.in_flight >= max(1.0, self.window):
            return None
        if not self._buckets and not self._paused_until:
            return 0.0
        now = time.monotonic()
        waits = [self._paused_until - now, 0.0]
        for kind, bucket in self._buckets.items():
            waits.append(bucket.delay(1.0 if kind == "requests" else tokens, now))
        return max(waits)

    def _take(self, tokens: float) -> int:
        self.in_flight += 1
        self._sent += 1
        if self._buckets:
            now = time.monotonic()
            for kind, bucket in self._buckets.items():
                bucket.take(1.0 if kind == "requests" else tokens, now)
        return self._sent

    def _wake(self) -> None:
        while self._queue:
            future, tokens = self._queue[0]
            if future.done():
                self._queue.popleft()
                continue
            wait = self._delay(tokens)
            if wait is None and self.in_flight:
                return
            if wait:
                self._wake_in(wait)
                return
            self._queue.popleft()
            future.set_result(self._take(tokens))

    def _wake_in(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self._wake)
