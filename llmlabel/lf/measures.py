"""Labeling functions that measure: lengths, counts, numbers in a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.lf.core import LF, Batch, Votes
from llmlabel.lf.texts import texts_of
from llmlabel.schema import ABSTAIN

__all__ = ["Measure", "measure"]

Measure = Literal["chars", "words", "lines", "matches", "value"]
Floats = npt.NDArray[np.float64]

_WORDS: Final = r"\S+"


def measure(
    name: str,
    label: str,
    of: Measure,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    column: str = "text",
    pattern: str | None = None,
) -> LF:
    """Vote for a class where something that can be counted lies between two bounds.

    Parameters
    ----------
    name
        The LF's name.
    label
        The class voted for.
    of
        What is measured: ``chars``, ``words`` (between white space) or ``lines`` of a
        text, ``matches`` of a pattern in it, or the ``value`` of a column of numbers.
    at_least, at_most
        The bounds, both allowed; one may be missing.
    column
        The column.
    pattern
        With ``matches``: the expression, in RE2's syntax.

    Raises
    ------
    ConfigError
        No bound, bounds the wrong way round, a pattern that is missing or wrong.

    Examples
    --------
    >>> short = measure("short", "HAM", "words", at_most=3)
    >>> short({"text": ["so true", "a text of five words", None]})[0].tolist()
    [0, -1, -1]
    >>> short.why({"text": "so true"})
    'words: 2'
    """
    if of not in get_args(Measure):
        raise UnknownNameError("measure", of, get_args(Measure), where=f"LF {name!r}")
    if at_least is None and at_most is None:
        raise ConfigError(f"LF {name!r}: expected at_least, at_most or both")
    low = -np.inf if at_least is None else at_least
    high = np.inf if at_most is None else at_most
    if low > high:
        raise ConfigError(f"LF {name!r}: at_least {low:g} is above at_most {high:g}")
    count = _counter(name, of, pattern)

    def vote(batch: Batch) -> Votes:
        found = count(batch[column])
        return np.where((found >= low) & (found <= high), 0, ABSTAIN).astype(np.int16)

    def why(row: Mapping[str, Any]) -> str:
        found = count([row.get(column)])[0]
        return f"{of}: {found:g}"

    return LF(
        name,
        vote,
        labels=(label,),
        kind="measure",
        columns=(column,),
        why=why,
        spec={
            "lf": "measure",
            "name": name,
            "label": label,
            "of": of,
            "at_least": at_least,
            "at_most": at_most,
            "column": column,
            "pattern": pattern,
        },
    )


def _counter(name: str, of: Measure, pattern: str | None) -> Callable[[Any], Floats]:
    """Return a function from a column to one number per row, NaN where there is none."""
    if (of == "matches") != (pattern is not None):
        raise ConfigError(f"LF {name!r}: a pattern goes with of: matches, and only with it")
    if of == "value":
        return _values
    if of == "chars":
        return lambda column: _floats(pc.utf8_length(texts_of(column).arrow))
    if of == "lines":
        return lambda column: 1 + _floats(pc.count_substring(texts_of(column).arrow, "\n"))
    wanted = _WORDS if pattern is None else pattern
    try:
        pc.count_substring_regex(pa.array([""], pa.string()), wanted)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"LF {name!r}: {wanted!r} is no regular expression: {error}") from None
    return lambda column: _floats(pc.count_substring_regex(texts_of(column).arrow, wanted))


def _values(column: Any) -> Floats:
    values = column if isinstance(column, np.ndarray) else list(column)
    return np.array([np.nan if v is None else float(v) for v in values], np.float64)


def _floats(counts: pa.Array) -> Floats:
    found: Floats = pc.cast(counts, pa.float64()).to_numpy(zero_copy_only=False)
    return found
