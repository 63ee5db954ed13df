"""A prompt file's front matter: YAML between two lines ``---``, checked key by key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.io import Positions, parse_yaml
from llmlabel.llm.answers import AnswerField

__all__ = ["FrontMatter", "read_front_matter"]

_KEYS: Final = ("name", "version", "description", "model", "temperature", "max_tokens", "answer")
_FIELD_KEYS: Final = ("type", "enum", "minimum", "maximum", "description")
_TYPES: Final = ("string", "number", "integer", "boolean")
_NAME: Final = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class FrontMatter:
    """What stands above a prompt's text."""

    name: str
    version: str
    answer: tuple[AnswerField, ...]
    description: str = ""
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class _Reader:
    """The parsed YAML with its file and positions, so that each error says where."""

    data: Any
    positions: Positions
    file: str

    def error(self, path: tuple[str | int, ...], message: str) -> ConfigError:
        return ConfigError(f"{self.where(path)}: {message}")

    def where(self, path: tuple[str | int, ...]) -> str:
        return f"{self.file}:{self.positions.line(path)}"

    def mapping(
        self, value: Any, path: tuple[str | int, ...], what: str, known: tuple[str, ...] | None
    ) -> Mapping[str, Any]:
        if not isinstance(value, dict) or not value:
            raise self.error(path, f"expected a mapping of {what}, got {value!r}")
        for key in value:
            if known is not None and key not in known:
                raise UnknownNameError(what, str(key), known, where=self.where((*path, key)))
            if not isinstance(key, str):
                raise self.error((*path, key), f"expected text as a key, got {key!r}")
        return value

    def value(
        self, data: Mapping[str, Any], path: tuple[str, ...], good: Callable[[Any], bool], what: str
    ) -> Any:
        """Return a checked optional value; None where it is not there."""
        found = data.get(path[-1])
        if path[-1] in data and not good(found):
            raise self.error(path, f"{'.'.join(path)}: expected {what}, got {found!r}")
        return found


def read_front_matter(text: str, *, file: str, first_line: int) -> FrontMatter:
    """Parse and check a front matter.

    Parameters
    ----------
    text
        The YAML between the two lines ``---``.
    file, first_line
        Where it stands, for messages.

    Raises
    ------
    ConfigError
        With file and line: not YAML, a missing, unknown (with the nearest right
        one) or wrong key.
    """
    data, positions = parse_yaml(text, file=file, first_line=first_line)
    read = _Reader(data, positions, file)
    top = read.mapping(data, (), "front matter key", _KEYS)
    for key in ("name", "version", "answer"):
        if key not in top:
            raise read.error((), f"the front matter lacks the key {key!r}")
    version = read.value(top, ("version",), _is_version, "a whole number or a quoted string")
    return FrontMatter(
        name=read.value(top, ("name",), _is_name, "a name of letters, digits, '-' and '_'"),
        version=str(version),
        answer=_answer(top["answer"], read),
        description=read.value(top, ("description",), _is_text, "text") or "",
        model=read.value(top, ("model",), _is_text, "a model's name"),
        temperature=read.value(top, ("temperature",), _is_positive, "a number of at least 0"),
        max_tokens=read.value(top, ("max_tokens",), _is_count, "a whole number above 0"),
    )


def _answer(value: Any, read: _Reader) -> tuple[AnswerField, ...]:
    fields = read.mapping(value, ("answer",), "answer fields", None)
    return tuple(_field(name, rule, read) for name, rule in fields.items())


def _field(name: str, rule: Any, read: _Reader) -> AnswerField:
    path = ("answer", name)
    if not _is_name(name):
        raise read.error(path, f"answer field {name!r}: expected letters, digits, '-' and '_'")
    data = read.mapping(rule, path, "answer field key", _FIELD_KEYS)
    kind = read.value(data, (*path, "type"), _TYPES.__contains__, f"one of {', '.join(_TYPES)}")
    enum = read.value(data, (*path, "enum"), _is_enum, "a list of different strings or numbers")
    low = read.value(data, (*path, "minimum"), _is_number, "a number")
    high = read.value(data, (*path, "maximum"), _is_number, "a number")
    if (kind is None) == (enum is None):
        raise read.error(path, f"answer.{name}: expected either a type or an enum")
    if (low is not None or high is not None) and kind not in {"number", "integer"}:
        raise read.error(path, f"answer.{name}: only numbers have a minimum or maximum")
    if low is not None and high is not None and low > high:
        raise read.error(path, f"answer.{name}: the minimum {low} is above the maximum {high}")
    return AnswerField(
        name=name,
        kind=kind,
        enum=None if enum is None else tuple(enum),
        minimum=low,
        maximum=high,
        description=read.value(data, (*path, "description"), _is_text, "text") or "",
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_version(value: Any) -> bool:
    # 1.10 would be read as the number 1.1
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value > 0


def _is_enum(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    plain = all(isinstance(v, str | bool) or _is_number(v) for v in value)
    return plain and len({(type(v), v) for v in value}) == len(value)
