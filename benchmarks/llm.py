"""The LLM engine against bare aiohttp, the openai package and curator, over loopback.

    python -m benchmarks.llm [--quick] [--json] [--save]

Every run is a process of its own; the server (tests/servers/load_server.py) is another. Work
seconds are those from the first rendered prompt to the last result, imports excluded. Ours
renders a Jinja prompt, parses each answer by its schema and commits it to a fresh cache; the
others only post the same JSON and read the answer's JSON. Contestants take turns, so that a
busy machine is busy for all, and medians are compared within one turn. Then: faults (5 % 429
with Retry-After, 2 % 500, 1 % malformed 200 bodies, 1 % resets), kill -9 at ten points of a
run and a rerun each, and a second run that the cache answers (seconds of the whole process).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/llm.py`

from benchmarks.peers.curator import ask as ask_curator
from benchmarks.peers.environments import Unavailable, python_of

ROOT: Final = Path(__file__).resolve().parents[1]
SERVER: Final = ROOT / "tests" / "servers" / "load_server.py"
LATENCY_S: Final = 0.05
ROWS: Final = 2000
KILLS: Final = 10
FAULTS: Final = {"rate_limited": 0.05, "failing": 0.02, "malformed": 0.01, "reset": 0.01, "seed": 7}
PROMPT: Final = """---
name: bench
version: 1
temperature: 0
answer:
  label: {enum: [$classes]}
