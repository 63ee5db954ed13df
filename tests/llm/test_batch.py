"""The Batch API against a server process of ours: limits, faults, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmlabel.errors import ClientError, ConfigError, DataError
from llmlabel.llm import Cache, Failure, OpenAIClient, Request, Response
from llmlabel.llm.batch import complete_batch

FAST: dict[str, Any] = {"poll_s": 0.01, "settle_s": 0.2}
SCHEMA = {"type": "object", "properties": {"label": {"enum": ["HAM", "SPAM"]}}}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "answers.sqlite") as opened:
        yield opened


def asked(n: int, **fields: Any) -> list[Request]:
    return [
        Request(f"row-{i}", "m", [{"role": "user", "content": f"text {i}"}], **fields)
        for i in range(n)
    ]


def texts(results: list[Response | Failure]) -> list[str]:
    return [r.text if isinstance(r, Response) else f"failed: {r.reason}" for r in results]


def test_results_come_in_order_from_several_files_and_twins_are_one_line(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    requests = [*asked(10), Request("twin", "m", [{"role": "user", "content": "text 3"}])]
    seen: list[tuple[int, int]] = []
    results = complete_batch(
        requests,
        batches.client(),
        cache=cache,
        state_dir=tmp_path / "b",
        max_requests=4,
        on_poll=lambda done, total: seen.append((done, total)),
        **FAST,
    )
    assert texts(results) == [f"text {i}" for i in range(10)] + ["text 3"]
    assert [isinstance(r, Response) and r.cached for r in results] == [False] * 10 + [True]
    stats = batches.stats()
    assert stats["calls"]["upload"] == stats["calls"]["create"] == 3
    assert sorted(stats["asked"].values()) == [1] * 10
    assert seen[-1] == (10, 10)
    assert not list((tmp_path / "b").glob("*.jsonl"))
    first = results[0]
    assert isinstance(first, Response) and first.usage is not None
    assert first.usage.prompt_tokens == 10 and first.model == "test-model-2026"


def test_what_is_cached_is_not_asked_and_batch_shares_the_clients_keys(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    client = batches.client()
    requests = asked(5)
    cache.put_many({requests[2].key(client.provider): Response("kept", "m")})
    results = complete_batch(requests, client, cache=cache, state_dir=tmp_path / "b", **FAST)
    assert texts(results)[2] == "kept" and len(batches.stats()["asked"]) == 4
    again = complete_batch(requests, client, cache=cache, state_dir=tmp_path / "b", **FAST)
    assert texts(again) == texts(results)
    assert all(isinstance(r, Response) and r.cached for r in again)
    assert batches.stats()["calls"]["upload"] == 1


def test_bytes_bound_a_file_and_each_file_has_one_model(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    batches.configure(max_bytes=1000)
    requests = [
        Request(f"r{i}", f"model-{i % 2}", [{"role": "user", "content": f"text {i} \ud83d é"}])
        for i in range(12)
    ]
    results = complete_batch(
        requests,
        batches.client(None),
        cache=cache,
        state_dir=tmp_path / "b",
        max_bytes=1000,
        **FAST,
    )
    assert all(isinstance(r, Response) for r in results)
    assert [r.model for r in results if isinstance(r, Response)][:2] == [
        "model-0-2026",
        "model-1-2026",
    ]
    assert batches.stats()["calls"]["upload"] >= 4


def test_schema_and_parameters_reach_the_server(batches: Any, cache: Cache, tmp_path: Path) -> None:
    results = complete_batch(
        asked(4, schema=SCHEMA, params={"temperature": 0}),
        batches.client(),
        cache=cache,
        state_dir=tmp_path / "b",
        **FAST,
    )
    assert all(json.loads(text)["label"] in {"HAM", "SPAM"} for text in texts(results))


def test_rows_that_fail_are_failures_with_the_servers_words_and_are_asked_again(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    batches.configure(errors={"text 1": 400, "text 2": 500, "text 3": "refusal"})
    ask = {"cache": cache, "state_dir": tmp_path / "b", **FAST}
    results = complete_batch(asked(5), batches.client(), **ask)
    bad = [r for r in results if isinstance(r, Failure)]
    assert [(f.custom_id, f.status, f.retryable) for f in bad] == [
        ("row-1", 400, False),
        ("row-2", 500, True),
        ("row-3", 200, False),
    ]
    assert bad[0].reason == "400: no answer to text 1" and "I cannot." in bad[2].reason
    batches.configure()
    again = complete_batch(asked(5), batches.client(), **ask)
    assert texts(again) == [f"text {i}" for i in range(5)]
    assert len(batches.stats()["asked"]) == 3


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_is_done(
    batches: Any, cache: Cache, tmp_path: Path, status: str
) -> None:
    batches.configure(ends={"1": {"status": status, "rows": 2}})
    ask = {"cache": cache, "state_dir": tmp_path / "b", "max_requests": 4, **FAST}
    results = complete_batch(asked(8), batches.client(), **ask)
    assert [i for i, r in enumerate(results) if isinstance(r, Failure)] == [6, 7]
    last = results[7]
    assert isinstance(last, Failure) and last.retryable and status in last.reason
    again = complete_batch(asked(8), batches.client(), **ask)
    assert texts(again) == [f"text {i}" for i in range(8)]
    assert set(batches.stats()["paid"].values()) == {1}


def test_a_failed_batch_says_why_and_the_others_are_kept(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    failed = {"status": "failed", "code": "invalid_model", "message": "No such model"}
    batches.configure(ends={"0": failed})
    results = complete_batch(
        asked(4), batches.client(), cache=cache, state_dir=tmp_path / "b", max_requests=2, **FAST
    )
    first = results[0]
    assert isinstance(first, Failure) and not first.retryable
    assert first.reason == "the batch batch_0 failed: invalid_model: No such model"
    assert texts(results)[2:] == ["text 2", "text 3"]


def test_a_full_queue_makes_batches_wait_for_each_other(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    batches.configure(queue=5, polls=3)
    results = complete_batch(
        asked(9), batches.client(), cache=cache, state_dir=tmp_path / "b", max_requests=3, **FAST
    )
    assert texts(results) == [f"text {i}" for i in range(9)]
    stats = batches.stats()
    assert stats["calls"]["upload"] == 3 and set(stats["asked"].values()) == {1}


def test_a_file_that_is_too_large_for_the_queue_alone_fails_retryably(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    batches.configure(queue=2)
    results = complete_batch(
        asked(3), batches.client(), cache=cache, state_dir=tmp_path / "b", **FAST
    )
    assert all(isinstance(r, Failure) and r.retryable for r in results)
    assert "token_limit_exceeded" in texts(results)[0]


@pytest.mark.parametrize("call", ["upload", "create", "content"])
def test_a_connection_cut_after_the_call_came_through_repeats_nothing(
    batches: Any, cache: Cache, tmp_path: Path, call: str
) -> None:
    batches.configure(drop={call: 1})
    results = complete_batch(
        asked(4), batches.client(), cache=cache, state_dir=tmp_path / "b", **FAST
    )
    assert texts(results) == [f"text {i}" for i in range(4)]
    calls = batches.stats()["calls"]
    assert (calls["upload"], calls["create"]) == (1, 1)


def test_a_torn_download_is_fetched_again_and_one_torn_for_good_is_kept(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    ask = {"cache": cache, "state_dir": tmp_path / "b", **FAST}
    batches.configure(torn=2)
    assert texts(complete_batch(asked(3), batches.client(), **ask))[0] == "text 0"
    batches.configure(torn=99)
    results = complete_batch(asked(6), batches.client(), **ask)
    lost = [r for r in results if isinstance(r, Failure)]
    assert len(lost) == 1
    kept = next((tmp_path / "b").glob("*.output.jsonl"))
    assert str(kept) in lost[0].reason


def test_a_bad_key_ends_the_run_without_showing_it(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    batches.configure(api_key="another")
    with pytest.raises(ClientError, match="401: Incorrect API key provided: \\*\\*\\*") as caught:
        complete_batch(asked(1), batches.client(), cache=cache, state_dir=tmp_path / "b", **FAST)
    assert caught.value.fatal


def test_openai_itself_is_not_called_without_a_key(
    batches: Any, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMLABEL_TEST_KEY")
    client = OpenAIClient("m", "https://api.openai.com/v1", "LLMLABEL_TEST_KEY")
    with pytest.raises(ClientError, match="no API key: .*LLMLABEL_TEST_KEY"):
        complete_batch(asked(1), client, cache=cache, state_dir=tmp_path / "b", **FAST)


def test_two_runs_do_not_share_a_folder_at_once(batches: Any, cache: Cache, tmp_path: Path) -> None:
    batches.configure(polls=4)
    ask = {"cache": cache, "state_dir": tmp_path / "b", "poll_s": 0.2, "settle_s": 0.2}
    first = threading.Thread(target=complete_batch, args=(asked(2), batches.client()), kwargs=ask)
    first.start()
    while not batches.stats()["calls"].get("create"):
        time.sleep(0.01)
    with pytest.raises(ConfigError, match="another process"):
        complete_batch(asked(2), batches.client(), **ask)
    first.join()


def test_rows_no_longer_wanted_are_dropped_before_they_are_paid_and_awaited_after(
    batches: Any, cache: Cache, tmp_path: Path
) -> None:
    ask = {"cache": cache, "state_dir": tmp_path / "b", **FAST}
    batches.configure(api_key="another")
    with pytest.raises(ClientError):
        complete_batch(asked(4), batches.client(), **ask)  # killed before the upload came through
    batches.configure()
    complete_batch(asked(2), batches.client(), **ask)
    assert len(batches.stats()["asked"]) == 2


def test_lost_and_strange_states_are_named(batches: Any, cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    ask = {"cache": cache, "state_dir": folder, **FAST}
    batches.configure(api_key="another")
    with pytest.raises(ClientError):
        complete_batch(asked(2), batches.client(), **ask)
    next(folder.glob("*.jsonl")).unlink()
    with pytest.raises(DataError, match="requests of a batch under way are missing"):
        complete_batch(asked(2), batches.client(), **ask)
    state = next(folder.glob("*.part.json"))
    state.write_text('{"version": 99}', encoding="utf-8")
    with pytest.raises(DataError, match="a later llmlabel"):
        complete_batch(asked(2), batches.client(), **ask)
    state.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="expected the state of a batch"):
        complete_batch(asked(2), batches.client(), **ask)


def test_a_batch_that_the_server_does_not_know_is_no_reason_to_pay_again(
    batches: Any, tmp_path: Path
) -> None:
    process = child(batches, tmp_path, "after", 10)
    assert process.wait(timeout=60) == -signal.SIGKILL
    batches.configure()  # another account: nothing of ours is there
    with (
        Cache(tmp_path / "answers.sqlite") as cache,
        pytest.raises(ClientError, match="404: .* does not know this batch") as caught,
    ):
        complete_batch(asked(6), batches.client(), cache=cache, state_dir=tmp_path / "b", **FAST)
    assert caught.value.fatal and caught.value.hint is not None
    assert not batches.stats()["asked"]


CHILD = """
import os, signal, sys
from llmlabel.llm import Cache, OpenAIClient, Request
from llmlabel.llm import batch, batch_state
from llmlabel.llm.batch import complete_batch

