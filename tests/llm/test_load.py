"""The engine against a server with limits, faults and a will of its own."""

import sqlite3
import threading
import time

import pytest

from llmlabel.errors import BudgetExceeded, ClientError, ConfigError
from llmlabel.llm import Cache, Failure, OpenAIClient, Request, Response, complete_all, stream_all
from llmlabel.llm.answers import InvalidAnswer, parse_answer
from llmlabel.llm.structured import forget_modes

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["HAM", "SPAM"]}},
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def running(serve_script):
    with serve_script("load_server.py") as server:
        yield server


@pytest.fixture
def load(running, monkeypatch):
    monkeypatch.setenv("LLMLABEL_TEST_KEY", "sk-test-secret")
    running.configure()
    forget_modes()
    yield running
    forget_modes()


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "answers.sqlite") as opened:
        yield opened


def questions(count, schema=None):
    return [
        Request(f"row-{i}", "m", [{"role": "user", "content": f"text {i}"}], schema=schema)
        for i in range(count)
    ]


def timed(requests, client, **arguments):
    started = time.perf_counter()
    results = complete_all(requests, client, **arguments)
    return results, time.perf_counter() - started


# --- faults -----------------------------------------------------------------------


def test_no_row_is_lost_to_faults_and_each_is_answered_once(load, cache):
    load.configure(
        latency_s=0.01,
        seed=3,
        rate_limited=0.05,
        failing=0.04,
        malformed=0.03,
        reset=0.03,
        half=0.03,
        retry_after_s=0.02,
    )
    results = complete_all(questions(400), load.client(), cache=cache)
    assert [r.text for r in results] == [f"text {i}" for i in range(400)]
    stats = load.stats()
    assert stats["calls"] > 420 and len(cache) == 400
    assert set(stats["answered_by_text"].values()) == {1}


def test_a_dead_server_ends_the_run_and_does_not_cost_each_row_its_retries(load):
    load.configure(dead=True)
    with pytest.raises(ClientError, match="answers nothing: .* attempts in a row failed") as caught:
        complete_all(questions(2000), load.client(max_retries=2), max_in_flight=8, drain_s=0.1)
    assert caught.value.fatal and caught.value.retryable
    assert load.stats()["calls"] < 100


def test_a_row_ends_when_its_time_is_up(load):
    load.configure(latency_s=0.001, failing=1.0)
    client = load.client(max_retries=50, total_timeout=0.8)
    (result,), took = timed(questions(1), client)
    assert isinstance(result, Failure) and result.status == 500 and result.retryable
    assert took < 3


# --- limits --------------------------------------------------------------------------


def test_requests_per_window_are_kept_by_what_the_headers_say(load):
    load.configure(rpm=40, window_s=0.5)
    results, took = timed(questions(120), load.client())
    assert all(isinstance(r, Response) for r in results)
    assert 1.0 <= took < 6
    # Without the headers each of the 120 would be refused again and again.
    assert load.stats()["refused"].get("429", 0) < 120


def test_tokens_per_window_are_kept(load):
    load.configure(tpm=400, window_s=0.5)
    long = [
        Request(f"row-{i}", "m", [{"role": "user", "content": f"{i} " + "word " * 30}])
        for i in range(40)
    ]
    results, _ = timed(long, load.client())
    assert all(isinstance(r, Response) for r in results)


def test_the_number_in_flight_that_a_server_bears_is_found(load):
    load.configure(latency_s=0.02, max_in_flight=8)
    results, took = timed(questions(400), load.client(), max_in_flight=64)
    assert all(isinstance(r, Response) for r in results)
    stats = load.stats()
    assert stats["refused"]["429"] < 400
    assert took < 12


# --- the form of an answer ---------------------------------------------------------


@pytest.mark.parametrize("without", [(), ("json_schema",), ("json_schema", "json_object")])
def test_the_form_is_what_the_server_has_and_is_remembered(load, cache, without):
    refuse = {f"no_{name}": True for name in without}
    load.configure(**refuse)
    ask = questions(30, SCHEMA)
    results = complete_all(ask[:20], load.client(), cache=cache, max_in_flight=1)
    assert all(isinstance(parse_answer(r.text, SCHEMA), dict) for r in results)
    assert load.stats()["calls"] == 20 + len(without)

    forget_modes()  # as in a new process: the cache still knows
    complete_all(ask[20:], load.client(), cache=cache)
    assert load.stats()["calls"] == 30 + len(without)


def test_an_answer_outside_the_schema_is_asked_once_more(load, cache):
    load.configure(invalid=0.3, seed=1)
    ask = questions(100, SCHEMA)
    results = complete_all(ask, load.client(), cache=cache)
    assert all(isinstance(parse_answer(r.text, SCHEMA), dict) for r in results)
    again = [r for r in results if "asked_again" in r.body]
    assert 10 < len(again) < 50 and load.stats()["calls"] == 100 + len(again)
    assert again[0].body["asked_again"] == "label: expected one of HAM, SPAM, got 'neither'"
    one = next(r for r in results if "asked_again" not in r.body)
    assert again[0].usage.prompt_tokens > 2 * one.usage.prompt_tokens  # both calls are counted
    assert all(r.cached for r in complete_all(ask, load.client(), cache=cache))


