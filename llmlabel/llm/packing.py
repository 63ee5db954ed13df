"""Several rows in one request: packed, asked, taken apart; what fails is asked alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from llmlabel.errors import ConfigError
from llmlabel.io import canonical_json
from llmlabel.llm.answers import check_answer
from llmlabel.llm.types import Failure, Message, Request, Response, Usage

__all__ = ["Ask", "PackedRequest", "PackedResults", "complete_packed", "pack", "unpack"]

Ask = Callable[[Sequence[Request]], "Sequence[Response | Failure]"]
"""`complete_all` with everything but the requests given."""

CountTokens = Callable[[str], int]

_WINDOW: Final = 32
"""So many packs' rows are shuffled with each other."""
_TASK: Final = (
    "{count} items follow, one JSON object per line. Answer each as if it were the "
    "only one.\n"
    'Answer with one JSON object {{"answers": [...]}} that holds one object per item: '
    "\"n\", the item's number, and the fields of that item's answer ({fields}).\n\n{items}"
)
_ENTRY_TOKENS: Final = 8
_LIMITS: Final = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class PackedRequest:
    """One request that stands for several.

    Parameters
    ----------
    request
        What is sent. Where it stands for one request, that one itself.
    members
        The requests it stands for, in the order of their numbers, 1 to r.
    """

    request: Request
    members: tuple[Request, ...]


@dataclass(frozen=True)
class PackedResults:
    """What came of `complete_packed`.

    Parameters
    ----------
    results
        One per request, in the order given.
    calls
        Requests asked in all.
    alone
        Of those, rows asked again alone since their part was missing or wrong.
    prompt_tokens, prompt_tokens_alone
        Prompt tokens by the counter: of all that was asked, and of what asking
        each row alone would have been. Their difference is the saving.
    """

    results: tuple[Response | Failure, ...]
    calls: int
    alone: int
    prompt_tokens: int
    prompt_tokens_alone: int


def pack(requests: Sequence[Request], rows_per_request: int, seed: int = 0) -> list[PackedRequest]:
    """Pack requests that differ in their last message alone.

    Parameters
    ----------
    requests
        Requests with a schema. Those that agree in model, parameters, schema
        and all messages but the last are packed together; equal ones are one item.
    rows_per_request
        The most per packed request.
    seed
        Of the order. Rows are shuffled among 32 packs' worth of neighbours, so
        that neither a file's order nor a row's place in the prompt leans the
        answers, and rows added at the end change the last few packs alone: the
        others are in the cache.

    Raises
    ------
    ConfigError
        `rows_per_request` below 1; a request without schema, with an answer
        field ``n``, or whose last message is not the user's.

    Examples
    --------
    >>> schema = {"type": "object", "properties": {"label": {"enum": ["A", "B"]}}}
    >>> ask = [Request(t, "m", [{"role": "user", "content": t}], schema=schema) for t in "xyz"]
    >>> [len(p.members) for p in pack(ask, 2)]
    [2, 1]
    """
    if rows_per_request < 1:
        raise ConfigError(f"rows_per_request: expected at least 1, got {rows_per_request}")
    groups: dict[str, dict[str, Request]] = {}
    for request in requests:
        _check(request)
        items = groups.setdefault(_common(request), {})
        items.setdefault(_item(request), request)
    packs = []
    for items in groups.values():
        distinct = list(items.values())
        window = rows_per_request * _WINDOW
        for start in range(0, len(distinct), window):
            part = distinct[start : start + window]
            mixer = np.random.default_rng([seed, start, part[0].sample])
            order = mixer.permutation(len(part)).tolist()
            for at in range(0, len(part), rows_per_request):
                members = tuple(part[i] for i in order[at : at + rows_per_request])
                packs.append(PackedRequest(_packed(members), members))
    return packs


def unpack(packed: PackedRequest, response: Response) -> list[Response | None]:
    """Take an answer to several rows apart.

    Parameters
    ----------
    packed, response
        A request of two or more members, and what came.

    Returns
    -------
    One per member: a response whose text is the answer's fields, without
    logprobs and with its part of the usage; None where its entry is missing,
    outside the schema, or given twice differently. Where any number is none of
    those given, no number can be trusted and all are None. An answer that was
    cut off counts up to where it ends.
    """
    members = packed.members
    found: dict[int, str | None] = {}
    for entry in _entries(response.text.rpartition("</think>")[2]):
        number = entry.get("n")
        if isinstance(number, str) and number.strip().isdecimal():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int):
            continue
        if not 1 <= number <= len(members):
            return [None] * len(members)
        schema = members[number - 1].schema
        assert schema is not None  # checked when packed
        checked = check_answer(entry, schema)
        text = None if isinstance(checked, str) else json.dumps(checked, ensure_ascii=False)
        found[number] = text if found.get(number, text) == text else None
    shares = _shares(response.usage, len(members))
    return [
        None
        if (text := found.get(i + 1)) is None
        else replace(
            response,
            text=text,
            finish_reason="stop",
            usage=share,
            logprobs=None,
            body={**response.body, "packed": {"n": i + 1, "of": len(members)}},
        )
        for i, share in enumerate(shares)
    ]


