"""The local engine: a pool of processes in which a killed one costs one try of one shard."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

import pyarrow as pa
from threadpoolctl import threadpool_limits

from llmlabel.engine.outcome import Failure, attempt, load, pickled
from llmlabel.engine.parts import Job, ShardFunction
from llmlabel.errors import ConfigError, LLMLabelError

__all__ = ["run_in_process", "run_local"]

_THREADS: Final = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
_GRACE_S: Final = 5.0


def run_in_process(fn: ShardFunction, jobs: Sequence[Job]) -> Iterator[tuple[Job, Failure | None]]:
    """Run the jobs one after the other, here."""
    for job in jobs:
        yield job, attempt(fn, job)


def run_local(
    fn: ShardFunction, jobs: Sequence[Job], *, workers: int, tries: int
) -> Iterator[tuple[Job, Failure | None]]:
    """Run the jobs in processes, each of which has one shard at a time.

    A worker that dies (``kill -9``, out of memory) is replaced and its shard tried again.
    Workers are spawned, so threads here are no danger to them, and use one thread each.
    They end when this process does, however it does.

    Raises
    ------
    ConfigError
        `fn` or a shard cannot be pickled.
    LLMLabelError
        A process died before it could begin.
    """
    code = pickled(fn, "the function")
    left: deque[tuple[Job, int]] = deque((job, 0) for job in jobs)
    pool = [_Worker.start(code) for _ in range(min(workers, len(jobs)))]
    try:
        while pool:
            for worker in [w for w in pool if w.job is None and w.ready]:
                if left:
                    worker.give(*left.popleft())
                else:
                    pool.remove(worker)
                    worker.stop()
            waits = [w.pipe for w in pool]
            for pipe in wait(waits) if waits else []:
                worker = next(w for w in pool if w.pipe is pipe)
                ended = worker.receive()
                if worker.dead:
                    pool.remove(worker)
                    pool.append(_Worker.start(code))
                    job, tried = worker.at_work()
                    if tried < tries:
                        left.appendleft((job, tried))
                        continue
                    ended = job, Failure(f"its process died {tried} times, {worker.cause()}")
                if ended is not None:
                    yield ended
    finally:
        for worker in pool:
            worker.kill()


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    tried: int = 0
    ready: bool = False
    dead: bool = False

    @classmethod
    def start(cls, code: bytes) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, code), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return cls(process, ours)

    def give(self, job: Job, tried: int) -> None:
        self.job, self.tried = job, tried + 1
        code = pickled(job, f"the shard of part {job.name}")
        with contextlib.suppress(OSError):  # it has died: the pipe says so when it is read
            self.pipe.send_bytes(code)

    def receive(self) -> tuple[Job, Failure | None] | None:
        """Read what the worker says: that it is ready, or how its job ended."""
        try:
            said: Failure | None = self.pipe.recv()
        except (EOFError, OSError):
            self.dead = True
            self.kill()
            return None
        if not self.ready:
            if said is not None:
                raise ConfigError(said.message, hint=said.hint)
            self.ready = True
            return None
        job, self.job = self.job, None
        assert job is not None
        return job, said

    def at_work(self) -> tuple[Job, int]:
        """Return what a dead worker had to do, and how often that was tried."""
        if self.job is None:
            raise LLMLabelError(
                f"a worker process died before it could begin, {self.cause()}",
                hint="a script that starts workers needs: if __name__ == '__main__'",
            )
        return self.job, self.tried

    def cause(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f"with exit code {code}"
        name = signal.Signals(-code).name
        return f"by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        self.pipe.close()
        if self.process.is_alive():
            self.process.join(0.2 if self.dead else 0)
            self.process.kill()
        self.process.join()


def _work(pipe: Connection, code: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver is told, and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in _THREADS:  # there are as many of us as cores
        os.environ.setdefault(name, "1")
    pa.set_cpu_count(1)
    with threadpool_limits(1):
        fn = load(code)
        if isinstance(fn, Failure):
            pipe.send(fn)
            return
        pipe.send(None)
        while True:
            try:
                job: Job = pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own parent's
            except EOFError:
                return
            pipe.send(attempt(fn, job))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
