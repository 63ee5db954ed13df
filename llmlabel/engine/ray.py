"""The Ray engine: a task per shard, on a cluster or on one that is started here."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from llmlabel.engine.outcome import Failure, attempt, load, pickled
from llmlabel.engine.parts import Job, ShardFunction
from llmlabel.errors import ConfigError
from llmlabel.extras import need_packages

__all__ = ["run_on_ray"]

_STORE: Final = 512 << 20  # tables go through files: the object store holds the function alone
_KNOCK_S: Final = 10.0


def run_on_ray(
    fn: ShardFunction,
    jobs: Sequence[Job],
    *,
    address: str | None,
    workers: int | None,
    max_in_flight: int | None,
    tries: int,
) -> Iterator[tuple[Job, Failure | None]]:
    """Run the jobs as Ray tasks of one CPU each; their parts go into the shared folder.

    A task whose worker or node dies is run again by Ray, elsewhere; where the part was
    there already it does nothing.

    Raises
    ------
    MissingExtraError
        Ray is not installed (``llmlabel[ray]``).
    ConfigError
        There is no cluster at the address.
    """
    need_packages("the engine 'ray'", "ray", extra="ray")
    import ray

    with _connected(address, workers):
        task = ray.remote(num_cpus=1, max_retries=tries - 1)(_task)
        sent = ray.put((pickled(fn, "the function"), sys.path))
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        most = max_in_flight or 2 * max(1, int(resources.get("CPU", 1)))
        left, running = deque(jobs), dict[Any, Job]()
        while left or running:
            while left and len(running) < most:
                job = left.popleft()
                running[task.remote(sent, job)] = job
            for done in ray.wait(list(running), num_returns=1)[0]:
                job = running.pop(done)
                yield job, _outcome(done, tries)


def _task(sent: tuple[bytes, list[str]], job: Job) -> Failure | None:
    code, paths = sent
    sys.path += [path for path in paths if path not in sys.path]  # the user's modules are there
    fn = load(code)
    return fn if isinstance(fn, Failure) else attempt(fn, job)


def _outcome(done: Any, tries: int) -> Failure | None:
    import ray

    try:
        outcome: Failure | None = ray.get(done)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().split("\n")[0]
        return Failure(f"Ray gave up after {tries} tries: {type(error).__name__}: {reason}")
    return outcome


@contextmanager
def _connected(address: str | None, workers: int | None) -> Iterator[None]:
    """Connect to a cluster, or start one here; leave one alone that is in use already."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    if address:
        _check_address(address)
    local: dict[str, Any] = {
        "num_cpus": workers or os.cpu_count(),
        "include_dashboard": False,
        "object_store_memory": _STORE,
    }
    try:
        ray.init(
            address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else local),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address or "this machine", error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Knock before Ray does, which would wait for minutes for what is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # ``auto`` and whatever else Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(where: str, error: Exception) -> ConfigError:
    reason = str(error).strip().split("\n")[0]
    return ConfigError(
        f"no Ray cluster at {where}: {reason}",
        hint="start one with: ray start --head; or leave the address out, for one of this machine; "
        "a cluster that asks for a token needs RAY_AUTH_MODE=token here",
    )
