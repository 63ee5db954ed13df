"""Map a function over shards: what is done stays done, whatever dies on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmlabel.engine.local import run_in_process, run_local
from llmlabel.engine.outcome import Engine, Failure
from llmlabel.engine.parts import Job, Part, ShardFunction, add_facts, finished, tidy
from llmlabel.errors import LLMLabelError, ShardError, UnknownNameError

__all__ = ["ENGINES", "EngineName", "MapResult", "map_shards"]

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")


@dataclass(frozen=True)
class MapResult:
    """The parts of all shards, in the shards' order."""

    parts: tuple[Part, ...]

    @property
    def reused(self) -> int:
        """How many parts an earlier run had made."""
        return sum(part.reused for part in self.parts)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of all parts, added up; see `add_facts`."""
        return add_facts(part.facts for part in self.parts)

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows each table has in all parts together."""
        return add_facts(part.rows for part in self.parts)

    def files(self, table: str) -> list[Path]:
        """Return a table's part files, in the shards' order."""
        return [part.files[table] for part in self.parts if table in part.files]


def map_shards(
    fn: ShardFunction,
    shards: Sequence[Any],
    *,
    out: str | Path,
    key: str,
    engine: EngineName = "local",
    workers: int | None = None,
    address: str | None = None,
    max_in_flight: int | None = None,
    tries: int = 3,
    on_done: Callable[[Part], None] | None = None,
) -> MapResult:
    """Run a function on every shard and keep what it makes as Parquet part files.

    Workers write ``out/TABLE/INDEX-ID.parquet`` for each table and, last and by a rename,
    ``out/manifests/INDEX-ID.json``. A part whose manifest has the same key (of `key` and
    the shard's own description) is not made again; others' files are removed. Part files
    hold no times and no names of machines: every engine writes the same bytes.

    Memory here is that of the shards' descriptions and facts; a worker's is that of one
    shard's result, or of one piece where `fn` is a generator.

    Parameters
    ----------
    fn
        A pure function of a shard, at a module's top level (or a `functools.partial` of
        one): it returns a `PartResult`, or yields several, whose tables are written one
        below the other and whose facts are added up.
    shards
        Frozen dataclasses or mappings of plain data with a text ``id``.
    out
        The folder of the parts, which only one run may work in; with Ray, one that all
        machines share.
    key
        What else decides the result: a fingerprint of the config and the code's version.
    engine
        ``local``: processes here. ``ray``: tasks on a cluster.
    workers
        Processes; all cores by default. 1 runs in this process. With Ray, the CPUs of a
        cluster that is started here.
    address
        Of a running Ray cluster (``auto``, ``HOST:6379``, ``ray://...``); without one, a
        cluster of this machine is started and ended, or the one in use is used.
    max_in_flight
        Ray tasks at a time, twice the cluster's CPUs by default. The local engine gives
        each worker one shard at a time.
    tries
        How often a shard is tried whose worker or node dies.
    on_done
        Called here with each part as it is done, those of an earlier run first.

    Raises
    ------
    ShardError
        Some shards failed; it comes after all others are done.
    LLMLabelError
        The function says that no shard can succeed: any error of ours but `DataError`.
    ConfigError
        A shard without an id; a function that cannot be sent to a process.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow as pa
    >>> from llmlabel.engine import PartResult
    >>> def double(shard):
    ...     numbers = pa.array(range(shard["n"]))
    ...     return PartResult({"even": pa.table({"x": numbers})}, {"count": shard["n"]})
    >>> shards = [{"id": "a", "n": 2}, {"id": "b", "n": 3}]
    >>> out = tempfile.mkdtemp()
    >>> result = map_shards(double, shards, out=out, key="1", workers=1)
    >>> result.facts, [file.name for file in result.files("even")]
    ({'count': 5}, ['00000-a.parquet', '00001-b.parquet'])
    >>> map_shards(double, shards, out=out, key="1", workers=1).reused
    2
    """
    folder = Path(out).absolute()
    jobs = [Job.of(shard, index, key, folder) for index, shard in enumerate(shards)]
    done = {job.name: part for job in jobs if (part := finished(job, reused=True))}
    tidy(folder, done.values())
    if on_done is not None:
        for part in done.values():
            on_done(part)
    todo = [job for job in jobs if job.name not in done]
    failed: dict[str, Failure] = {}
    run = _engine(engine, workers, address, max_in_flight, tries)
    for job, failure in run(fn, todo) if todo else ():
        ended = finished(job) if failure is None else None
        if ended is None:
            failed[job.name] = failure or Failure(f"its files are not in {folder}")
            if failed[job.name].fatal:
                raise LLMLabelError(
                    f"shard {_shown(job)}: {failed[job.name].message}", hint=failed[job.name].hint
                )
            continue
        done[job.name] = ended
        if on_done is not None:
            on_done(ended)
    tidy(folder, done.values())
    if failed:
        raise _error([job for job in jobs if job.name in failed], failed, len(jobs))
    return MapResult(tuple(done[job.name] for job in jobs))


def _engine(
    engine: str, workers: int | None, address: str | None, max_in_flight: int | None, tries: int
) -> Engine:
    if engine == "ray":
        from llmlabel.engine.ray import run_on_ray

        return lambda fn, jobs: run_on_ray(
            fn, jobs, address=address, workers=workers, max_in_flight=max_in_flight, tries=tries
        )
    if engine != "local":
        raise UnknownNameError("engine", engine, ENGINES)
    count = workers or len(os.sched_getaffinity(0))
    if count == 1:
        return run_in_process
    return lambda fn, jobs: run_local(fn, jobs, workers=count, tries=tries)


def _shown(job: Job) -> str:
    return repr(job.name.split("-", 1)[1])


def _error(jobs: Sequence[Job], failed: Mapping[str, Failure], total: int) -> ShardError:
    first = failed[jobs[0].name]
    names = ", ".join(_shown(job) for job in jobs[:5]) + (", ..." if len(jobs) > 5 else "")
    message = (
        f"{len(jobs)} of {total} shards failed ({names}), the others are done; "
        f"{_shown(jobs[0])}: {first.message}"
    )
    hint = "the next run works on these alone" + (f"; {first.hint}" if first.hint else "")
    return ShardError(message, [job.name for job in jobs], hint=hint)