url, folder, when, nth = sys.argv[1:5]
left = int(nth)
save, put = batch_state.Part.save, Cache.put_many

def killing(write):
    def wrapped(*args):
        global left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        write(*args)
        if left == 0 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
    return wrapped

batch_state.Part.save, Cache.put_many = killing(save), killing(put)
requests = [
    Request(f"row-{i}", "m", [{"role": "user", "content": f"text {i}"}]) for i in range(6)
]
client = OpenAIClient("test-model", url, "LLMLABEL_TEST_KEY")
with Cache(folder + "/answers.sqlite") as cache:
    complete_batch(requests, client, cache=cache, state_dir=folder + "/b", poll_s=0.01,
                   settle_s=0.2, max_requests=3)
"""


def child(server: Any, folder: Path, when: str = "", nth: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, server.base_url, str(folder), when, str(nth)]
    )


# Two files. Writes 1-2: both written; 3-6 and 7-10: uploading, uploaded, creating, created;
# 11-14: committed, collected, twice. Between any other two writes nothing happens.
@pytest.mark.parametrize(
    ("when", "nth"),
    [
        ("before", 2),
        ("after", 3),
        ("before", 4),
        ("after", 5),
        ("before", 6),
        ("after", 6),
        ("before", 8),
        ("before", 10),
        ("before", 11),
        ("before", 12),
        ("after", 13),
        ("after", 14),
    ],
)
def test_killed_at_any_write_the_rerun_pays_and_uploads_nothing_twice(
    batches: Any, tmp_path: Path, when: str, nth: int
) -> None:
    process = child(batches, tmp_path, when, nth)
    assert process.wait(timeout=60) == -signal.SIGKILL
    with Cache(tmp_path / "answers.sqlite") as cache:
        ask = {"cache": cache, "state_dir": tmp_path / "b", "max_requests": 3, **FAST}
        results = complete_batch(asked(6), batches.client(), **ask)
    assert texts(results) == [f"text {i}" for i in range(6)]
    stats = batches.stats()
    assert set(stats["asked"].values()) == {1} and len(stats["asked"]) == 6
    assert stats["calls"]["upload"] == stats["calls"]["create"] == 2


@pytest.mark.parametrize("call", ["upload", "create", "content"])
@pytest.mark.parametrize("lag", ["lag_s", "lag_before_s"])
def test_killed_while_the_server_works_its_orphan_is_found(
    batches: Any, tmp_path: Path, call: str, lag: str
) -> None:
    batches.configure(**{lag: {call: 0.5 if lag == "lag_s" else 0.3}})
    process = child(batches, tmp_path)
    wait_for_call(batches, tmp_path, call, done=lag == "lag_s")
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    with Cache(tmp_path / "answers.sqlite") as cache:
        ask = {"cache": cache, "state_dir": tmp_path / "b", "max_requests": 3}
        results = complete_batch(asked(6), batches.client(), poll_s=0.01, settle_s=0.6, **ask)
    assert texts(results) == [f"text {i}" for i in range(6)]
    stats = batches.stats()
    assert set(stats["asked"].values()) == {1}
    assert stats["calls"]["upload"] == stats["calls"]["create"] == 2


def wait_for_call(server: Any, folder: Path, call: str, *, done: bool) -> None:
    """Wait until the server has done a call, or until the client is about to make it."""
    state = {"upload": "uploading", "create": "creating", "content": "created"}[call]
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if done and server.stats()["calls"].get(call):
            return
        states = [p.read_text() for p in (folder / "b").glob("[!.]*.part.json")]
        if not done and any(f'"{state}"' in text for text in states):
            time.sleep(0.15)  # on its way, and not yet done
            return
        time.sleep(0.005)
    raise AssertionError(f"the client made no call {call}")


def test_importing_the_llm_layer_loads_no_openai() -> None:
    code = "import sys, llmlabel.llm.batch, llmlabel.llm.budget; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
