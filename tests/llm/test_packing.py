"""Several rows per request: every row gets exactly one result, whatever the server does."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError
from llmlabel.llm import Failure, Request, Response, Usage, complete_all, parse_answer
from llmlabel.llm.packing import complete_packed, pack, unpack

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["HAM", "SPAM"]},
        "words": {"type": "integer", "minimum": 0},
    },
    "required": ["label", "words"],
    "additionalProperties": False,
}
SYSTEM = {"role": "system", "content": "Say what it is."}


def ask_about(text, row="", system=SYSTEM, **more):
    messages = [system, {"role": "user", "content": text}]
    return Request(row or f"row {text}", "m", messages, {"max_tokens": 20}, SCHEMA, **more)


def truth(text):
    return {"label": "SPAM" if "buy" in text else "HAM", "words": len(text.split())}


def items_of(request):
    """What a server reads: the items of a packed request, or None."""
    if "answers" not in request.schema["properties"]:
        return None
    lines = request.messages[-1]["content"].split("\n\n", 1)[1].split("\n")
    return {item["n"]: item["item"] for item in map(json.loads, lines)}


PACKED = Usage(101, 53)


def answered(answers, usage=PACKED):
    return Response(
        answers if isinstance(answers, str) else json.dumps(answers), "m-1", usage=usage
    )


class Server:
    """Answers rightly, after `spoil` has had its way with the entries of packed answers."""

    def __init__(self, spoil=lambda entries: entries, wrap=lambda entries: {"answers": entries}):
        self.spoil, self.wrap, self.asked = spoil, wrap, []

    def __call__(self, requests):
        self.asked += requests
        return [self.answer(r) for r in requests]

    def answer(self, request):
        items = items_of(request)
        if items is None:
            return answered(truth(request.messages[-1]["content"]), Usage(11, 7))
        entries = self.spoil([{"n": n, **truth(t)} for n, t in items.items()])
        return answered(self.wrap(entries)) if not isinstance(entries, Failure) else entries


def check(requests, found):
    """Exactly one right result per row."""
    assert len(found.results) == len(requests)
    for request, result in zip(requests, found.results, strict=True):
        assert parse_answer(result.text, SCHEMA) == truth(request.messages[-1]["content"])


TEXTS = st.lists(
    st.sampled_from(["buy", "hi", "buy now", "a b c", '"}\n{"n": 1', "x"]), max_size=14
)


@given(TEXTS, st.integers(1, 6), st.integers(0, 3))
def test_rows_come_back_in_order(texts, rows_per_request, seed):
    requests = [ask_about(t, f"r{i}") for i, t in enumerate(texts)]
    server = Server()
    found = complete_packed(requests, server, rows_per_request, seed=seed)
    check(requests, found)
    distinct = len(set(texts))
    assert found.alone == 0
    assert found.calls == len(server.asked) == -(-distinct // rows_per_request)
    assert [r.cached for r in found.results] == [t in texts[:i] for i, t in enumerate(texts)]


@st.composite
def spoilings(draw):
    """Omit, repeat, contradict, break, renumber and reorder entries, by a drawn plan."""
    form = draw(st.sampled_from(["whole", "cut", "fenced", "bare"]))
    # Where the answer is cut off, only the wrong half of a contradiction might be left.
    kinds = "okomrbxnz" if form == "cut" else "okomrcbxnz"
    plan = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=12))
    rotate = draw(st.integers(0, 5))

    def spoil(entries):
        out = []
        for i, entry in enumerate(entries):
            what = plan[i % len(plan)]
            wrong = {**entry, "label": "HAM" if entry["label"] == "SPAM" else "SPAM"}
            out += {
                "o": [entry], "k": [{**entry, "n": str(entry["n"])}], "m": [], "r": [entry, entry],
                "c": [entry, wrong], "b": [{**entry, "label": "EGGS"}], "x": [{"n": entry["n"]}],
                "n": [{k: v for k, v in entry.items() if k != "n"}],
                "z": [{**entry, "n": entry["n"] + len(entries)}],
            }[what]  # fmt: skip
        return out[rotate:] + out[:rotate]

    return spoil, form


@given(TEXTS, st.integers(2, 6), spoilings())
def test_every_row_gets_its_own_answer_whatever_the_server_does(texts, r, spoiling):
    spoil, form = spoiling
    wraps = {
        "whole": lambda e: {"answers": e},
        "cut": lambda e: json.dumps({"answers": e})[: 25 + 30 * len(e)],
        "fenced": lambda e: (
            f'<think>{{"answers": [3]}}</think>```json\n{json.dumps({"answers": e})}\n```'
        ),
        "bare": json.dumps,
    }
    requests = [ask_about(t, f"r{i}") for i, t in enumerate(texts)]
    server = Server(spoil, wraps[form])
    found = complete_packed(requests, server, r)
    check(requests, found)
    assert found.calls == len(server.asked)
    paid = sum(
        (Server().answer(q).usage if items_of(q) is None else Usage(101, 53)).prompt_tokens
        for q in server.asked
    )
    assert sum(x.usage.prompt_tokens for x in found.results if not x.cached) == paid


def test_zero_based_numbers_are_not_trusted():
    server = Server(lambda entries: [{**e, "n": e["n"] - 1} for e in entries])
    requests = [ask_about(t) for t in ("buy", "hi", "a b c")]
    found = complete_packed(requests, server, 3)
    check(requests, found)
    assert found.alone == 3


def test_a_failed_pack_is_asked_row_by_row_and_a_broken_server_is_not_asked_again():
    requests = [ask_about(t) for t in ("buy", "hi", "a b c", "x")]
    server = Server(lambda entries: Failure("pack", "too long", 400))
    found = complete_packed(requests, server, 2)
    check(requests, found)
    assert (found.calls, found.alone) == (6, 4)
    server = Server(lambda entries: Failure("pack", "overloaded", 503, retryable=True))
    found = complete_packed(requests, server, 2)
    assert found.results == tuple(
        Failure(r.custom_id, "overloaded", 503, retryable=True) for r in requests
    )
    assert found.calls == 2


def test_what_is_packed_together_shares_all_but_the_last_message():
    other = {"role": "system", "content": "Say something else."}
    requests = [
        *(ask_about(f"t{i}") for i in range(5)),
        *(ask_about(f"t{i}", system=other) for i in range(4)),
        *(ask_about(f"t{i}", sample=1) for i in range(3)),
    ]
    packs = pack(requests, 10)
    assert sorted(len(p.members) for p in packs) == [3, 4, 5]
    for p in packs:
        assert {(m.messages[0]["content"], m.sample) for m in p.members} == {
            (p.request.messages[0]["content"], p.request.sample)
        }
    five = next(p for p in packs if len(p.members) == 5)
    assert five.request.params == {"max_tokens": (20 + 8) * 5}
    entry = five.request.schema["properties"]["answers"]["items"]
    assert list(entry["properties"]) == entry["required"] == ["n", "label", "words"]
    assert items_of(five.request) == {
        i: m.messages[1]["content"] for i, m in enumerate(five.members, 1)
    }


def test_the_order_is_shuffled_by_the_seed_and_early_packs_stay():
    requests = [ask_about(f"t{i}") for i in range(200)]
    packs = pack(requests, 3, seed=1)
    assert [p.request for p in packs] == [p.request for p in pack(requests, 3, seed=1)]
    assert packs != pack(requests, 3, seed=2)
    flat = [m for p in packs for m in p.members]
    assert flat != requests and sorted(flat, key=requests.index) == requests
    more = pack([*requests, ask_about("new")], 3, seed=1)
    assert more[:64] == packs[:64]


def test_usage_is_split_and_provenance_kept():
    [p] = pack([ask_about(t) for t in ("buy", "hi", "x")], 3)
    entries = [{"n": i + 1, **truth(m.messages[-1]["content"])} for i, m in enumerate(p.members)]
    whole = Response(
        json.dumps({"answers": entries}), "m-1", usage=Usage(100, 50), body={"id": "a"}
    )
    parts = unpack(p, whole)
    assert sum(x.usage.prompt_tokens for x in parts) == 100
    assert sum(x.usage.completion_tokens for x in parts) == 50
    assert max(x.usage.prompt_tokens for x in parts) == 34
    assert parts[1].body == {"id": "a", "packed": {"n": 2, "of": 3}}
    assert parts[1].model == "m-1"


def test_the_saving_is_told():
    long = {"role": "system", "content": "word " * 400}
    requests = [ask_about(f"t{i}", system=long) for i in range(20)]
    found = complete_packed(requests, Server(), 10, count_tokens=lambda text: len(text.split()))
    assert found.prompt_tokens_alone == 20 * 401
    assert 2 * 400 < found.prompt_tokens < 2 * 600


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        pack([], 0)
    free = Request("r", "m", [{"role": "user", "content": "x"}])
    with pytest.raises(
        ConfigError, match="row 'r': several rows per request need an answer schema"
    ):
        pack([free], 2)
    taken = Request("r", "m", free.messages, schema={"properties": {"n": {"type": "integer"}}})
    with pytest.raises(ConfigError, match="'n' is taken"):
        pack([taken], 2)
    last = Request("r", "m", [SYSTEM], schema=SCHEMA)
    with pytest.raises(ConfigError, match="last message must be the user's"):
        pack([last], 2)


def test_against_a_server_that_knows_no_lists(server, prompt, task):
    """It answers 0 for the list, so every row is asked alone, and each gets its answer."""
    requests = [prompt.request(task, {}, f"text {i}", f"r{i}") for i in range(7)]
    ask = functools.partial(complete_all, client=server.client())
    found = complete_packed(requests, ask, 3)
    alone = complete_all(requests, server.client())
    assert [r.text for r in found.results] == [r.text for r in alone]
    assert (found.calls, found.alone) == (9, 6)
