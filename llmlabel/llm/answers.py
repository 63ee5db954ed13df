"""What a prompt asks for, as a JSON Schema, and what came, checked by it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmlabel.errors import ConfigError
from llmlabel.schema import Task

__all__ = [
    "CLASSES",
    "AnswerField",
    "InvalidAnswer",
    "answer_schema",
    "check_answer",
    "parse_answer",
]

CLASSES: Final = "$classes"
"""In an ``enum`` of a prompt file: stands for the names of the task's classes."""

Scalar = str | int | float | bool


@dataclass(frozen=True)
class AnswerField:
    """One field of an answer: a JSON Schema property.

    Parameters
    ----------
    name
        Its key in the answer.
    kind
        ``string``, ``number``, ``integer`` or ``boolean``; None where `enum` says it.
    enum
        The allowed values, `CLASSES` among them or not.
    minimum, maximum
        Bounds of a number, inclusive.
    description
        Told to the model.
    """

    name: str
    kind: str | None = None
    enum: tuple[Scalar, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""

    def as_property(self, task: Task) -> dict[str, Any]:
        """Return the JSON Schema property, with the task's classes in place."""
        out: dict[str, Any] = {}
        kind = self.kind or _kind_of(self.enum or ())
        if kind:
            out["type"] = kind
        if self.description:
            out["description"] = self.description
        if self.enum is not None:
            out["enum"] = self._values(task)
        if self.minimum is not None:
            out["minimum"] = self.minimum
        if self.maximum is not None:
            out["maximum"] = self.maximum
        return out

    def _values(self, task: Task) -> list[Scalar]:
        values: list[Scalar] = []
        for item in self.enum or ():
            values.extend(task.names if item == CLASSES else [item])
        for value in values:
            if values.count(value) > 1:
                raise ConfigError(
                    f"answer field {self.name!r}: the enum has {value!r} twice; "
                    f"is it a class of the task {task.name!r} too?"
                )
        return values


def _kind_of(values: Sequence[Scalar]) -> str | None:
    if all(isinstance(v, str) for v in values):
        return "string"
    if all(isinstance(v, bool) for v in values):
        return "boolean"
    if any(isinstance(v, bool | str) for v in values):
        return None  # mixed: the enum alone says it
    return "integer" if all(isinstance(v, int) for v in values) else "number"


def answer_schema(fields: Sequence[AnswerField], task: Task) -> dict[str, Any]:
    """Return the JSON Schema of an answer: an object of these fields, all of them, no others.

    Examples
    --------
    >>> label = AnswerField("label", enum=(CLASSES, "UNSURE"))
    >>> answer_schema([label], Task("t", ["A", "B"]))["properties"]["label"]["enum"]
    ['A', 'B', 'UNSURE']
    """
    return {
        "type": "object",
        "properties": {f.name: f.as_property(task) for f in fields},
        "required": [f.name for f in fields],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class InvalidAnswer:
    """An answer outside the schema: neither a vote nor an abstain, and never guessed at."""

    reason: str
    text: str


def parse_answer(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | InvalidAnswer:
    """Read the answer out of what a model wrote.

    The JSON object may stand in a code fence, behind a model's thoughts (``</think>``) or
    between prose. Strings of an ``enum`` are matched exactly, else without
    regard to case. Fields that nobody asked for are left out. Where the text
    holds several objects that follow the schema and differ, none is chosen.

    Parameters
    ----------
    text
        `Response.text`.
    schema
        What `Prompt.schema` returns.

    Returns
    -------
    The fields in the schema's order, or why there are none.

    Examples
    --------
    >>> schema = {"properties": {"label": {"type": "string", "enum": ["HAM", "SPAM"]}}}
    >>> parse_answer('Sure: ```json {"label": "spam"} ```', schema)
    {'label': 'SPAM'}
    >>> parse_answer('{"label": "EGGS"}', schema).reason
    "label: expected one of HAM, SPAM, got 'EGGS'"
    """
    try:
        found = list(_objects(text.rpartition("</think>")[2]))
    except _UnreadableError as error:
        return InvalidAnswer(str(error), text)
    if not found:
        return InvalidAnswer("no JSON object in the answer", text)
    checked = [check_answer(value, schema) for value in found]
    valid = [c for c in checked if not isinstance(c, str)]
    if not valid:
        return InvalidAnswer(str(checked[-1]), text)
    if any(other != valid[0] for other in valid[1:]):
        return InvalidAnswer(f"{len(valid)} answers that differ", text)
    return valid[0]


def check_answer(value: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the schema's fields of a decoded answer, or what is wrong with it."""
    out: dict[str, Any] = {}
    for name, rule in schema["properties"].items():
        if name not in value:
            return f"{name}: is missing"
        try:
            out[name] = _checked(value[name], rule)
        except ValueError as error:
            return f"{name}: {error}"
    return out


_MAX_OBJECTS: Final = 100


class _UnreadableError(ValueError):
    """The text holds JSON that must not be read: cut off, contradicting itself."""


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the outermost JSON objects of a text."""
    at = text.find("{")
    for _ in range(_MAX_OBJECTS):
        if at < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, at)
            yield value
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
                # An object inside one that was cut off may be an example, not the answer.
                raise _UnreadableError("the JSON object is cut off") from None
            end = max(error.pos, at + 1)
        except (ValueError, RecursionError) as error:
            if isinstance(error, _UnreadableError):
                raise
            raise _UnreadableError(
                "the JSON object is nested too deep or a number too long"
            ) from None
        at = text.find("{", end)
    raise _UnreadableError(f"more than {_MAX_OBJECTS} JSON objects")


def _no_contradiction(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out and out[key] != value:
            raise _UnreadableError(f"{key}: is given twice, differently")
        out[key] = value
    return out


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_no_contradiction)


def _checked(value: Any, rule: Mapping[str, Any]) -> Any:
    if "enum" in rule:
        return _one_of(value, rule["enum"])
    kind = rule.get("type")
    if kind == "string":
        return _expect(value, isinstance(value, str), "a string")
    if kind == "boolean":
        return _expect(value, isinstance(value, bool), "true or false")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        _expect(value, number and math.isfinite(value) and value == int(value), "a whole number")
        value = int(value)
    else:
        _expect(value, number and math.isfinite(value), "a number")
    low, high = rule.get("minimum", -math.inf), rule.get("maximum", math.inf)
    return _expect(value, low <= value <= high, f"a number in [{low}, {high}]")


def _expect(value: Any, holds: bool, what: str) -> Any:
    if not holds:
        raise ValueError(f"expected {what}, got {_short(value)}")
    return value


def _one_of(value: Any, allowed: Sequence[Any]) -> Any:
    for option in allowed:  # True == 1, and neither stands for the other
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return option
    if isinstance(value, str):
        folded = value.strip().casefold()
        close = [o for o in allowed if isinstance(o, str) and o.casefold() == folded]
        if len(close) == 1:
            return close[0]
    raise ValueError(f"expected one of {', '.join(map(str, allowed))}, got {_short(value)}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
