"""Ask through OpenAI's Batch API: half the price, within a day, and nothing paid twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from filelock import FileLock, Timeout

from llmlabel.errors import ClientError, ConfigError
from llmlabel.llm.batch_files import Results, read_results, request_line, split_lines
from llmlabel.llm.batch_state import Part, load_parts, new_part
from llmlabel.llm.cache import Cache
from llmlabel.llm.types import Failure, Request, Response

if TYPE_CHECKING:
    from llmlabel.llm.batch_api import BatchApi, BatchView

__all__ = ["BatchEndpoint", "OnPoll", "complete_batch"]

OnPoll = Callable[[int, int], None]
"""Told after each look at the server: rows that are done, rows that are asked."""

_MAX_REQUESTS: Final = 50_000
_MAX_BYTES: Final = 200_000_000
_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_QUEUE_FULL: Final = "token_limit_exceeded"
_TRIES: Final = 5
_PATIENCE: Final = 10  # looks in a row that fail, each of them retried in itself
_SLOWEST: Final = 10  # times poll_s
_GROUP: Final = 2_000  # answers per commit


class BatchEndpoint(Protocol):
    """Where a batch is sent: `OpenAIClient` has all of this."""

    @property
    def provider(self) -> str:
        """Who answers, as part of the cache's key."""

    @property
    def model(self) -> str | None:
        """Asked instead of the model that a request names."""

    @property
    def base_url(self) -> str:
        """The server."""

    @property
    def api_key_env(self) -> str:
        """The environment variable with the key."""


@dataclass(frozen=True)
class _Job:
    api: BatchApi
    cache: Cache
    poll_s: float
    settle_s: float


