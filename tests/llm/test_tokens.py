"""Token counts: the estimate against real counts, bounds, and tiktoken where it is at hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.llm import Request
from llmlabel.llm.tokens import (
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    estimate_tokens,
    max_prompt_tokens,
    token_counter,
)

# Real counts of o200k_base, by tiktoken 0.14.
COUNTED = {
    "Where is my parcel? It was due on Monday and nobody has told me anything.": 17,
    "Ich warte seit zwei Wochen auf mein Paket und niemand antwortet mir.": 15,
    "Где моя посылка? Она должна была прийти в понедельник.": 17,
    "我的包裹在哪里？它应该在星期一到达。": 14,
    "내 소포는 어디에 있나요? 월요일에 도착할 예정이었습니다.": 19,
    "أين طردي؟ كان من المفترض أن يصل يوم الاثنين.": 15,
}


@pytest.mark.parametrize("text", COUNTED)
def test_the_estimate_is_near_the_real_count_in_every_script(text: str) -> None:
    assert estimate_tokens([text])[0] == pytest.approx(COUNTED[text], rel=0.35)


@given(st.lists(st.text(), max_size=8))
def test_texts_are_counted_apart_and_never_below_zero(texts: list[str]) -> None:
    together = estimate_tokens(texts)
    assert together.tolist() == [int(estimate_tokens([t])[0]) for t in texts]
    assert ((together > 0) == [bool(t) for t in texts]).all()


@given(st.text(), st.text())
def test_a_longer_text_has_no_fewer_tokens_and_no_more_than_its_parts(a: str, b: str) -> None:
    one, other, both = estimate_tokens([a, b, a + b])
    assert max(one, other) <= both <= one + other + 2


def test_a_prompt_is_its_messages_its_schema_and_what_is_around() -> None:
    bare = Request("r", "m", [{"role": "user", "content": ""}])
    schema = {"type": "object", "properties": {"label": {"enum": ["HAM", "SPAM"]}}}
    asked = Request("r", "m", [{"role": "user", "content": "Is it spam?"}] * 2, schema=schema)
    counter = token_counter("some-model")
    small, large = counter.prompts([bare, asked])
    assert small == MESSAGE_TOKENS + REPLY_TOKENS + estimate_tokens(["user"])[0]
    assert large > small + MESSAGE_TOKENS + 2 * estimate_tokens(["Is it spam?"])[0]
    assert counter.prompts([]).tolist() == []


@given(st.text(), st.text())
def test_the_bound_is_above_the_bytes_of_every_part(system: str, user: str) -> None:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    size = len((system + user).encode("utf-8", "surrogatepass"))
    assert max_prompt_tokens(Request("r", "m", messages)) > size


def test_tiktoken_is_never_asked_to_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert token_counter("gpt-4o-of-no-cache").name == "estimate"


def test_tiktoken_counts_where_its_files_are_at_hand() -> None:
    counter = token_counter("gpt-4o")
    if not counter.exact:
        there = importlib.util.find_spec("tiktoken") is not None
        pytest.skip("tiktoken's files are not at hand" if there else "tiktoken is not installed")
    assert dict(zip(COUNTED, counter.count(list(COUNTED)), strict=True)) == COUNTED
    assert counter.count(["<|endoftext|>"])[0] > 1
