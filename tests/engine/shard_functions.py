"""Functions of shards for the tests: workers import them, so they live in a module."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmlabel.engine import PartResult
from llmlabel.errors import ConfigError, DataError


def log(shard: dict[str, Any]) -> None:
    """Append one whole line: who runs which shard, and since when."""
    line = f"{shard['id']} {os.getpid()} {time.time_ns()}\n".encode()
    handle = os.open(shard["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, line)
    os.close(handle)


def digests(shard: dict[str, Any]) -> PartResult:
    """Two tables of what only the shard decides."""
    log(shard)
    time.sleep(shard.get("seconds", 0.0))
    texts = [hashlib.sha256(f"{shard['id']}/{i}".encode()).hexdigest() for i in range(shard["n"])]
    kept = pa.table({"id": pa.array(range(shard["n"])), "text": pa.array(texts, pa.string())})
    dropped = kept.slice(0, shard["n"] // 3)
    return PartResult(
        {"kept": kept, "dropped": dropped},
        {"documents": shard["n"], "first": {texts[0][0]: 1} if texts else {}},
    )


def pieces(shard: dict[str, Any]) -> Iterator[PartResult]:
    """The same rows, a few at a time."""
    whole = digests(shard)
    for start in range(0, shard["n"], 3):
        some = {name: table.slice(start, 3) for name, table in whole.tables.items()}
        yield PartResult(some, {"documents": some["kept"].num_rows})


def dies_once(shard: dict[str, Any]) -> PartResult:
    """Kill the worker, as the out-of-memory killer does, the first time at a marked shard."""
    result = digests(shard)
    if shard.get("dies"):
        try:
            os.close(os.open(shard["dies"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return result
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def always_dies(shard: dict[str, Any]) -> PartResult:
    result = digests(shard)
    if shard.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def crashes(shard: dict[str, Any]) -> PartResult:
    result = digests(shard)
    if shard["id"].endswith("2"):
        raise DataError("is no corpus", file="a.parquet")
    if shard["id"].endswith("4"):
        raise ZeroDivisionError("by nothing")
    return result


def misconfigured(shard: dict[str, Any]) -> PartResult:
    log(shard)
    raise ConfigError("no such language 'xx'", hint="say en")


def bulky(shard: dict[str, Any]) -> Iterator[PartResult]:
    """Yield much more than the driver may hold."""
    for _ in range(4):
        yield PartResult({"kept": pa.table({"x": np.arange(500_000)})})


def burn(shard: dict[str, Any]) -> PartResult:
    """Use the processor for a while."""
    total = 0
    for i in range(shard["n"]):
        total = (total * 31 + i) % 1_000_003
    return PartResult({"kept": pa.table({"total": [total]})})


def log_of(path: Path) -> list[tuple[str, int, int]]:
    """Read what `log` wrote: ids, process ids, times in nanoseconds."""
    if not path.exists():
        return []
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(name, int(pid), int(at)) for name, pid, at in rows]