def complete_packed(
    requests: Sequence[Request],
    ask: Ask,
    rows_per_request: int,
    *,
    seed: int = 0,
    count_tokens: CountTokens | None = None,
) -> PackedResults:
    """Ask several rows per request; ask those alone whose part did not come.

    A packed request that failed for its own sake (too long, a refusal) is asked
    row by row; one that failed by a server that may mend (``retryable``) is
    a failure of all its rows.

    Parameters
    ----------
    requests
        One per row.
    ask
        Asks requests, results in order: ``partial(complete_all, client=..., cache=...)``.
        Called at most twice.
    rows_per_request, seed
        See `pack`.
    count_tokens
        Of a text; by default a quarter of its characters.

    Returns
    -------
    PackedResults
        Exactly one result per request. Usage adds up to what was used: a row
        asked alone carries its part of the packed call too. Rows with the
        question of an earlier row are marked as cached, as by `complete_all`.
    """
    packs = pack(requests, rows_per_request, seed)
    results: dict[tuple[str, str], Response | Failure] = {}
    alone: list[Request] = []
    spent: list[Usage | None] = []
    for packed, came in zip(packs, ask([p.request for p in packs]), strict=True):
        parts, shares = _parts(packed, came)
        for member, part, share in zip(packed.members, parts, shares, strict=True):
            if part is None:
                alone.append(member)
                spent.append(share)
            else:
                results[_question(member)] = part
    if alone:
        for member, came, share in zip(alone, ask(alone), spent, strict=True):
            results[_question(member)] = _with_usage(came, share)
    asked = [p.request for p in packs] + alone
    count = count_tokens or _quarter
    return PackedResults(
        results=tuple(_handed_on(requests, results)),
        calls=len(asked),
        alone=len(alone),
        prompt_tokens=sum(_prompt_tokens(r, count) for r in asked),
        prompt_tokens_alone=sum(_prompt_tokens(m, count) for p in packs for m in p.members),
    )


def _parts(
    packed: PackedRequest, came: Response | Failure
) -> tuple[Sequence[Response | Failure | None], Sequence[Usage | None]]:
    n = len(packed.members)
    if n == 1:
        return [came], [None]
    if isinstance(came, Response):
        return unpack(packed, came), _shares(came.usage, n)
    if came.retryable:
        return [replace(came, custom_id=m.custom_id) for m in packed.members], [None] * n
    return [None] * n, [None] * n


def _handed_on(
    requests: Sequence[Request], results: Mapping[tuple[str, str], Response | Failure]
) -> Iterator[Response | Failure]:
    seen: set[tuple[str, str]] = set()
    for request in requests:
        question = _question(request)
        result = results[question]
        if isinstance(result, Failure):
            result = replace(result, custom_id=request.custom_id)
        elif question in seen:
            result = replace(result, cached=True)
        seen.add(question)
        yield result


def _check(request: Request) -> None:
    where = f"row {request.custom_id!r}: several rows per request"
    if request.schema is None or not request.schema.get("properties"):
        raise ConfigError(f"{where} need an answer schema")
    if "n" in request.schema["properties"]:
        raise ConfigError(f"{where}: the answer field 'n' is taken by the item's number")
    if not request.messages or request.messages[-1]["role"] != "user":
        raise ConfigError(f"{where}: the last message must be the user's")


def _common(request: Request) -> str:
    shared = [dict(m) for m in request.messages[:-1]]
    return canonical_json(
        [request.model, shared, request.params, request.schema, request.sample, request.prompt]
    )


def _item(request: Request) -> str:
    return request.messages[-1]["content"]


def _question(request: Request) -> tuple[str, str]:
    return _common(request), _item(request)


def _packed(members: Sequence[Request]) -> Request:
    first = members[0]
    if len(members) == 1:
        return first
    assert first.schema is not None
    lines = [
        json.dumps({"n": i, "item": _item(m)}, ensure_ascii=False) for i, m in enumerate(members, 1)
    ]
    content = _TASK.format(
        count=len(members),
        fields=", ".join(first.schema["properties"]),
        items="\n".join(lines),
    )
    last: Message = {"role": "user", "content": content}
    more = {
        k: (first.params[k] + _ENTRY_TOKENS) * len(members) for k in _LIMITS if k in first.params
    }
    return replace(
        first,
        custom_id=f"{first.custom_id} and {len(members) - 1} more",
        messages=(*first.messages[:-1], last),
        params={**first.params, **more},
        schema=_packed_schema(first.schema),
    )


def _packed_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = {"n": {"type": "integer"}, **schema["properties"]}
    entry = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": entry}},
        "required": ["answers"],
        "additionalProperties": False,
    }


_LIST: Final = re.compile(r'(?<!\\)"answers"\s*:\s*\[')


def _entries(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of each list of answers, up to where it ends or is cut off."""
    decoder = json.JSONDecoder()
    starts = [m.end() for m in _LIST.finditer(text)] or [text.find("[") + 1]
    for at in starts:
        while (found := re.compile(r"[\s,]*(?=\{)").match(text, at)) is not None:
            try:
                entry, at = decoder.raw_decode(text, found.end())
            except (ValueError, RecursionError):
                break
            yield entry


def _shares(usage: Usage | None, n: int) -> list[Usage | None]:
    if usage is None:
        return [None] * n
    prompt, completion = (_split(t, n) for t in (usage.prompt_tokens, usage.completion_tokens))
    return [Usage(p, c) for p, c in zip(prompt, completion, strict=True)]


def _split(total: int, n: int) -> list[int]:
    return [(total * (i + 1)) // n - (total * i) // n for i in range(n)]


def _with_usage(came: Response | Failure, share: Usage | None) -> Response | Failure:
    if share is None or isinstance(came, Failure):
        return came
    own = came.usage or Usage(0, 0)
    return replace(
        came,
        usage=Usage(
            own.prompt_tokens + share.prompt_tokens,
            own.completion_tokens + share.completion_tokens,
        ),
    )


def _prompt_tokens(request: Request, count: CountTokens) -> int:
    return sum(count(m["content"]) for m in request.messages)


def _quarter(text: str) -> int:
    return -(-len(text) // 4)
