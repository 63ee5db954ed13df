"""How a try at a shard ended, in plain data that goes between processes and machines."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmlabel.engine.parts import Job, ShardFunction, make_part
from llmlabel.errors import DataError, LLMLabelError

__all__ = ["Engine", "Failure", "attempt", "crash"]


@dataclass(frozen=True)
class Failure:
    """Why a shard has no part.

    Parameters
    ----------
    message
        What went wrong, in one line.
    hint
        What to do about it, or the place in the code.
    fatal
        Whether no other shard can succeed either: a wrong config, a missing package.
    """

    message: str
    hint: str | None = None
    fatal: bool = False


Engine = Callable[[ShardFunction, Sequence[Job]], Iterator[tuple[Job, Failure | None]]]
"""Runs jobs and says of each, in the order in which they end, how it ended."""


def attempt(fn: ShardFunction, job: Job) -> Failure | None:
    """Make a job's part; return why not where that fails."""
    try:
        make_part(fn, job)
    except Exception as error:  # the function is the user's: any may come
        return crash(error)
    return None


def crash(error: BaseException) -> Failure:
    """Return an exception as a failure; of an unexpected one, the line that raised it."""
    if isinstance(error, LLMLabelError):
        return Failure(error.message, error.hint, fatal=not isinstance(error, DataError))
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split())
    place = f"raised at {frames[-1].filename}:{frames[-1].lineno}" if frames else None
    return Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__, place)
