import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from llmlabel.errors import DataError
from llmlabel.llm import Cache, Response, Usage

WRITER = """
import sys
from llmlabel.llm import Cache, Response
cache = Cache(sys.argv[1])
name = sys.argv[2]
for i in range(int(sys.argv[3])):
    group = {f"{name}-{i}-{j}": Response(f"{name} {i} {j}", "m") for j in range(5)}
    cache.put_many(group)
    print(*group, flush=True)  # the answers are handed on: from now on they must stay
"""


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "answers.sqlite") as opened:
        yield opened


def writer(path, name, n):
    arguments = [sys.executable, "-c", WRITER, str(path), name, str(n)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_an_answer_comes_back_whole_and_marked(cache):
    response = Response(
        "yes \ud800", "m", "length", Usage(3, 1), ({"token": "yes"},), 0.5, 7, body={"id": "x"}
    )
    cache.put_many({"k": response, "l": Response("no", "m")})
    got = cache.get_many(["k", "unknown"])
    assert list(got) == ["k"]
    assert got["k"].cached and got["k"].as_dict() == response.as_dict()
    assert len(cache) == 2
    assert cache.known(["l", "unknown"]) == {"l"}


def test_looking_into_a_cache_that_is_not_there_makes_no_file(cache):
    assert cache.get_many(["k"]) == {} and cache.known(["k"]) == set() and len(cache) == 0
    cache.put_many({})
    assert not cache.path.exists()


def test_the_first_answer_stays(cache):
    cache.put_many({"k": Response("first", "m")})
    cache.put_many({"k": Response("second", "m")})
    assert cache.get_many(["k"])["k"].text == "first"


def test_a_filtered_answer_is_never_stored(cache):
    cache.put_many({"k": Response("", "m", "content_filter"), "l": Response("ok", "m")})
    assert cache.known(["k", "l"]) == {"l"}


def test_more_keys_than_sqlite_has_parameters(cache):
    answers = {f"key-{i}": Response(str(i), "m") for i in range(40_000)}
    cache.put_many(answers)
    assert {k: r.text for k, r in cache.get_many(answers).items()} == {
        k: r.text for k, r in answers.items()
    }


def test_it_opens_again_after_it_was_closed(cache):
    cache.put_many({"k": Response("yes", "m")})
    cache.close()
    assert cache.get_many(["k"])["k"].text == "yes"


def test_a_file_that_is_no_cache_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but longer than a header of one hundred bytes " * 4)
    with pytest.raises(
        DataError, match=r"notes\.txt: the answer cache failed: file is not a database"
    ):
        Cache(path).get_many(["k"])


def test_a_cache_of_a_later_version_is_refused(cache):
    cache.put_many({"k": Response("yes", "m")})
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError, match="is a cache of version 99"):
        cache.get_many(["k"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the answer cache failed: .*File exists"):
        Cache(tmp_path / "file" / "answers.sqlite").put_many({"k": Response("yes", "m")})


def test_several_threads_share_one_object(cache):
    def work(name):
        for i in range(50):
            cache.put_many({f"{name}-{i}": Response("x", "m")})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 200


def test_several_processes_start_and_write_one_file_together(cache):
    writers = [writer(cache.path, name, 40) for name in "abc"]
    for process in writers:
        process.communicate(timeout=60)
    assert [p.returncode for p in writers] == [0, 0, 0]
    assert len(cache) == 3 * 40 * 5


@pytest.mark.parametrize("delay", [0.0, 0.011, 0.023, 0.05])
def test_kill_9_loses_nothing_that_was_handed_on(cache, delay):
    process = writer(cache.path, "w", 1_000_000)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    handed_on = (first + process.stdout.read()).rpartition("\n")[0].split()
    process.wait()
    process.stdout.close()
    assert len(handed_on) >= 5
    assert cache.known(handed_on) == set(handed_on)
    cache.put_many({"after": Response("goes on", "m")})
    cache.close()
    connection = sqlite3.connect(cache.path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
