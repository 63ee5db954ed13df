import asyncio
import logging
import time

import openai
import pytest

from llmlabel.errors import ClientError
from llmlabel.llm import Failure, OpenAIClient, Request, Response, Usage, complete_all, parse_answer
from llmlabel.llm.structured import forget_modes

KEY = "sk-test-secret"


@pytest.fixture(autouse=True)
def _nothing_known_of_endpoints():
    forget_modes()
    yield
    forget_modes()


def question(text="hello", **fields):
    return Request("row-1", "", [{"role": "user", "content": text}], **fields)


def ask(client, request):
    async def run():
        async with client:
            return await client.complete(request)

    return asyncio.run(run())


def refused(client, request=None):
    with pytest.raises(ClientError) as caught:
        ask(client, request or question())
    return caught.value


def rule(*faults, **more):
    return {"rules": [{"contains": "", "do": list(faults), **more}]}


# --- success --------------------------------------------------------------------


def test_an_answer_comes_with_what_it_cost(server):
    server.configure(api_key=KEY, models=["test-model"], latency_s=0.02)
    got = ask(server.client(), question("hello there"))
    assert got.text == "hello there" and got.model == "test-model-2026"
    assert got.usage == Usage(2, 2)
    assert got.finish_reason == "stop" and not got.cached
    assert 0.02 <= got.latency_s < 5 and abs(got.created - time.time()) < 60
    assert got.body == {"id": "chatcmpl-test"}


def test_the_schema_and_all_parameters_are_sent_as_they_are(server, prompt, task):
    params = {"max_tokens": 9, "guided_decoding_backend": "x"}
    request = prompt.request(task, {}, "hi", "row-1", "asked-model", params)
    got = ask(server.client(model=None), request)
    assert isinstance(parse_answer(got.text, prompt.schema(task)), dict)
    assert server.stats()["last"] == {
        "model": "asked-model",
        "messages": list(request.messages),
        "temperature": 0,
        "max_tokens": 9,
        "guided_decoding_backend": "x",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": prompt.schema(task)},
        },
    }


def test_the_clients_own_model_is_asked_and_keyed(server):
    one, two = server.client("one"), server.client("two")
    assert ask(one, question()).model == "one-2026"
    assert question().key(one.provider) != question().key(two.provider)
    assert server.client(None).provider == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        (None, "api.openai.com"),
        ("https://api.openai.com/v1/", "api.openai.com"),
        ("http://localhost:8000/v1", "localhost:8000"),
        ("https://user:secret@gate.example/azure/v1", "gate.example/azure"),
    ],
)
def test_the_provider_is_the_place_without_secrets(url, provider, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    client = OpenAIClient(base_url=url)
    assert client.provider == provider and "secret" not in repr(client)


def test_the_base_url_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1234/v1")
    assert OpenAIClient().provider == "localhost:1234"


# --- faults that pass ------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [429, 500, 503, 408, 409, "malformed", "no_choices", "half", "reset"]
)
def test_a_passing_fault_is_tried_again(server, fault):
    server.configure(**rule(fault, retry_after=0.01))
    assert ask(server.client(), question()).text == "hello"
    assert server.stats()["calls"] == 2


def test_retry_after_is_obeyed(server):
    server.configure(**rule(429, retry_after=1.2))
    started = time.perf_counter()
    ask(server.client(), question())
    assert 1.2 <= time.perf_counter() - started < 3


def test_a_slow_answer_is_tried_again_and_then_given_up(server):
    server.configure(**rule("slow:5"))
    assert ask(server.client(timeout=0.3), question()).text == "hello"
    server.configure(**rule("slow:5", forever=True))
    error = refused(server.client(timeout=0.3, max_retries=0))
    assert str(error) == f"127.0.0.1:{server.port}: no answer within 0.3 s"
    assert error.retryable and not error.fatal


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (429, 429, "429: Rate limit reached"),
        (503, 503, "503: Overloaded"),
        ("malformed", 200, 'the body is not JSON: \'{"choices": [{"mess\''),
        ("no_choices", None, "expected a chat completion with a choice"),
        ("reset", None, "no connection: "),
        ("half", None, "no connection: "),
    ],
)
def test_a_fault_that_stays_is_a_failure_that_may_be_tried_later(server, fault, status, words):
    server.configure(**rule(fault, forever=True))
    error = refused(server.client(max_retries=0))
    assert words in str(error)
    assert (error.status, error.retryable, error.fatal) == (status, True, False)
    assert server.stats()["calls"] == 1