def complete_batch(
    requests: Iterable[Request],
    client: BatchEndpoint,
    *,
    cache: Cache,
    state_dir: str | Path,
    poll_s: float = 30.0,
    on_poll: OnPoll | None = None,
    max_requests: int = _MAX_REQUESTS,
    max_bytes: int = _MAX_BYTES,
    settle_s: float = 10.0,
) -> list[Response | Failure]:
    """Ask all requests through the Batch API and return their results in the same order.

    May be killed at any point: called again with the same `state_dir` it goes on
    where it was, finds on the server what it had sent and not yet noted, and
    waits for that. Requests with the same question are one line of a file. Every
    answer is in the cache before this returns, and those there already are not
    asked for. Batches under way are waited for even if some of their rows are
    not wanted any more: they are paid for.

    Parameters
    ----------
    requests
        What to ask.
    client
        Whom to ask; an `OpenAIClient`. Its cache keys are the same in both modes.
    cache
        Where answers are looked for and kept.
    state_dir
        A folder for the files of requests and their states; one run at a time.
    poll_s
        Seconds between looks at the server; they grow by half each time in which
        no batch ends, up to ten times as many.
    on_poll
        Told of the progress.
    max_requests, max_bytes
        The most of one file; the defaults are OpenAI's limits.
    settle_s
        After a kill or a broken connection: seconds to wait before looking
        whether the server has done what it had been asked for.

    Returns
    -------
    One per request. A row that the server could not answer, or that its batch
    did not reach before it expired or was cancelled, is a `Failure`; asking
    again asks only for those.

    Raises
    ------
    ClientError
        The server turns everything down (a bad key, no batches), or cannot be
        reached any more. What is under way stays so; run again to go on.
    ConfigError
        Another process works with `state_dir`.

    Notes
    -----
    The API: https://platform.openai.com/docs/guides/batch. The one thing that
    cannot be known: a server that carries out a creation more than `settle_s`
    after the connection broke.
    """
    from llmlabel.llm.batch_api import BatchApi  # takes 0.6 s to import

    folder = Path(state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    asked = list(requests)
    keys = [request.key(client.provider) for request in asked]
    before = cache.known(set(keys))
    open_keys: dict[str, Request] = {}
    for key, request in zip(keys, asked, strict=True):
        if key not in before:
            open_keys.setdefault(key, request)
    failures: dict[str, Failure] = {}
    if open_keys:
        limits = (max_requests, max_bytes)
        with _only_one(folder):
            api = BatchApi(client.base_url, client.api_key_env)
            try:
                job = _Job(api, cache, poll_s, settle_s)
                parts = _parts(open_keys, client, folder, limits, cache)
                failures = _run(parts, job, on_poll)
            finally:
                api.close()
    return _in_order(asked, keys, cache.get_many(set(keys)), before, failures)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{folder}: another process is at work on these batches") from None
    try:
        yield
    finally:
        lock.release()


def _parts(
    wanted: Mapping[str, Request],
    client: BatchEndpoint,
    folder: Path,
    limits: tuple[int, int],
    cache: Cache,
) -> list[Part]:
    """Return what is under way for these keys, and new files for the rest."""
    parts: list[Part] = []
    under_way: set[str] = set()
    for part in load_parts(folder, client.provider):
        keys = set(part.keys())
        if part.status in {"creating", "created"}:
            if keys & wanted.keys():
                parts.append(part)
                under_way |= keys
            elif keys == cache.known(keys):  # killed before it could note the end
                part.ended("collected")
        elif keys <= wanted.keys() - under_way:
            parts.append(part)
            under_way |= keys
        else:  # nobody has paid for it, and not all of it is wanted any more
            part.ended("dropped")
    lines = (
        (_model(client, request), request_line(key, request, _model(client, request)))
        for key, request in wanted.items()
        if key not in under_way
    )
    files = split_lines(lines, max_requests=limits[0], max_bytes=limits[1])
    return parts + [new_part(folder, client.provider, file) for file in files]


def _model(client: BatchEndpoint, request: Request) -> str:
    model = client.model or request.model
    if not model:
        raise ClientError("no model: neither the client nor the prompt names one", fatal=True)
    return model


def _run(parts: list[Part], job: _Job, on_poll: OnPoll | None) -> dict[str, Failure]:
    """Bring all parts to their end; return the rows that failed, by key."""
    sizes = {part.tag: len(part.keys()) for part in parts}
    open_parts = {part.tag: _sent(part, job) for part in parts}
    done = dict.fromkeys(sizes, 0)
    waiting: dict[str, Part] = {}
    failures: dict[str, Failure] = {}
    delay = job.poll_s
    while open_parts:
        ended = 0
        for tag, part in list(open_parts.items()):
            view = _view(part, job)
            done[tag] = view.completed + view.failed
            if view.status not in _ENDED:
                continue
            del open_parts[tag]
            if _queue_full(view) and (open_parts or ended):
                waiting[tag] = part
                continue
            ended += 1
            failures |= _collected(part, view, job)
            done[tag] = sizes[tag]
        if on_poll is not None:
            on_poll(sum(done.values()), sum(sizes.values()))
        if ended:  # there may be room in the server's queue again
            open_parts |= {tag: _sent(part.again(), job) for tag, part in waiting.items()}
            waiting.clear()
        if open_parts:
            delay = job.poll_s if ended else min(delay * 1.5, job.poll_s * _SLOWEST)
            time.sleep(delay)
    return failures


def _queue_full(view: BatchView) -> bool:
    return view.status == "failed" and any(code == _QUEUE_FULL for code, _ in view.errors)


def _sent(part: Part, job: _Job) -> Part:
    """Upload a part and create its batch, each once."""
    api = job.api
    if part.status in {"written", "uploading"}:
        unsure = part.status == "uploading"
        part = part.moved("uploading")
        name = part.upload_name
        file_id = _once(
            lambda: api.upload(part.file, name), lambda: api.find_file(name), job, unsure=unsure
        )
        part = part.moved("uploaded", file_id=file_id)
    if part.status in {"uploaded", "creating"}:
        unsure = part.status == "creating"
        since = part.since
        part = part.moved("creating")
        tag = part.batch_tag
        batch_id = _once(
            lambda: api.create(part.file_id, tag),
            lambda: api.find_batch(tag, since=since),
            job,
            unsure=unsure,
        )
        part = part.moved("created", batch_id=batch_id)
    return part


def _once(do: Callable[[], str], find: Callable[[], str | None], job: _Job, *, unsure: bool) -> str:
    """Do what must be done once; where it may have been done already, look first."""
    tries = 0
    while True:
        if unsure:
            time.sleep(job.settle_s)
            found = find()
            if found is not None:
                return found
        try:
            return do()
        except ClientError as error:
            tries += 1
            if not error.retryable or tries == _TRIES:
                raise
            unsure = True
            time.sleep(min(job.poll_s, 2.0**tries))


def _view(part: Part, job: _Job) -> BatchView:
    tries = 0
    while True:
        try:
            return job.api.view(part.batch_id)
        except ClientError as error:
            if error.status == 404:
                raise _unknown(part, error) from None
            tries += 1
            if not error.retryable or tries == _PATIENCE:
                raise
            time.sleep(min(job.poll_s * 2.0**tries, job.poll_s * _SLOWEST))


def _unknown(part: Part, error: ClientError) -> ClientError:
    return ClientError(
        f"{error.message}: the server does not know this batch of ours",
        status=404,
        fatal=True,
        hint=f"is it another account's key? Delete {part.folder}/{part.tag}.* to pay anew",
    )


def _collected(part: Part, view: BatchView, job: _Job) -> dict[str, Failure]:
    """Put a batch's answers into the cache; return its rows that have none."""
    keys = part.keys()
    results, kept = _downloaded(part, view, job)
    answers = iter(results.answers.items())
    while group := dict(islice(answers, _GROUP)):
        job.cache.put_many(group)
    reason, retryable = _why_missing(view, kept)
    failures = {
        key: results.failures.get(key) or Failure(key, reason, retryable=retryable)
        for key in keys
        if key not in results.answers
    }
    part.ended("collected")
    return failures


def _downloaded(part: Part, view: BatchView, job: _Job) -> tuple[Results, list[Path]]:
    """Fetch a batch's results; return them, and the files if they hold lines nobody can read."""
    ids = {"output": view.output_file, "errors": view.error_file}
    names = {part.folder / f"{part.tag}.{kind}.jsonl": i for kind, i in ids.items() if i}
    results = Results()
    for _ in range(_TRIES):
        for path, file_id in names.items():
            job.api.download(file_id, path)
        results = read_results(names)
        if not results.unreadable:
            for path in names:
                path.unlink()
            return results, []
    return results, list(names)


def _why_missing(view: BatchView, kept: list[Path]) -> tuple[str, bool]:
    if kept:
        where = ", ".join(str(path) for path in kept)
        return f"the batch's results cannot be read here; they are kept in {where}", True
    if view.status == "failed":
        words = "; ".join(f"{c}: {m}" if c else m for c, m in view.errors) or "no reason given"
        return f"the batch {view.id} failed: {words}", _queue_full(view)
    if view.status == "completed":
        return f"the batch {view.id} is completed without a result for this row", True
    return f"the batch {view.id} was {view.status} before this row's turn", True


def _in_order(
    asked: list[Request],
    keys: list[str],
    answers: Mapping[str, Response],
    before: set[str],
    failures: Mapping[str, Failure],
) -> list[Response | Failure]:
    out: list[Response | Failure] = []
    paid: set[str] = set()
    for request, key in zip(asked, keys, strict=True):
        if key in answers:
            out.append(replace(answers[key], cached=key in before or key in paid))
            paid.add(key)
        else:
            failure = failures.get(key) or Failure(key, "the cache did not keep the answer")
            out.append(replace(failure, custom_id=request.custom_id))
    return out
