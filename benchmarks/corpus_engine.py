"""The engine: the cleaning step on a Ray cluster that loses a node, against one process here.

    python -m benchmarks.corpus_engine [--quick]

Documents of ../shared/data/web, written as sixteen Parquet files, go through the step ``clean``
of the recipe pretraining-filter (repair, language, personal data, all rules, sketches): in one
process, in two, and as Ray tasks on two nodes of one CPU each, of which one is killed as soon
as half of the parts are done and it is in the middle of another.

ray_equals_local
    Whether the cluster's folder holds the files of the local engine's, byte for byte:
    documents, dropped ones, sketches and manifests.
ray_parts_lost
    Parts that are not there in the end.
ray_parts_twice
    Parts that were begun again although they were done.
ray_parts_done_at_removal, ray_calls
    Parts done when the node went, and calls of the cleaning function in all: those above the
    number of parts are what the node was at when it went, and had to be begun again.
engine_two_over_one
    Documents per second of two processes over one, the two's start included; not in --quick.
engine_docs_per_second, engine_docs_per_cpu_second
    Of one process, on one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.shared import SHARED, require_shared
from llmlabel.corpus.cleaning import Cleaning
from llmlabel.engine import Part, PartResult, map_shards
from llmlabel.io.documents import ReadOptions
from llmlabel.io.shards import Shard, list_shards
from llmlabel.recipe.steps.clean import clean_shard

__all__ = ["at_work", "clean_logged", "digests", "done_in", "engine", "twice", "write_corpus"]

Call = tuple[str, str, int]  # of the cleaning function: shard, node, time in nanoseconds

SHARDS: Final = 16
KEY: Final = "benchmark"
HOW: Final = Cleaning(languages={"en": 0.6}, personal="mask")  # as the recipe says it
_PATIENCE_S: Final = 30.0  # a node's first worker takes some seconds to start
NO_RAY: Final = dict.fromkeys(("ray_equals_local", "ray_parts_lost", "ray_parts_twice"))


def write_corpus(folder: Path, count: int, seed: int = 0) -> Sequence[Shard]:
    """Write so many of the shared documents, drawn without looking, as shards."""
    table = pq.read_table(SHARED / "web" / "web.parquet", columns=["id", "text", "source"])
    order = np.random.default_rng(seed).permutation(len(table))[:count]
    folder.mkdir()
    for i, rows in enumerate(np.array_split(order, SHARDS)):
        pq.write_table(table.take(pa.array(rows)), folder / f"{i:02}.parquet")
    return list_shards(folder).shards


def clean_logged(
    shard: Shard, log: str, options: ReadOptions, how: Cleaning
) -> Iterator[PartResult]:
    """Clean a shard as the recipe does; that it was called, where and when, is logged first."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{json.dumps([shard.id, _node(), time.time_ns()])}\n".encode())
    os.close(handle)
    yield from clean_shard(shard, options, how)


def _node() -> str:
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""


def calls_of(log: Path) -> list[Call]:
    """Read what `clean_logged` wrote: shards, nodes and times."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [tuple(json.loads(line)) for line in lines]


def digests(folder: Path) -> dict[str, str]:
    """Return what tells each file of a folder from others."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def twice(calls: Sequence[Call], done: Mapping[str, int]) -> int:
    """Return how many calls came after their shard's part was done.

    Parameters
    ----------
    done
        When each shard's part was done.
    """
    return sum(at > done[shard] for shard, _, at in calls)