def test_no_server_at_all_is_said(monkeypatch):
    monkeypatch.setenv("LLMLABEL_TEST_KEY", KEY)
    client = OpenAIClient("m", "http://127.0.0.1:9/v1", "LLMLABEL_TEST_KEY", max_retries=0)
    error = refused(client)
    assert str(error).startswith("127.0.0.1:9: no connection: ") and error.retryable


def test_failed_rows_stop_no_others(server):
    faults = [
        {"contains": "bad-1", "do": [{"status": 400, "error": {"message": "too long"}}]},
        {"contains": "bad-2", "do": ["refusal"]},
        {"contains": "bad-3", "do": ["malformed"], "forever": True},
        {"contains": "flaky", "do": [429, 500], "retry_after": 0.01},
    ]
    server.configure(rules=faults)
    texts = ["bad-1", "fine", "bad-2", "flaky", "bad-3"]
    asked = [Request(t, "m", [{"role": "user", "content": t}]) for t in texts]
    results = complete_all(asked, server.client(max_retries=2))
    place = f"127.0.0.1:{server.port}"
    assert [
        r.text if isinstance(r, Response) else (r.reason, r.status, r.retryable) for r in results
    ] == [
        (f"{place}: 400: too long", 400, False),
        "fine",
        ("refused: I cannot.", None, False),
        "flaky",
        ('the body is not JSON: \'{"choices": [{"mess\'', 200, True),
    ]


# --- faults that stay ------------------------------------------------------------


def test_a_bad_key_is_fatal_and_never_shown(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    server.configure(api_key="another")
    asked = [Request(str(i), "m", [{"role": "user", "content": str(i)}]) for i in range(100)]
    client = server.client()
    with pytest.raises(ClientError) as caught:
        complete_all(asked, client, max_in_flight=4)
    error = caught.value
    assert (error.status, error.fatal, error.retryable) == (401, True, False)
    assert "401: Incorrect API key provided: ***. You can find yours" in str(error)
    assert error.hint == "check the key in the environment variable LLMLABEL_TEST_KEY"
    assert server.stats()["calls"] <= 8
    shown = [repr(error), str(error), repr(client), repr(vars(client)), caplog.text]
    assert not any(KEY in text for text in shown)
    # What the package raises holds headers with the key: it must not be printed.
    assert error.__cause__ is None and not isinstance(error.__context__, openai.OpenAIError)


def test_an_unknown_model_is_fatal(server):
    server.configure(models=["other"])
    error = refused(server.client("test-modle"))
    assert (error.status, error.fatal) == (404, True)
    assert "The model does not exist" in str(error) and "'test-modle'" in str(error.hint)


def test_a_used_up_quota_is_fatal(server):
    quota = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    server.configure(**rule({"status": 429, "error": quota}, forever=True))
    error = refused(server.client(max_retries=0))
    assert error.fatal and not error.retryable and "exceeded your current quota" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        {"message": "This model does not support it", "param": "response_format"},
        {"message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported"},
    ],
)
def test_a_server_without_structured_answers_is_said(server, prompt, task, words):
    server.configure(**rule({"status": 400, "error": words}, forever=True))
    error = refused(server.client(), prompt.request(task, {}, "x", "row-1"))
    assert error.fatal and "cannot give structured answers (response_format): " in str(error)


def test_a_parameter_that_the_model_does_not_take_is_said(server):
    words = {
        "message": "Unsupported value: 'temperature' does not support 0 with this model.",
        "param": "temperature",
        "code": "unsupported_value",
    }
    server.configure(**rule({"status": 400, "error": words}, forever=True))
    error = refused(server.client())
    assert error.fatal and "no such temperature" in str(error.hint)


def test_a_missing_key_is_said_before_anything_is_asked(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    error = refused(OpenAIClient("m", api_key_env="NO_SUCH_KEY"))
    assert str(error) == "no API key: the environment variable NO_SUCH_KEY is not set"
    assert error.fatal and error.hint == "export NO_SUCH_KEY=..."


def test_a_local_server_needs_no_key(server, monkeypatch):
    monkeypatch.delenv("LLMLABEL_TEST_KEY")
    assert ask(server.client(), question()).text == "hello"


def test_no_model_is_said(server):
    error = refused(server.client(model=None))
    assert error.fatal and "no model" in str(error)


def test_text_that_cannot_be_sent_is_that_rows_failure(server):
    asked = [question("half a pair \ud800"), question("fine")]
    bad, fine = complete_all(asked, server.client())
    assert isinstance(bad, Failure) and "not valid Unicode" in bad.reason
    assert fine.text == "fine"
