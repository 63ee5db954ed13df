"""Places for calls in flight, which a row gives up while it waits to be asked again."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

__all__ = ["held_slots", "pause"]

held_slots: ContextVar[asyncio.Semaphore | None] = ContextVar("held_slots", default=None)
"""Of which semaphore the current task holds one; None: of none."""


async def pause(seconds: float) -> None:
    """Sleep, and let another row have the place in the meantime.

    Without it many rows with a long Retry-After would stop those that could be asked.
    """
    slots = held_slots.get()
    if slots is None:
        await asyncio.sleep(seconds)
        return
    slots.release()
    try:
        await asyncio.sleep(seconds)
    finally:
        await slots.acquire()  # cancelled or not: who holds it will give it back
