import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ClientError, ConfigError
from llmlabel.llm import Request, Response, Usage
from llmlabel.llm.types import response_from_body

BASE = Request(
    "row-1",
    "m",
    [{"role": "user", "content": "spam?"}],
    {"temperature": 0.5, "stop": ["x"]},
    {"properties": {}},
    "name",
    "mark",
    sample=0,
)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("model", "n"),
        ("messages", [{"role": "user", "content": "spam!"}]),
        ("messages", [{"role": "system", "content": "spam?"}]),
        ("params", {"temperature": 0.6, "stop": ["x"]}),
        ("params", {"temperature": 0.5}),
        ("schema", {"properties": {"a": {}}}),
        ("schema", None),
        ("sample", 1),
    ],
)
def test_key_changes_with_all_that_changes_the_answer(field, other):
    assert dataclasses.replace(BASE, **{field: other}).key("p") != BASE.key("p")


@pytest.mark.parametrize(
    ("field", "other"),
    [("custom_id", "row-2"), ("prompt", "renamed"), ("prompt_fingerprint", "other")],
)
def test_key_does_not_change_with_what_only_names_the_row_or_prompt(field, other):
    assert dataclasses.replace(BASE, **{field: other}).key("p") == BASE.key("p")


def test_key_depends_on_the_provider():
    assert BASE.key("a") != BASE.key("b")


def test_key_stays_the_same_between_versions():
    # A changed key silently pays for every cached answer again.
    assert BASE.key("api.openai.com").startswith("b7d829409c0981f545c2")


def test_equal_parameters_are_spelled_alike():
    a = Request("a", "m", [], {"temperature": 1.0, "top_p": None, "bias": {"x": 2.0}})
    b = Request("b", "m", [], {"bias": {"x": 2}, "temperature": 1})
    assert a.params == b.params == {"temperature": 1, "bias": {"x": 2}}
    assert a.key("p") == b.key("p")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object(), {1, 2}, [object()]])
def test_parameters_must_be_json(bad):
    with pytest.raises(ConfigError, match=r"parameter 'top_p': expected plain JSON"):
        Request("a", "m", [], {"top_p": bad})


@given(
    st.text(),
    st.none() | st.builds(Usage, st.integers(0), st.integers(0)),
    st.none() | st.lists(st.fixed_dictionaries({"token": st.text(), "logprob": st.floats(-9, 0)})),
    st.floats(0, 1e6),
)
def test_a_response_comes_back_from_its_dict(text, usage, logprobs, latency):
    kept = None if logprobs is None else tuple(logprobs)
    response = Response(text, "m", "stop", usage, kept, latency, 12, body={"id": "x"})
    again = Response.from_dict(json.loads(json.dumps(response.as_dict())))
    assert again == response
    assert Response.from_dict(response.as_dict(), cached=True).cached


def body(**message):
    return {
        "id": "c-1",
        "created": 7,
        "model": "m-2026",
        "choices": [{"message": {"content": "yes", **message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def test_response_from_body_keeps_what_matters():
    got = response_from_body(body(), latency_s=0.5)
    assert got == Response("yes", "m-2026", "stop", Usage(3, 1), None, 0.5, 7, body={"id": "c-1"})


def test_response_from_body_reads_logprobs():
    given_body = body()
    token = {"token": "yes", "logprob": -0.1, "bytes": [1]}
    given_body["choices"][0]["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
    assert response_from_body(given_body).logprobs == (
        {"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "yes", "logprob": -0.1}]},
    )


@pytest.mark.parametrize(
    "broken", [None, [], {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]}]
)
def test_a_body_without_an_answer_may_be_asked_for_again(broken):
    with pytest.raises(ClientError, match="expected a chat completion") as caught:
        response_from_body(broken)
    assert caught.value.retryable and not caught.value.fatal


def test_a_message_without_text_may_be_asked_for_again():
    with pytest.raises(ClientError, match="no text") as caught:
        response_from_body(body(content=None))
    assert caught.value.retryable


def test_a_refusal_is_final_for_its_row():
    with pytest.raises(ClientError, match="refused: not me") as caught:
        response_from_body(body(content=None, refusal="not me"))
    assert not caught.value.retryable and not caught.value.fatal


def test_a_filtered_answer_is_a_refusal():
    filtered = body()
    filtered["choices"][0]["finish_reason"] = "content_filter"
    with pytest.raises(ClientError, match="content filter"):
        response_from_body(filtered)
