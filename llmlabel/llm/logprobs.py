"""From the log-probabilities of an answer's tokens to the mass of each class."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Step", "class_masses", "steps_of_value"]


@dataclass(frozen=True)
class Step:
    """One token of a value: what was written, and what might have been.

    Parameters
    ----------
    written
        The token, from the value's first character on.
    options
        The listed tokens with their probabilities, `written` among them.
    """

    written: str
    options: tuple[tuple[str, float], ...]


def steps_of_value(
    logprobs: Sequence[Mapping[str, Any]], field: str | None
) -> tuple[list[Step], bool] | None:
    """Find the tokens of a field's value by character offsets.

    Parameters
    ----------
    logprobs
        `Response.logprobs`.
    field
        The JSON field, of whose occurrences the last counts; None: the value is
        the whole text behind a model's thoughts.

    Returns
    -------
    The steps from the value's first character on, and whether it stands in
    quotes; None where there is no such field or nothing behind it.

    Examples
    --------
    >>> tokens = [{"token": t, "logprob": 0.0} for t in ('{"a', '":', ' "x', '"}')]
    >>> steps, quoted = steps_of_value(tokens, "a")
    >>> [s.written for s in steps], quoted
    (['x', '"}'], True)
    """
    tokens = [str(t["token"]) for t in logprobs]
    text = "".join(tokens)
    answer = text.rfind("</think>")
    begin = 0 if answer < 0 else answer + len("</think>")
    name = "" if field is None else rf"(?<!\\){re.escape(json.dumps(field))}\s*:"
    pattern = re.compile(rf'{name}\s*("?)')
    found = [pattern.match(text, begin)] if field is None else [*pattern.finditer(text, begin)]
    if not found or found[-1] is None or found[-1].end() == len(text):
        return None
    start = found[-1].end()
    steps, at = [], 0
    for token, entry in zip(tokens, logprobs, strict=True):
        if at + len(token) > start:
            steps.append(_step(entry, token, max(0, start - at)))
        at += len(token)
    return steps, bool(found[-1][1])


def _step(entry: Mapping[str, Any], token: str, skip: int) -> Step:
    """Cut off what stands before the value; leave out alternatives that begin otherwise."""
    listed = {str(o["token"]): o["logprob"] for o in entry.get("top_logprobs") or ()}
    listed.setdefault(token, entry["logprob"])
    before = token[:skip].lstrip()  # a space more or less before the quote says nothing
    options: dict[str, float] = {}
    for option, logprob in listed.items():
        begun = option.lstrip() if skip else option
        if begun.startswith(before) and len(begun) > len(before):
            rest = begun[len(before) :]
            options[rest] = options.get(rest, 0.0) + math.exp(min(0.0, logprob))
    return Step(token[skip:], tuple(options.items()))


def class_masses(
    steps: Sequence[Step], classes: Sequence[str], *, quoted: bool
) -> npt.NDArray[np.float64]:
    """Follow a value's tokens and give each class its mass; see `logprob_probabilities`.

    Parameters
    ----------
    steps, quoted
        From `steps_of_value`.
    classes
        The k values.

    Returns
    -------
    array of float, shape (k,), not normalised

    Examples
    --------
    >>> steps = [Step("A", (("A", 0.9), ("B", 0.1))), Step('B"', (('B"', 0.5), ('"', 0.25)))]
    >>> class_masses(steps, ["A", "AB", "B"], quoted=True)
    array([0.225, 0.45 , 0.1  ])
    """
    ends = [_spellings(c, quoted=quoted) for c in classes]
    mass = np.zeros(len(classes))
    live, done, path = list(range(len(classes))), "", 1.0
    for step in steps:
        after = live
        covered: set[int] = set()
        for text, p in step.options:
            hit = _agreeing(ends, live, done + text, quoted=quoted)
            covered.update(hit)
            if text == step.written:
                after = hit
            elif hit:
                mass[hit] += path * p / len(hit)
        left = [c for c in live if c not in covered]
        mass[left] += path * _bound(step, len(left))
        path *= next(p for text, p in step.options if text == step.written)
        live, done = after, done + step.written
        if len(live) <= 1:
            break
    # The text has ended: of "A" and "AB" it was "A".
    live = [c for c in live if done in ends[c]] or live
    mass[live] += path / max(1, len(live))
    return mass


def _spellings(name: str, *, quoted: bool) -> tuple[str, ...]:
    """Return what may be written for a class, up to where its value ends; the likelier first."""
    if not quoted:
        return (name, name)
    return tuple(json.dumps(name, ensure_ascii=escaped)[1:] for escaped in (False, True))


def _agreeing(
    ends: Sequence[Sequence[str]], live: Sequence[int], text: str, *, quoted: bool
) -> list[int]:
    """Return the values that this text begins or ends; if none, escaped; if none, in any case."""
    plain, escaped = zip(*ends, strict=True)
    folded = [e.casefold() for e in plain]
    tiers = [(plain, text), (escaped, text)]
    if len(set(folded)) == len(folded):
        tiers.append((tuple(folded), text.casefold()))
    for spelled, begun in tiers:
        hit = [c for c in live if _agrees(spelled[c], begun, quoted=quoted)]
        if hit:
            return hit
    return []


def _agrees(end: str, text: str, *, quoted: bool) -> bool:
    """Whether a text that begins like this can be, or already is, this value."""
    if end.startswith(text):
        return True
    return text.startswith(end) and (quoted or not text[len(end)].isalnum())


def _bound(step: Step, uncovered: int) -> float:
    """Return the most that each class without a listed token may have at this step."""
    if not uncovered:
        return 0.0
    listed = [p for _, p in step.options]
    return min(min(listed, default=1.0), max(0.0, 1.0 - sum(listed)) / uncovered)
