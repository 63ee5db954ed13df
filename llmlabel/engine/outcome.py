"""How a try at a shard ended, in plain data that goes between processes and machines."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmlabel.engine.parts import Job, ShardFunction, make_part
from llmlabel.errors import ConfigError, DataError, LLMLabelError

__all__ = ["Engine", "Failure", "attempt", "load", "pickled"]


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
        return _crash(error)
    return None


def pickled(value: object, what: str) -> bytes:
    """Return what another process gets, as bytes that are never written to a disk.

    Raises
    ------
    ConfigError
        It cannot be sent.
    """
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{what} cannot be sent to another process: {error}",
            hint="use a function of a module's top level, or a functools.partial of one",
        ) from error


def load(code: bytes) -> ShardFunction | Failure:
    """Return the function that `pickled` sent, or why it cannot be loaded here."""
    try:
        fn: ShardFunction = pickle.loads(code)  # noqa: S301 - our own driver's
    except Exception as error:  # whatever the user's module raises as it is imported
        failure = _crash(error)
        message = f"the function cannot be loaded: {failure.message}"
        return Failure(message, failure.hint, fatal=True)
    return fn


def _crash(error: Exception) -> Failure:
    """Return an exception as a failure; of an unexpected one, the line that raised it."""
    if isinstance(error, LLMLabelError):
        return Failure(error.message, error.hint, fatal=not isinstance(error, DataError))
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split())
    place = f"raised at {frames[-1].filename}:{frames[-1].lineno}" if frames else None
    return Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__, place)