def engine(quick: bool = False) -> dict[str, Any]:
    """Measure the engines; without Ray its figures are None."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_corpus(folder / "corpus", 4_000 if quick else 18_000)
        found = local(shards, folder, (1,)) if quick else local(shards, folder, (1, 2), turns=3)
        if find_spec("ray") is None:
            print("skipped ray: it is not installed (llmlabel[ray])", file=sys.stderr)
            return {**found, **NO_RAY}
        return {**found, **on_ray(shards, folder, digests(folder / "local-0-1"))}


def local(
    shards: Sequence[Shard], folder: Path, processes: Sequence[int], turns: int = 1
) -> dict[str, Any]:
    """Clean in one process and, where that is asked for, in two; in turns."""
    work = partial(clean_shard, options=ReadOptions(), how=HOW)
    list(work(shards[0]))  # models are read once
    seconds: dict[int, list[float]] = {workers: [] for workers in processes}
    cpu: list[float] = []
    for turn in range(turns):
        for workers, all_seconds in seconds.items():
            out = folder / f"local-{turn}-{workers}"
            started, spent = time.perf_counter(), time.process_time()
            result = map_shards(work, shards, out=out, key=KEY, workers=workers)
            all_seconds.append(time.perf_counter() - started)
            if workers == 1:
                cpu.append(time.process_time() - spent)
    documents = result.facts["read"]
    found = {
        "engine_documents": documents,
        "engine_docs_per_second": documents / statistics.median(seconds[1]),
        "engine_docs_per_cpu_second": documents / statistics.median(cpu),
    }
    if 2 in seconds:
        pairs = zip(seconds[1], seconds[2], strict=True)
        found["engine_two_over_one"] = statistics.median(one / two for one, two in pairs)
        found["engine_two_equals_one"] = digests(out) == digests(folder / "local-0-1")
    return found


def on_ray(shards: Sequence[Shard], folder: Path, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Clean on two nodes, kill one half-way, and compare with a folder's files."""
    # By the module's own name, which workers import: this may be __main__.
    from benchmarks.corpus_engine import clean_logged as logged

    out, log, at_removal = folder / "ray", folder / "ray.log", 0
    work = partial(logged, log=str(log), options=ReadOptions(), how=HOW)
    with redirect_stdout(io.StringIO()), _cluster() as nodes:  # Ray prints pages on a node's death

        def kill_half_way(_: Part) -> None:
            nonlocal at_removal
            if not at_removal and len(done_in(out, shards)) >= len(shards) // 2:
                node = next(iter(nodes.worker_nodes))
                _wait_until(lambda: at_work(calls_of(log), node.node_id, done_in(out, shards)))
                at_removal = len(done_in(out, shards))
                nodes.remove_node(node, allow_graceful=False)

        map_shards(
            work, shards, out=out, key=KEY, engine="ray", address=nodes.address,
            on_done=kill_half_way,
        )  # fmt: skip
    calls, done, found = calls_of(log), done_in(out, shards), digests(out)
    return {
        "ray_equals_local": found == wanted,
        "ray_parts_lost": len(shards) - len(done),
        "ray_parts_twice": twice(calls, done),
        "ray_parts": len(shards),
        "ray_files_compared": len(found),
        "ray_nodes_at_work": len({node for _, node, _ in calls}),
        "ray_parts_done_at_removal": at_removal,
        "ray_calls": len(calls),
    }


def done_in(out: Path, shards: Sequence[Shard]) -> dict[str, int]:
    """Return when the parts were done that are, in nanoseconds, by shard."""
    files = {int(file.name[:5]): file for file in (out / "manifests").glob("*.json")}
    return {shards[i].id: file.stat().st_mtime_ns for i, file in sorted(files.items())}


def at_work(calls: Sequence[Call], node: str, done: Mapping[str, int]) -> bool:
    """Return whether a node has begun a part that is not done."""
    return any(where == node and shard not in done for shard, where, _ in calls)


def _wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not true() and time.monotonic() < end:
        time.sleep(0.01)


@contextmanager
def _cluster() -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster: Any = import_module("ray.cluster_utils").Cluster

    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
    # A dead node is known after 2 s, by default after 15.
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {**small, "include_dashboard": False, "_system_config": quick}
    nodes = cluster(initialize_head=True, head_node_args=head)
    try:
        nodes.add_node(**small)
        yield nodes
    finally:
        nodes.shutdown()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer documents, one process, one turn"
    )
    quick = parser.parse_args(arguments).quick
    require_shared()
    print(json.dumps(engine(quick), indent=2))


if __name__ == "__main__":
    main()
