import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.errors import BudgetExceeded, ClientError, ConfigError
from llmlabel.llm import Cache, Failure, Request, RequestPlan, Response, complete_all, plan_requests


class Local:
    """A client in this process: answers in upper case, counts, and fails where told."""

    provider = "local"

    def __init__(self, errors=None, delays=None):
        self.errors = errors or {}
        self.delays = delays or {}
        self.calls = []
        self.in_flight = self.most_in_flight = 0
        self.open = 0

    async def complete(self, request):
        text = request.messages[-1]["content"]
        self.calls.append(text)
        assert self.open == 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delays.get(text, 0))
            if text in self.errors:
                raise self.errors[text]
            return Response(text.upper(), "m")
        finally:
            self.in_flight -= 1

    async def __aenter__(self):
        self.open += 1
        return self

    async def __aexit__(self, *exc_info):
        self.open -= 1


def questions(texts):
    return [
        Request(f"row-{i}", "m", [{"role": "user", "content": text}])
        for i, text in enumerate(texts)
    ]


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "answers.sqlite") as opened:
        yield opened


def texts_of(results):
    return [r.text for r in results]


# --- order, twins, what is in flight ------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 5), st.sets(st.sampled_from("abcdef")))
def test_every_request_gets_its_own_result_in_order_and_each_question_is_one_call(
    texts, max_in_flight, failing
):
    client = Local(errors={t: ClientError(f"no {t}", status=400) for t in failing})
    heard = []
    results = complete_all(
        questions(texts),
        client,
        max_in_flight=max_in_flight,
        on_result=lambda request, result: heard.append((request.custom_id, result)),
    )
    for i, (text, result) in enumerate(zip(texts, results, strict=True)):
        if text in failing:
            assert result == Failure(f"row-{i}", f"no {text}", 400, False)
        else:
            assert result.text == text.upper()
            assert result.cached == (texts.index(text) != i)
    assert sorted(client.calls) == sorted(set(texts))
    assert client.most_in_flight <= max_in_flight
    assert sorted(heard, key=lambda h: int(h[0][4:])) == [
        (f"row-{i}", result) for i, result in enumerate(results)
    ]
    assert client.open == 0


def test_one_slow_request_holds_up_no_other():
    client = Local(delays={"slow": 0.5})
    heard = []
    complete_all(
        questions(["slow", *map(str, range(200))]),
        client,
        max_in_flight=2,
        on_result=lambda request, _: heard.append(request.custom_id),
    )
    assert heard[-1] == "row-0" and len(heard) == 201


def test_twins_are_one_call_at_a_real_server(server):
    server.configure(latency_s=0.05)
    results = complete_all(questions(["same"] * 20 + ["other"]), server.client())
    assert texts_of(results) == ["same"] * 20 + ["other"]
    assert [r.cached for r in results] == [False] + [True] * 19 + [False]
    assert server.stats()["by_text"] == {"same": 1, "other": 1}


def test_as_many_are_in_flight_as_allowed(server):
    server.configure(latency_s=0.2)
    complete_all(questions(map(str, range(40))), server.client(), max_in_flight=16)
    assert server.stats()["most_in_flight"] == 16


def test_many_rows_keep_their_places(cache):
    texts = [str(i) for i in range(1500)]
    for _ in range(2):  # asked, then from the cache
        results = complete_all(questions(texts), Local(), cache=cache)
        assert texts_of(results) == texts


def test_at_least_one_in_flight():
    with pytest.raises(ConfigError, match="max_in_flight: expected at least 1, got 0"):
        complete_all([], Local(), max_in_flight=0)


# --- the cache ------------------------------------------------------------------


def test_a_second_run_asks_nothing(cache, server):
    asked = questions(map(str, range(50)))
    first = complete_all(asked, server.client(), cache=cache)
    assert not any(r.cached for r in first)
    second = complete_all(asked, server.client(), cache=cache)
    assert server.stats()["calls"] == 50
    assert all(r.cached for r in second)
    assert [r.as_dict() for r in second] == [r.as_dict() for r in first]


def test_an_answer_is_in_the_cache_before_anyone_sees_it(cache):
    client, asked = Local(), questions(map(str, range(100)))
    unkept = []

    def look(request, result):
        if not cache.known([request.key(client.provider)]):
            unkept.append(request.custom_id)

    complete_all(asked, client, cache=cache, on_result=look)
    assert unkept == [] and len(cache) == 100


def test_a_failure_is_asked_again_next_time(cache):
    client = Local(errors={"b": ClientError("busy", status=503, retryable=True)})
    assert complete_all(questions("ab"), client, cache=cache)[1] == Failure(
        "row-1", "busy", 503, True
    )
    client.errors = {}
    assert texts_of(complete_all(questions("ab"), client, cache=cache)) == ["A", "B"]
    assert client.calls == ["a", "b", "b"]


def test_a_plan_counts_without_asking(cache):
    client, asked = Local(), questions("aabbc")
    assert plan_requests(asked, client.provider, cache) == RequestPlan(5, 3, 0, 3)
    assert not cache.path.exists()
    complete_all(questions("ax"), client, cache=cache)
    assert plan_requests(asked, client.provider, cache) == RequestPlan(5, 3, 1, 2)
    assert plan_requests(asked, "another", cache) == RequestPlan(5, 3, 0, 3)
    assert plan_requests([], client.provider) == RequestPlan(0, 0, 0, 0)


# --- how a run ends early -------------------------------------------------------


