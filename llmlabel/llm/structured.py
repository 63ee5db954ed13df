"""How an answer's schema is asked for: by the server's own means where it has some."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from llmlabel.llm.answers import InvalidAnswer, parse_answer
from llmlabel.llm.cache import Cache
from llmlabel.llm.types import Message, Request

__all__ = [
    "MODES",
    "Mode",
    "correction",
    "forget_modes",
    "format_mode",
    "lower_mode",
    "recall_modes",
    "refuses_format",
    "with_schema",
    "wrong_answer",
]

Mode = Literal["json_schema", "json_object", "text"]
MODES: Final[tuple[Mode, ...]] = ("json_schema", "json_object", "text")
"""From what binds the model most to what every server can."""

_META: Final = "response_format:"
_KEPT_S: Final = 7 * 86400.0
_ABOUT_FORMAT: Final = re.compile(
    r"response_format|json_schema|json_object|structured output|guided", re.IGNORECASE
)
_FOLLOW: Final = (
    "\n\nAnswer with one JSON object and nothing else. It has to follow this JSON Schema:\n"
)
_AGAIN: Final = (
    "This answer cannot be used: {reason}. Answer again, with one JSON object and nothing "
    "else, that follows this JSON Schema:\n{schema}"
)

_lock = threading.Lock()
_found: dict[str, tuple[Mode, float]] = {}


def format_mode(endpoint: str) -> Mode:
    """Return how an endpoint (place and model) is to be asked for an answer's schema."""
    mode, at = _found.get(endpoint, (MODES[0], 0.0))
    return mode if time.time() - at < _KEPT_S else MODES[0]  # a server may have learnt it


def lower_mode(endpoint: str, refused: Mode) -> Mode:
    """Remember that an endpoint refuses a mode; return the next one.

    Examples
    --------
    >>> lower_mode("here m", "json_schema"), format_mode("here m")
    ('json_object', 'json_object')
    >>> forget_modes()
    """
    lower = MODES[min(MODES.index(refused) + 1, len(MODES) - 1)]
    with _lock:
        if MODES.index(format_mode(endpoint)) < MODES.index(lower):
            _found[endpoint] = (lower, time.time())
    return format_mode(endpoint)


def forget_modes() -> None:
    """Forget what was found out, so that every endpoint is asked for json_schema again."""
    with _lock:
        _found.clear()


def recall_modes(cache: Cache) -> None:
    """Exchange with the cache what is known of endpoints: the newer of each stays."""
    stored = {
        name.removeprefix(_META): (value["mode"], float(value["at"]))
        for name, value in cache.meta(_META).items()
        if value.get("mode") in MODES
    }
    with _lock:
        fresh = {e: f for e, f in _found.items() if f[1] > stored.get(e, ("", 0.0))[1]}
        _found.update({e: f for e, f in stored.items() if e not in fresh})
    if fresh:
        cache.set_meta({_META + e: {"mode": m, "at": at} for e, (m, at) in fresh.items()})


def refuses_format(status: int, param: object, words: str) -> bool:
    """Return whether a server's refusal is about the form of the answer asked for.

    Examples
    --------
    >>> refuses_format(400, "response_format", "not supported")
    True
    >>> refuses_format(400, None, "the prompt is too long")
    False
    """
    return status in {400, 422} and bool(_ABOUT_FORMAT.search(f"{param} {words}"))


def with_schema(request: Request, mode: Mode) -> dict[str, Any]:
    """Return the messages, and the ``response_format`` if any, that ask for the schema.

    Examples
    --------
    >>> schema = {"type": "object", "properties": {"label": {"enum": ["A", "B"]}}}
    >>> ask = Request("row-1", "m", [{"role": "user", "content": "A or B?"}], schema=schema)
    >>> with_schema(ask, "json_schema")["response_format"]["type"]
    'json_schema'
    >>> "JSON Schema" in with_schema(ask, "text")["messages"][-1]["content"]
    True
    """
    if request.schema is None:
        return {"messages": request.messages}
    if mode == "json_schema":
        schema = {"name": "answer", "strict": True, "schema": request.schema}
        form = {"type": "json_schema", "json_schema": schema}
        return {"messages": request.messages, "response_format": form}
    *before, last = request.messages
    content = f"{last['content']}{_FOLLOW}{json.dumps(request.schema, ensure_ascii=False)}"
    body: dict[str, Any] = {"messages": [*before, {**last, "content": content}]}
    if mode == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def wrong_answer(request: Request, text: str) -> InvalidAnswer | None:
    """Return what is wrong with an answer; None where nothing is, or nothing can be said."""
    properties = (request.schema or {}).get("properties")
    if not properties or any(_is_nested(rule) for rule in properties.values()):
        return None  # several rows in one answer: who packed them takes it apart
    parsed = parse_answer(text, request.schema or {})
    return parsed if isinstance(parsed, InvalidAnswer) else None


def correction(request: Request, wrong: InvalidAnswer) -> tuple[Message, ...]:
    """Return the chat that asks once more: the wrong answer, and what is wrong with it.

    Not the same question again: at temperature 0 the same answer would come.
    """
    schema = json.dumps(request.schema, ensure_ascii=False)
    again = _AGAIN.format(reason=wrong.reason, schema=schema)
    said = Message(role="assistant", content=wrong.text)
    return (*request.messages, said, Message(role="user", content=again))


def _is_nested(rule: Mapping[str, Any]) -> bool:
    return rule.get("type") in {"array", "object"}
