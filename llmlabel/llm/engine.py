"""The run over many requests: read ahead, asked, committed in groups, handed on."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from llmlabel.errors import ClientError, LLMLabelError
from llmlabel.llm.cache import Cache
from llmlabel.llm.slots import held_slots
from llmlabel.llm.structured import correction, recall_modes, wrong_answer
from llmlabel.llm.types import Client, Failure, Request, Response, Usage

__all__ = ["Deliver", "Engine", "Result"]

Result = Response | Failure
Deliver = Callable[[int, Request, Result], None]
"""Told of each result: the request's place among all, the request, the result."""

_CHUNK: Final = 128
_WAITING: Final = 128  # rows that may wait to be asked again beside those in flight
_GARBAGE: Final = 100_000
"""So many objects more than before let the collector look for cycles: some 20 MB."""


class _ClosedError(Exception):
    """Nobody takes the results any more."""


@dataclass(slots=True)
class _Question:
    """A question, and the rows that wait for its answer."""

    key: str
    rows: list[tuple[int, Request]]


class Engine:
    """One run.

    Requests are read in chunks, looked up in the cache, and what is left is
    asked by workers, each of which takes the next question when its last answer is
    committed and one of `max_in_flight` places is free. A worker holds its place
    until the commit, so that calls in flight and answers not yet committed together
    are never more than `max_in_flight`: that, and no more, is what a killed run
    repeats. A row that waits to be asked again lends its place to others. A commit
    takes all answers that came while the last one was written (about 1 ms),
    in a thread of its own, so that the event loop never waits for the disk.

    Parameters
    ----------
    requests
        What to ask; read as far ahead as `look_ahead` allows.
    client, cache
        Whom to ask; where answers are looked for and kept.
    deliver
        Told of each result, in the event loop's thread.
    max_in_flight, drain_s
        As of `complete_all`.
    look_ahead
        The most requests read and not yet acknowledged. None: no bound, nothing
        needs to be acknowledged, and questions are one call over the whole run.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        client: Client,
        cache: Cache | None,
        deliver: Deliver,
        *,
        max_in_flight: int,
        drain_s: float,
        look_ahead: int | None = None,
    ) -> None:
        self._source = iter(requests)
        self._client = client
        self._by_row = bool(getattr(client, "answers_by_row", False))
        self._cache = None if self._by_row else cache
        self._deliver = deliver
        self._max_in_flight = max_in_flight
        self._drain_s = drain_s
        self._look_ahead = look_ahead
        self._chunk = _CHUNK if look_ahead is None else max(1, min(_CHUNK, look_ahead // 4))
        self._open: dict[str, _Question] = {}
        self._done: dict[str, Result] = {}
        self._unacknowledged = 0
        self._stopped = False
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Ask everything.

        Raises
        ------
        LLMLabelError
            The first error that ends the run, after the calls in flight.
        """
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._room = asyncio.Event()
        self._slots = asyncio.Semaphore(self._max_in_flight)
        self._questions: asyncio.Queue[_Question | None] = asyncio.Queue(self._max_in_flight + 1)
        self._keeper = _Keeper(self._cache, self._post)
        if self._closing.is_set():
            return
        await self._exchange_modes()
        try:
            async with self._client:
                with _no_garbage_of_others():
                    await self._ask_all()
        except _ClosedError:
            return
        finally:
            self._keeper.close()
        await self._exchange_modes()

    def acknowledge(self, count: int) -> None:
        """Say, from any thread, that so many results were taken."""
        self._call(self._acknowledged, count)

    def close(self) -> None:
        """Say, from any thread, that no further result will be taken."""
        self._closing.set()
        self._call(self._close)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:  # it has just been closed
                return

    def _acknowledged(self, count: int) -> None:
        self._unacknowledged -= count
        self._room.set()

    def _close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    async def _exchange_modes(self) -> None:
        if self._cache is not None:
            await asyncio.to_thread(recall_modes, self._cache)

    async def _ask_all(self) -> None:
        tasks = [asyncio.create_task(self._feed())]
        workers = self._max_in_flight + min(_WAITING, 3 * self._max_in_flight)
        tasks += [asyncio.create_task(self._work()) for _ in range(workers)]
        everything: asyncio.Future[list[None]] = asyncio.gather(*tasks)
        try:
            either: list[asyncio.Future[Any]] = [everything, self._closed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done() or everything.exception() is not None:
                await self._drain(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if everything.done() and not everything.cancelled():
                error = everything.exception()
            else:
                error = _ClosedError() if self._closed.done() else None
        if error is not None:
            raise error

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        """Begin nothing new and wait for what is under way, which is paid."""
        self._stopped = True
        tasks[0].cancel()
        while not self._questions.empty():
            self._questions.get_nowait()
        self._questions.put_nowait(None)
        await asyncio.wait(tasks, timeout=self._drain_s)

    async def _feed(self) -> None:
        numbered = enumerate(self._source)
        while chunk := list(itertools.islice(numbered, self._chunk)):
            await self._has_room(len(chunk))
            for question in await self._unanswered(chunk):
                await self._questions.put(question)
        await self._questions.put(None)

    async def _has_room(self, count: int) -> None:
        if self._look_ahead is None:
            return
        while self._unacknowledged and self._unacknowledged + count > self._look_ahead:
            self._room.clear()
            await self._room.wait()
        self._unacknowledged += count

    async def _unanswered(self, rows: list[tuple[int, Request]]) -> list[_Question]:
        """Sort rows by question; return those that neither cache nor run has an answer to."""
        provider = self._client.provider
        new: dict[str, _Question] = {}
        for place, request in rows:
            key = str(place) if self._by_row else request.key(provider)
            if key in self._done:
                self._hand_on(place, request, self._done[key], first=False)
            elif key in self._open:
                self._open[key].rows.append((place, request))
            else:
                new[key] = self._open[key] = _Question(key, [(place, request)])
        if self._cache is not None and new:
            known = await asyncio.to_thread(self._cache.get_many, list(new))
            for key, response in known.items():
                del new[key]
                self._post(key, response)
        return list(new.values())

    async def _work(self) -> None:
        held_slots.set(self._slots)
        while not self._stopped:
            async with self._slots:  # from the question to its commit, but for back-offs
                question = await self._next()
                if question is None:
                    return
                await self._keeper.keep(question.key, await self._ask(question.rows[0][1]))

    async def _next(self) -> _Question | None:
        question = await self._questions.get()
        if question is None:
            self._questions.put_nowait(None)  # for the next worker
        return None if self._stopped else question

    async def _ask(self, request: Request) -> Result:
        try:
            response = await self._client.complete(request)
        except ClientError as error:
            if error.fatal:
                raise
            return Failure(request.custom_id, error.message, error.status, error.retryable)
        except Exception as error:  # a bug, ours or a plug-in's: shown whole, with the row
            error.add_note(f"while asking about row {request.custom_id!r}")
            raise
        if request.schema is None or self._by_row or response.finish_reason == "length":
            return response
        return await self._asked_again(request, response)

    async def _asked_again(self, request: Request, first: Response) -> Response:
        """Give an answer outside the schema one more chance, under the question's own key."""
        wrong = wrong_answer(request, first.text)
        if wrong is None:
            return first
        again = replace(request, messages=correction(request, wrong))
        try:
            second = await self._client.complete(again)
        except LLMLabelError:
            return first  # paid; if the error ends the run, the next row meets it too
        return replace(
            second,
            usage=_sum(first.usage, second.usage),
            latency_s=first.latency_s + second.latency_s,
            body={**second.body, "asked_again": wrong.reason},
        )

    def _post(self, key: str, result: Result) -> None:
        question = self._open.pop(key)
        if self._look_ahead is None:
            self._done[key] = result
        for nth, (place, request) in enumerate(question.rows):
            self._hand_on(place, request, result, first=nth == 0)

    def _hand_on(self, place: int, request: Request, result: Result, *, first: bool) -> None:
        if isinstance(result, Failure):
            result = replace(result, custom_id=request.custom_id)
        elif not first and not result.cached:  # only the first paid for it
            result = replace(result, cached=True)
        self._deliver(place, request, result)


@contextmanager
def _no_garbage_of_others() -> Iterator[None]:
    """Keep the collector from looking through all that is there, again and again.

    Thousands of small objects per second make it run often. Imported packages alone
    are some 100,000 objects and the answers are kept: at 512 in flight it took a
    quarter of a run's time. It still runs, once per so many objects that stay.
    """
    ours = gc.get_freeze_count() == 0
    before = gc.get_threshold()
    if ours:
        gc.freeze()
        gc.set_threshold(max(_GARBAGE, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()
            gc.set_threshold(*before)


def _sum(one: Usage | None, two: Usage | None) -> Usage | None:
    if one is None or two is None:
        return None
    return Usage(
        one.prompt_tokens + two.prompt_tokens, one.completion_tokens + two.completion_tokens
    )


class _Keeper:
    """Commits answers in groups in a thread: while one is written, the next gathers."""

    def __init__(self, cache: Cache | None, post: Callable[[str, Result], None]) -> None:
        self._cache = cache
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "llmlabel-cache")
        self._pending: list[tuple[str, Response, asyncio.Future[None]]] = []
        self._busy = False

    async def keep(self, key: str, result: Result) -> None:
        """Return when the result is committed and posted."""
        if self._cache is None or isinstance(result, Failure):
            self._post(key, result)
            return
        done: asyncio.Future[None] = self._loop.create_future()
        self._pending.append((key, result, done))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._start)  # with all that this turn of the loop reads
        await done

    def _start(self) -> None:
        assert self._cache is not None
        group, self._pending = self._pending, []
        self._busy = bool(group)
        if group:
            answers = {key: response for key, response, _ in group}
            self._thread.submit(self._cache.put_many, answers).add_done_callback(
                lambda commit: self._loop.call_soon_threadsafe(self._committed, group, commit)
            )

    def _committed(
        self,
        group: list[tuple[str, Response, asyncio.Future[None]]],
        commit: Future[None],
    ) -> None:
        self._start()
        error = commit.exception()
        for key, response, done in group:
            try:
                if error is not None:
                    raise error
                self._post(key, response)
            except Exception as failure:  # the disk's or a listener's: it ends the run
                if not done.done():
                    done.set_exception(failure)
            else:
                if not done.done():
                    done.set_result(None)

    def close(self) -> None:
        """Commit what is left when a run ends early; what is there already stays."""
        self._thread.shutdown()
        if self._cache is not None and self._pending:
            self._cache.put_many({key: response for key, response, _ in self._pending})