---
system:
Is the remark spam? Classes:
{% for c in task.classes %}
{{ c.name }}: {{ c.description }}
{% endfor %}
user:
<{{ text }}>
"""


def texts(rows: int) -> list[str]:
    """Return short texts, all different."""
    return [f"remark number {i}: check out this lovely song, would you" for i in range(rows)]


class Server:
    """A running load server."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def configure(self, **config: Any) -> None:
        """Forget everything and set a configuration."""
        self._call("/configure", json.dumps(config).encode())

    def stats(self) -> dict[str, Any]:
        """Return the counters."""
        return dict(self._call("/stats"))

    def _call(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(self.url + path, data, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run the load server."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Server(json.loads(process.stdout.readline())["port"])
    finally:
        process.stdin.close()
        process.wait(timeout=10)


# --- the contestants, each in a process of its own ------------------------------


def bodies(rows: int) -> list[dict[str, Any]]:
    """Return the JSON that is posted, as ours makes it."""
    from llmlabel.llm.structured import with_schema

    asked = rendered(rows)
    return [{"model": "m", **with_schema(r, "json_schema"), **r.params} for r in asked]


def rendered(rows: int) -> Iterator[Any]:
    """Render the prompt for each text."""
    from llmlabel.llm import parse_prompt
    from llmlabel.schema import Task

    task = Task("spam", {"HAM": "a real remark", "SPAM": "promotion"})
    prompt = parse_prompt(PROMPT, file="bench.md")
    return (prompt.request(task, {}, t, f"row-{i}", "m") for i, t in enumerate(texts(rows)))


def run_ours(url: str, rows: int, in_flight: int, cache_file: str) -> dict[str, Any]:
    """Rendering, keys, calls, parsing and cache."""
    from llmlabel.llm import Cache, OpenAIClient, Response, complete_all, parse_answer

    if not Path(cache_file).exists():
        import llmlabel.llm.transport  # noqa: F401 - the others' imports do not count either

        import_openai()

    client = OpenAIClient("m", f"{url}/v1", "LLMLABEL_BENCH_KEY", provider="bench")
    list(rendered(1))  # imports Jinja
    started = time.perf_counter()
    asked: list[Any] = []

    def read() -> Iterator[Any]:
        for request in rendered(rows):
            asked.append(request)
            yield request

    with Cache(cache_file) as cache:
        results = complete_all(read(), client, cache=cache, max_in_flight=in_flight)
    lost = 0
    for request, result in zip(asked, results, strict=True):
        valid = isinstance(result, Response) and isinstance(
            parse_answer(result.text, request.schema or {}), dict
        )
        lost += not valid
    return {"work_s": time.perf_counter() - started, "lost": lost}


def run_aiohttp(url: str, rows: int, in_flight: int, _: str) -> dict[str, Any]:
    """Bare aiohttp: post and read JSON, nothing else."""
    import aiohttp

    asked = bodies(rows)

    async def main() -> None:
        shared = iter(asked)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def work() -> None:
                for body in shared:
                    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                        (await answer.json())["choices"][0]["message"]["content"]

            await asyncio.gather(*(work() for _ in range(in_flight)))

    return timed(main)


def import_openai() -> None:
    """Import what the package imports when its first client is made and first asked."""
    import openai

    openai.AsyncOpenAI(api_key="none").chat.completions  # noqa: B018


def run_openai(url: str, rows: int, in_flight: int, transport: str) -> dict[str, Any]:
    """The openai package, by default or on aiohttp."""
    import openai

    asked = bodies(rows)
    import_openai()
    lost = 0

    async def main() -> None:
        nonlocal lost
        shared = iter(asked)
        http = openai.DefaultAioHttpClient() if transport == "aiohttp" else None
        limits = openai.DefaultAsyncHttpxClient() if http is None else http
        async with openai.AsyncOpenAI(
            api_key="none", base_url=f"{url}/v1", http_client=limits
        ) as client:

            async def work() -> None:
                nonlocal lost
                for body in shared:
                    try:
                        answer = await client.chat.completions.create(**body)
                        assert answer.choices[0].message.content
                    except (openai.OpenAIError, ValueError):
                        lost += 1

            await asyncio.gather(*(work() for _ in range(in_flight)))

    return {**timed(main), "lost": lost}


def timed(main: Any) -> dict[str, Any]:
    """Return the seconds that a coroutine takes."""
    started = time.perf_counter()
    asyncio.run(main())
    return {"work_s": time.perf_counter() - started}


def run_curator(url: str, rows: int, in_flight: int, folder: str) -> dict[str, Any]:
    """curator, in its own environment."""
    return ask_curator(url, bodies(rows), in_flight, folder)


WORKERS: Final = {
    "ours": run_ours,
    "aiohttp": run_aiohttp,
    "openai": run_openai,
    "curator": run_curator,
}


# --- what is measured ---------------------------------------------------------------


def command(name: str, url: str, rows: int, in_flight: int, extra: str) -> list[str]:
    """Return the command line of one contestant."""
    arguments = ["--worker", name, url, str(rows), str(in_flight), extra]
    return [sys.executable, "-m", "benchmarks.llm", *arguments]


def worker(name: str, url: str, rows: int, in_flight: int, extra: str = "") -> dict[str, Any]:
    """Run one contestant; add the whole process's seconds."""
    started = time.perf_counter()
    done = subprocess.run(
        command(name, url, rows, in_flight, extra),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return {**json.loads(done.stdout), "process_s": time.perf_counter() - started}


def without_curator() -> str:
    """Return why curator is not measured; nothing where it is."""
    try:
        python_of("curator")
    except Unavailable as reason:
        return str(reason)
    return ""


def speed(
    server: Server, in_flight: int, turns: int, folder: Path, *, curator: bool
) -> dict[str, Any]:
    """Let the contestants take turns; return medians of work seconds and of the ratios."""
    contestants = {
        "aiohttp": ("aiohttp", ""),
        "ours": ("ours", ""),
        "openai": ("openai", "default"),
        "openai_aiohttp": ("openai", "aiohttp"),
    }
    if curator:
        contestants["curator"] = ("curator", "")
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        for name, (kind, extra) in contestants.items():
            server.configure(latency_s=LATENCY_S)
            place = str(folder / f"speed-{in_flight}-{turn}.sqlite") if kind == "ours" else extra
            seconds[name].append(worker(kind, server.url, ROWS, in_flight, place)["work_s"])
    ratios = {
        name: statistics.median(a / b for a, b in zip(own, seconds["aiohttp"], strict=True))
        for name, own in seconds.items()
    }
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    return {"work_s": medians, "over_aiohttp": ratios, "all_s": seconds}


def rerun(server: Server, folder: Path) -> dict[str, Any]:
    """Run again from the cache that `speed` filled."""
    server.configure()
    runs = [
        worker("ours", server.url, ROWS, 64, str(folder / "speed-64-0.sqlite")) for _ in range(3)
    ]
    return {
        "rerun_requests": server.stats()["calls"],
        "rerun_seconds": statistics.median(r["process_s"] for r in runs),
    }


def faults(server: Server, folder: Path) -> dict[str, Any]:
    """Run through faults."""
    server.configure(latency_s=LATENCY_S, **FAULTS)
    ours = worker("ours", server.url, ROWS, 64, str(folder / "faults.sqlite"))
    calls = server.stats()["calls"]
    server.configure(latency_s=LATENCY_S, **FAULTS)
    package = worker("openai", server.url, ROWS, 64, "default")
    return {
        "rows_lost_with_faults": ours["lost"],
        "faults_work_s": ours["work_s"],
        "faults_calls": calls,
        "openai_rows_lost_with_faults": package["lost"],
    }


def curator_mends(server: Server, folder: Path) -> dict[str, Any]:
    """Run curator through faults, and kill it once in the middle of a run."""
    server.configure(latency_s=LATENCY_S, **FAULTS)
    found = worker("curator", server.url, ROWS, 64, str(folder / "curator-faults"))
    faults_calls = server.stats()["calls"]
    server.configure(latency_s=LATENCY_S)
    place = str(folder / "curator-kill")
    with subprocess.Popen(
        command("curator", server.url, ROWS, 64, place),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while server.stats()["answered"] < ROWS // 2:
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
    again = worker("curator", server.url, ROWS, 64, place)
    repeated = sum(n - 1 for n in server.stats()["by_text"].values())
    calls = server.stats()["calls"]
    rerun = worker("curator", server.url, ROWS, 64, place)
    return {
        "rows_lost_with_faults": found["lost"],
        "faults_work_s": found["work_s"],
        "faults_calls": faults_calls,
        "repeated_after_kill": repeated,
        "rows_lost_after_kill": again["lost"],
        "rerun_requests": server.stats()["calls"] - calls,
        "rerun_seconds": rerun["process_s"],
    }


def kills(server: Server, folder: Path, rows: int = 600, in_flight: int = 64) -> dict[str, Any]:
    """Kill a run at points spread over it; count what the rerun asks a second time."""
    repeated, at_kill, lost = [], [], 0
    for point in range(KILLS):
        server.configure(latency_s=LATENCY_S)
        place = str(folder / f"kill-{point}.sqlite")
        process = subprocess.Popen(
            command("ours", server.url, rows, in_flight, place),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        wanted = 1 + point * (rows - 2) // KILLS
        while server.stats()["answered"] < wanted:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        at_kill.append(server.stats()["in_flight"])
        process.wait()
        lost += worker("ours", server.url, rows, in_flight, place)["lost"]
        repeated.append(sum(n - 1 for n in server.stats()["by_text"].values()))
    return {
        "repeated_after_kill": max(repeated),
        # The bound on calls whose answers are not committed. The server counts fewer: to it
        # an answer that lies in a socket, or is being written to the cache, is given.
        "in_flight_at_kill": in_flight,
        "repeated_each": repeated,
        "server_in_flight_each": at_kill,
        "rows_lost_after_kill": lost,
    }


def measure(quick: bool) -> dict[str, Any]:
    """Measure everything."""
    turns = 3 if quick else 5
    with serving() as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reason = without_curator()
        at_64 = speed(server, 64, turns, folder, curator=not reason)
        at_512 = speed(server, 512, turns, folder, curator=not reason)
        server.configure()
        ceiling = worker("aiohttp", server.url, ROWS, 64)["work_s"]
        return {
            "wall_over_aiohttp_64": at_64["over_aiohttp"]["ours"],
            "wall_over_aiohttp_512": at_512["over_aiohttp"]["ours"],
            **faults(server, folder),
            **kills(server, folder),
            **rerun(server, folder),
            "curator": reason or curator_mends(server, folder),
            "at_64": at_64,
            "at_512": at_512,
            "calls_per_s_without_latency": ROWS / ceiling,
            "load_average": os.getloadavg()[0],
            "rows": ROWS,
            "latency_s": LATENCY_S,
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contestant of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="three turns instead of five")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--save", action="store_true", help="also to benchmarks/results/llm.json")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        name, url, rows, in_flight, extra = options.worker
        print(json.dumps(WORKERS[name](url, int(rows), int(in_flight), extra)))
        return
    found = measure(options.quick)
    if options.save:
        target = ROOT / "benchmarks" / "results" / "llm.json"
        target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{k:32} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