def test_a_fatal_error_ends_the_run_at_once_and_keeps_what_came(cache):
    fatal = ClientError("bad key", status=401, fatal=True)
    client = Local(errors={"fatal": fatal}, delays={"fatal": 0.1, "slow": 30})
    asked = questions([*map(str, range(20)), "slow", "fatal", *map(str, range(20, 40)), *["z"] * 5])
    started = time.perf_counter()
    with pytest.raises(ClientError, match="bad key") as caught:
        complete_all(asked, client, cache=cache, max_in_flight=3, drain_s=0.2)
    assert caught.value is fatal
    assert time.perf_counter() - started < 5
    assert client.in_flight == 0 and client.open == 0
    done = {t for t in client.calls if t not in {"slow", "fatal"}}
    kept = {r.text for r in cache.get_many([q.key("local") for q in asked]).values()}
    assert kept == {t.upper() for t in done} and len(kept) >= 20


@pytest.mark.parametrize("error", [BudgetExceeded("$5 are spent"), ZeroDivisionError("a bug")])
def test_any_other_error_comes_out_as_itself_with_what_came_kept(cache, error):
    client = Local(errors={"bad": error}, delays={"bad": 0.05})
    with pytest.raises(type(error), match=str(error.args[0]).replace("$", r"\$")) as caught:
        complete_all(questions(["a", "b", "bad"]), client, cache=cache)
    assert caught.value is error
    assert caught.value.__notes__ == ["while asking about row 'row-2'"]
    assert len(cache) == 2


def test_a_listener_that_fails_ends_the_run_with_the_answers_kept(cache):
    def listen(request, result):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        complete_all(questions("abc"), Local(), cache=cache, on_result=listen)
    assert len(cache) == 3


def test_it_runs_where_a_loop_is_running_as_in_a_notebook(server, cache):
    async def notebook():
        return complete_all(questions("abc"), server.client(), cache=cache)

    assert texts_of(asyncio.run(notebook())) == ["a", "b", "c"]


def test_one_client_serves_many_runs_and_threads(server):
    client, out = server.client(), {}

    def work(name):
        for i in range(3):
            out[name, i] = texts_of(complete_all(questions([name, str(i)]), client))

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out == {(name, i): [name, str(i)] for name in "ab" for i in range(3)}


# --- killed ---------------------------------------------------------------------

RUN = textwrap.dedent(
    """
    import asyncio, sys
    from llmlabel.llm import Cache, OpenAIClient, Request, complete_all
    url, path, n, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    asked = [
        Request(f"row-{i}", "m", [{"role": "user", "content": f"text {i}"}]) for i in range(n)
    ]
    client = OpenAIClient("m", url, "LLMLABEL_TEST_KEY", provider="test")
    def tell(request, result):
        print(request.custom_id, flush=True)
    def run():
        with Cache(path) as cache:
            complete_all(asked, client, cache=cache, max_in_flight=16, on_result=tell)
    async def notebook():
        run()
    # IPython runs its loop so; asyncio.run would catch the first Ctrl-C itself.
    run() if how == "script" else asyncio.new_event_loop().run_until_complete(notebook())
    """
)


def started(server, cache, n, how="script"):
    arguments = [sys.executable, "-c", RUN, server.base_url, str(cache.path), str(n), how]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_rows(process, count):
    return [process.stdout.readline().strip() for _ in range(count)]


@pytest.mark.parametrize("after", [1, 40, 90])
def test_kill_9_repeats_at_most_what_was_in_flight(server, cache, after):
    server.configure(latency_s=0.02)
    process = started(server, cache, 150)
    seen = read_rows(process, after)
    os.kill(process.pid, signal.SIGKILL)
    with process:  # communicate() would lose what is in the buffer of its output
        rest = process.stdout.read()
    seen += rest.split("\n")[:-1]

    asked = questions(f"text {i}" for i in range(150))
    keys = {q.custom_id: q.key("test m") for q in asked}
    kept = cache.known(list(keys.values()))
    assert {keys[row] for row in seen} <= kept
    client = server.client("m", provider="test")
    assert texts_of(complete_all(asked, client, cache=cache)) == [f"text {i}" for i in range(150)]
    repeated = {text: n for text, n in server.stats()["by_text"].items() if n > 1}
    assert sum(n - 1 for n in repeated.values()) <= 16


@pytest.mark.parametrize("how", ["script", "notebook"])
def test_ctrl_c_ends_the_run_soon_and_keeps_what_came(server, cache, how):
    server.configure(rules=[{"contains": "text 30", "do": ["slow:60"]}])
    process = started(server, cache, 31, how)
    seen = read_rows(process, 30)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert len(seen) == 30 and len(cache) == 30


def test_two_processes_share_a_cache(server, cache):
    processes = [started(server, cache, 60) for _ in range(2)]
    outputs = [p.communicate(timeout=60) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], json.dumps(outputs)
    assert len(cache) == 60


def test_rows_that_wait_to_be_asked_again_hold_up_nobody(server, cache):
    """Twelve refusals for a second, four places: the other forty rows do not wait for them."""
    server.configure(
        rules=[{"contains": f"refused {i}", "do": [429], "retry_after": 1.0} for i in range(12)]
    )
    asked = questions([*(f"refused {i}" for i in range(12)), *(f"text {i}" for i in range(40))])
    started, seconds = time.perf_counter(), {}
    results = complete_all(
        asked,
        server.client(),
        cache=cache,
        max_in_flight=4,
        on_result=lambda request, _: seconds.update(
            {request.custom_id: time.perf_counter() - started}
        ),
    )
    assert all(isinstance(r, Response) for r in results)
    assert server.stats()["most_in_flight"] <= 4
    first, last = (
        [seconds[q.custom_id] for q in asked[:12]],
        [seconds[q.custom_id] for q in asked[12:]],
    )
    assert max(last) < 1.0 <= min(first)
