"""The local engine: the same bytes with any number of processes, and kills of any of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmlabel.engine import map_shards
from llmlabel.errors import ConfigError, LLMLabelError, ShardError


@pytest.fixture
def fns():
    import shard_functions

    return shard_functions


def test_two_processes_write_the_bytes_of_one(tmp_path, make_shards, fns, tree, log):
    for workers in (1, 2):
        map_shards(
            fns.pieces, make_shards(7), out=tmp_path / str(workers), key="k", workers=workers
        )
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    pids = {pid for _, pid, _ in fns.log_of(log)}
    assert os.getpid() in pids
    assert len(pids) == 3  # and the two workers


def test_a_killed_worker_costs_one_try_of_one_shard(tmp_path, make_shards, fns, tree, log):
    shards = make_shards(6)
    shards[2]["dies"] = str(tmp_path / "died")
    result = map_shards(fns.dies_once, shards, out=tmp_path / "a", key="k", workers=2)
    assert len(result.parts) == 6
    runs = [name for name, _, _ in fns.log_of(log)]
    assert sorted(runs) == ["s0", "s1", "s2", "s2", "s3", "s4", "s5"]
    map_shards(fns.dies_once, shards, out=tmp_path / "b", key="k", workers=1)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_shard_that_kills_every_worker_is_named_when_the_others_are_done(
    tmp_path, make_shards, fns, log
):
    shards = make_shards(5)
    shards[1]["dies"] = "yes"
    with pytest.raises(ShardError) as caught:
        map_shards(fns.always_dies, shards, out=tmp_path / "a", key="k", workers=2, tries=2)
    assert str(caught.value) == (
        "1 of 5 shards failed ('s1'), the others are done; "
        "'s1': its process died 2 times, by SIGKILL (out of memory?)"
    )
    runs = [name for name, _, _ in fns.log_of(log)]
    assert sorted(runs) == ["s0", "s1", "s1", "s2", "s3", "s4"]
    assert len(list((tmp_path / "a" / "manifests").iterdir())) == 4


SCRIPT = """
import json, sys
from llmlabel.engine import map_shards
import shard_functions

if __name__ == "__main__":
    shards, out = json.loads(sys.argv[1]), sys.argv[2]
    result = map_shards(shard_functions.digests, shards, out=out, key="k", workers=2)
    print(result.reused)
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_killed_driver_loses_and_repeats_nothing_finished(tmp_path, make_shards, fns, tree, log):
    script = tmp_path / "driver.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent)])}
    shards = make_shards(14, seconds=0.15)
    out = tmp_path / "out"
    command = [sys.executable, str(script), json.dumps(shards), str(out)]
    driver = subprocess.Popen(command, env=env)
    manifests = out / "manifests"

    def done() -> list[Path]:
        return list(manifests.glob("[!.]*.json"))

    assert _wait_until(lambda: len(done()) >= 4, 20)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    pids = {pid for _, pid, _ in fns.log_of(log)}
    assert _wait_until(lambda: not any(_alive(pid) for pid in pids), 5), "orphans live on"
    finished = {p.stem.split("-")[1] for p in done()}
    before, first_runs = tree(out), fns.log_of(log)
    assert 4 <= len(finished) < 14

    again = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert int(again.stdout) == len(finished)
    second_runs = {name for name, _, _ in fns.log_of(log)[len(first_runs) :]}
    assert second_runs == {s["id"] for s in shards} - finished
    after = tree(out)
    whole = {name: h for name, h in before.items() if name.rpartition("-")[2][:-5] in finished}
    assert all(after[name] == h for name, h in whole.items())
    map_shards(fns.digests, shards, out=tmp_path / "whole", key="k", workers=1)
    assert after == tree(tmp_path / "whole")  # no half file is left either


def test_the_drivers_memory_does_not_grow_with_what_workers_write(tmp_path, fns):
    shards = [{"id": str(i)} for i in range(6)]
    before = _resident()
    result = map_shards(fns.bulky, shards, out=tmp_path, key="k", workers=2)
    assert result.rows == {"kept": 12_000_000}  # 96 MB, 16 at a time
    assert _resident() - before < 8 << 20


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


def test_a_function_that_cannot_be_loaded_is_named(tmp_path, make_shards, monkeypatch):
    (tmp_path / "gone.py").write_text("def fn(shard): pass")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import gone
    with pytest.raises(ConfigError, match="the function cannot be loaded: .*gone"):
        map_shards(gone.fn, make_shards(2), out=tmp_path / "out", key="k", workers=2)


def test_a_script_without_a_main_guard_is_told(tmp_path):
    script = tmp_path / "bare.py"
    script.write_text(
        "import shard_functions\nfrom llmlabel.engine import map_shards\n"
        "shards = [{'id': 'a', 'n': 1}, {'id': 'b', 'n': 1}]\n"
        f"map_shards(shard_functions.burn, shards, out={str(tmp_path / 'out')!r}, key='k', workers=2)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True)
    assert ended.returncode == 1
    assert LLMLabelError.__name__ in ended.stderr
    assert "a worker process died before it could begin" in ended.stderr
