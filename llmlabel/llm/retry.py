"""When to ask again: exponential back-off with jitter, and what the server's headers say."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["RETRYABLE", "backoff", "is_retryable", "retry_after", "seconds"]

RETRYABLE: Final = frozenset({408, 409, 429})
"""Statuses below 500 after which the same call may succeed."""

_BASE_S: Final = 0.25
_MOST_S: Final = 30.0
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h|d)")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def is_retryable(status: int) -> bool:
    """Return whether the same call may succeed later."""
    return status in RETRYABLE or status >= 500


def backoff(attempt: int, *, draw: float | None = None) -> float:
    """Return the seconds to wait before the next attempt.

    Doubles with each attempt up to 30 s; half of it is drawn, so that rows that
    failed together do not come back together ("equal jitter" of M. Brooker,
    *Exponential Backoff And Jitter*, AWS Architecture Blog 2015).

    Parameters
    ----------
    attempt
        How many attempts have failed before this one, from 0.
    draw
        A number from 0 to 1 in place of a random one.

    Examples
    --------
    >>> [backoff(n, draw=1.0) for n in (0, 1, 2, 20)]
    [0.25, 0.5, 1.0, 30.0]
    >>> backoff(2, draw=0.0)
    0.5
    """
    share = random.random() if draw is None else draw  # noqa: S311 - no secret
    most = min(_MOST_S, _BASE_S * 2.0 ** min(attempt, 30))
    return most * (1 + share) / 2


def seconds(text: str | None) -> float | None:
    """Read a span of time as servers write it; None where it is none.

    Examples
    --------
    >>> [seconds(t) for t in ("12", "0.5", "6m0s", "1h2m", "20ms", "soon", "")]
    [12.0, 0.5, 360.0, 3720.0, 0.02, None, None]
    """
    if not text:
        return None
    text = text.strip()
    try:
        plain = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(n + unit for n, unit in parts) != text:
            return None
        return sum(float(n) * _UNITS[unit] for n, unit in parts)
    return plain if 0 <= plain < float("inf") else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how long the server wants to be left alone; None where it does not say.

    Reads ``retry-after-ms`` (OpenAI, Azure) and ``Retry-After`` (RFC 9110,
    10.2.3: seconds or a date).

    Examples
    --------
    >>> retry_after({"Retry-After": "1.5"}), retry_after({"retry-after-ms": "20"})
    (1.5, 0.02)
    >>> retry_after({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}), retry_after({})
    (0.0, None)
    """
    milliseconds = seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("Retry-After")
    span = seconds(text)
    if span is not None or not text:
        return span
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
