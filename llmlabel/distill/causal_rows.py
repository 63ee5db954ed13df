"""Rows of prompt and completion, or of chat messages, as text with the spans to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jinja2.exceptions import TemplateError

from llmlabel.errors import ConfigError, DataError

__all__ = ["Row", "SpannedText", "Turns", "chat_text", "check_messages", "read_rows"]

Row = Mapping[str, Any]
Turns = Literal["all", "last"]


@dataclass(frozen=True)
class SpannedText:
    """A row's whole text and which characters of it are learned.

    Parameters
    ----------
    text
        Prompt and completion, or what the chat template makes of the messages.
    spans
        Start and end of each part that is learned, in characters, ascending.
    bos
        Whether the tokenizer's first special token has to be put in front: a chat template
        writes its own.
    eos
        Whether the end-of-text token has to be put behind and learned.
    weight
        How much the row's loss counts.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    bos: bool
    eos: bool
    weight: float


def read_rows(rows: Sequence[Row], tokenizer: Any, *, turns: Turns = "all") -> list[SpannedText]:
    """Check rows and return their texts.

    Parameters
    ----------
    rows
        Each with ``prompt`` and ``completion``, or with ``messages``; optionally a ``weight``.
    tokenizer
        Its chat template is used for messages.
    turns
        Which assistant turns of messages are learned: all, or the last only.

    Raises
    ------
    DataError
        No rows; a row of another form, messages in another order, a template that rewrites
        earlier turns, a weight that is not positive. Rows are counted from 0.
    ConfigError
        Messages for a tokenizer without a chat template, or an unknown `turns`.

    Examples
    --------
    >>> class NoChat:
    ...     chat_template = None
    >>> read_rows([{"prompt": "2+2=", "completion": "4"}], NoChat())[0].spans
    ((4, 5),)
    """
    if turns not in ("all", "last"):
        raise ConfigError(f"turns: expected 'all' or 'last', got {turns!r}")
    if not rows:
        raise DataError("expected at least one row of prompt and completion or of messages")
    return [_read_row(i, row, tokenizer, turns) for i, row in enumerate(rows)]


def _read_row(i: int, row: Row, tokenizer: Any, turns: Turns) -> SpannedText:
    weight = row.get("weight", 1.0)
    if not (isinstance(weight, int | float | np.number) and 0 < float(weight) < np.inf):
        raise DataError(f"weight: expected a positive number, got {weight!r}", row=i)
    keys = set(row) - {"weight"}
    if keys == {"messages"}:
        text, spans, ends = _chat_row(i, row["messages"], tokenizer, turns)
        return SpannedText(text, spans, bos=False, eos=not ends, weight=float(weight))
    if keys != {"prompt", "completion"}:
        raise DataError(
            f"expected the keys 'prompt' and 'completion', or 'messages', got {sorted(keys)}", row=i
        )
    for key in ("prompt", "completion"):
        if not isinstance(row[key], str):
            raise DataError(f"expected a text, got {type(row[key]).__name__}", row=i, field=key)
    text = row["prompt"] + row["completion"]
    return SpannedText(text, ((len(row["prompt"]), len(text)),), True, True, float(weight))


def check_messages(messages: Any, row: int, *, ends_with: str = "assistant") -> None:
    """Check the roles of a conversation.

    Raises
    ------
    DataError
        Anything but an optional system message, then user and assistant by turns, up to one of
        `ends_with`, each with a text as content.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise DataError("messages: expected a list of role and content", row=row)
    for at, message in enumerate(messages):
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, str):
            raise DataError(f"message {at}: expected a role and a text as content", row=row)
    roles = [str(m.get("role")) for m in messages]
    start = int(roles[0] == "system")
    expected = ["user", "assistant"] * len(roles)
    if roles[start:] != expected[: len(roles) - start] or roles[-1] != ends_with:
        raise DataError(
            "messages: expected an optional system, then user and assistant by turns, the last "
            f"{ends_with}, got {', '.join(roles)}",
            row=row,
        )


def chat_text(tokenizer: Any, messages: Sequence[Row], row: int, *, prompt: bool) -> str:
    """Return what the chat template makes of messages; with `prompt`, up to the next answer.

    Raises
    ------
    ConfigError
        The tokenizer has no chat template.
    DataError
        The template refuses the messages.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(
            "messages need a chat template and the tokenizer has none",
            hint="give rows of prompt and completion, or set tokenizer.chat_template",
        )
    try:
        text: str = tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=prompt
        )
    except TemplateError as error:
        raise DataError(f"the chat template refuses the messages: {error}", row=row) from error
    return text


def _chat_row(
    i: int, messages: Any, tokenizer: Any, turns: Turns
) -> tuple[str, tuple[tuple[int, int], ...], bool]:
    """Return the text, its spans, and whether the template itself ends the last answer."""
    check_messages(messages, i)
    text = chat_text(tokenizer, messages, i, prompt=False)
    answers = [at for at, m in enumerate(messages) if m["role"] == "assistant"]
    spans = []
    for at in answers if turns == "all" else answers[-1:]:
        before = chat_text(tokenizer, messages[:at], i, prompt=True)
        after = (
            text
            if at == len(messages) - 1
            else chat_text(tokenizer, messages[: at + 1], i, prompt=False)
        )
        if not (text.startswith(after) and after.startswith(before)):
            raise DataError(
                f"the chat template writes what comes before message {at} differently once more "
                "follows, so that its tokens cannot be told apart",
                row=i,
                hint="learn the last answer only: turns='last'" if turns == "all" else None,
            )
        spans.append((len(before), _without_space(after, tokenizer.eos_token)))
    said = messages[-1]["content"].strip()
    return text, tuple(spans), not (said and text.rstrip().endswith(said))


def _without_space(text: str, eos: str | None) -> int:
    """Return where a turn ends: many templates write a line break behind its end token.

    Nothing is ever generated there, so that it is not learned.
    """
    bare = text.rstrip()
    return len(bare) if eos and bare.endswith(eos) else len(text)