class Wrong:
    """Answers outside the schema, always, or refuses to answer twice."""

    provider = "wrong"

    def __init__(self, second=None):
        self.second = second
        self.calls = 0

    async def complete(self, request):
        self.calls += 1
        if self.second is not None and len(request.messages) > 1:
            raise self.second
        return Response("neither", "m")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        pass


@pytest.mark.parametrize("second", [None, ClientError("busy"), BudgetExceeded("spent")])
def test_an_answer_that_stays_wrong_is_kept_as_it_is(cache, second):
    client = Wrong(second)
    (result,) = complete_all(questions(1, SCHEMA), client, cache=cache)
    assert isinstance(parse_answer(result.text, SCHEMA), InvalidAnswer)
    assert client.calls == 2 and len(cache) == 1


# --- streaming -----------------------------------------------------------------------


class Fast:
    provider = "fast"

    async def complete(self, request):
        return Response(request.messages[-1]["content"].upper(), "m")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        pass


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("look_ahead", [1, 7, 500])
def test_a_stream_reads_only_so_far_ahead(ordered, look_ahead):
    read = 0

    def endless():
        nonlocal read
        while True:
            yield from questions(1)
            read += 1

    stream = stream_all(endless(), Fast(), ordered=ordered, look_ahead=look_ahead)
    for taken in range(1, 601):
        _, result = next(stream)
        assert result.text == "TEXT 0"
        # One chunk may be read and wait for room.
        assert read <= taken + 64 + look_ahead + max(1, look_ahead // 4) + 1
    stream.close()
    assert not any(t.name == "llmlabel-stream" for t in threading.enumerate())


def test_a_stream_gives_every_row_its_own_result_in_order(load, cache):
    load.configure(latency_s=0.001, jitter_s=0.02)
    ask = questions(500)
    got = list(stream_all(iter(ask), load.client(), cache=cache))
    assert [(q.custom_id, r.text) for q, r in got] == [
        (f"row-{i}", f"text {i}") for i in range(500)
    ]
    got = list(stream_all(iter(ask), load.client(), ordered=False))
    assert {(q.custom_id, r.text) for q, r in got} == {
        (f"row-{i}", f"text {i}") for i in range(500)
    }


def test_closing_a_stream_keeps_the_answers_under_way(load, cache):
    load.configure(latency_s=0.2)
    stream = stream_all(iter(questions(1000)), load.client(), cache=cache, max_in_flight=16)
    next(stream)
    stream.close()
    stats = load.stats()
    assert stats["calls"] == stats["answered"] == len(cache) < 100


def test_a_streams_errors_come_out_where_it_is_read(load):
    def broken():
        yield from questions(3)
        raise ZeroDivisionError("in the source")

    with pytest.raises(ZeroDivisionError, match="in the source"):
        list(stream_all(broken(), load.client()))
    with pytest.raises(ConfigError, match="look_ahead: expected at least 1, got 0"):
        stream_all([], Fast(), look_ahead=0)


def test_calls_in_flight_end_when_the_budget_is_spent(load, cache):
    load.configure(latency_s=0.3)

    class Capped:
        provider = "capped"

        def __init__(self, inner):
            self.inner, self.left = inner, 5

        async def complete(self, request):
            if not self.left:
                raise BudgetExceeded("spent")
            self.left -= 1
            return await self.inner.complete(request)

        async def __aenter__(self):
            await self.inner.__aenter__()
            return self

        async def __aexit__(self, *exc_info):
            await self.inner.__aexit__(*exc_info)

    with pytest.raises(BudgetExceeded, match="spent"):
        complete_all(questions(50), Capped(load.client()), cache=cache)
    assert len(cache) == load.stats()["calls"] == 5


# --- Azure, and a cache of the first version ------------------------------------------


def test_azure_deployments_are_asked_as_the_package_does(load):
    client = OpenAIClient(
        "gpt",
        f"http://127.0.0.1:{load.port}",
        "LLMLABEL_TEST_KEY",
        azure_api_version="2026-01-01",
    )
    (answer,) = complete_all(questions(1), client)
    assert answer.text == "text 0"
    assert load.stats()["last_path"].startswith("/openai/deployments/gpt/chat/completions?api-ver")


def test_a_cache_of_the_first_version_is_taken_over(tmp_path):
    path = tmp_path / "old.sqlite"
    with Cache(path) as cache:
        cache.put_many({"k": Response("yes", "m")})
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE meta; PRAGMA user_version = 1;")
    connection.close()
    with Cache(path) as cache:
        cache.set_meta({"name": {"a": 1}})
        assert cache.meta("na") == {"name": {"a": 1}} and cache.meta("x") == {}
        assert cache.get_many(["k"])["k"].text == "yes"
