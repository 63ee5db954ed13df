"""Ask many requests at once: each question paid once, each answer kept before it is used."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from llmlabel.errors import ConfigError
from llmlabel.llm.cache import Cache
from llmlabel.llm.engine import Engine, Result
from llmlabel.llm.types import Client, Failure, Request, Response

__all__ = ["OnResult", "RequestPlan", "complete_all", "plan_requests", "stream_all"]

_DRAIN_S: Final = 10.0
_ACKNOWLEDGE: Final = 64

OnResult = Callable[[Request, "Response | Failure"], None]
"""Called once per request as its result comes, in no order, never at the same time twice."""

T = TypeVar("T")


@dataclass(frozen=True)
class RequestPlan:
    """What `complete_all` would do.

    Parameters
    ----------
    total
        Requests.
    distinct
        Different questions among them.
    cached
        Of those, how many the cache answers.
    to_ask
        Calls that are left.
    """

    total: int
    distinct: int
    cached: int
    to_ask: int


def plan_requests(
    requests: Iterable[Request], provider: str, cache: Cache | None = None
) -> RequestPlan:
    """Count the calls that `complete_all` would make, without making any.

    Parameters
    ----------
    requests
        What would be asked.
    provider
        `Client.provider` of who would be asked.
    cache
        Where answers may lie.

    Examples
    --------
    >>> ask = [{"role": "user", "content": "spam?"}]
    >>> plan_requests([Request("a", "m", ask), Request("b", "m", ask)], "api.openai.com")
    RequestPlan(total=2, distinct=1, cached=0, to_ask=1)
    """
    keys = [request.key(provider) for request in requests]
    distinct = set(keys)
    cached = len(cache.known(distinct)) if cache is not None else 0
    return RequestPlan(len(keys), len(distinct), cached, len(distinct) - cached)


def complete_all(
    requests: Iterable[Request],
    client: Client,
    *,
    cache: Cache | None = None,
    max_in_flight: int = 64,
    on_result: OnResult | None = None,
    drain_s: float = _DRAIN_S,
) -> list[Response | Failure]:
    """Ask all requests and return their results in the same order.

    Requests with the same question are one call. An answer is in the cache
    before anyone sees it. A row that fails is a `Failure` and stops nothing.
    An answer outside its schema is asked once more, with what is wrong with it.

    Parameters
    ----------
    requests
        What to ask. A generator is read while the first answers are under way, so
        that rendering prompts costs no time.
    client
        Whom to ask.
    cache
        Where answers are looked for and kept.
    max_in_flight
        Calls at the same time; one whose answer is not yet committed counts. So
        after ``kill -9`` a rerun repeats at most this many.
    on_result
        Told of each result as it comes.
    drain_s
        Where an error ends the run: seconds that calls in flight are waited
        for, since they are paid. Their answers are kept.

    Raises
    ------
    ClientError
        A fatal one (a bad key, an unknown model, a dead server): no further
        call begins, and every answer that came is in the cache.

    Notes
    -----
    May be called where an event loop is running, as in a notebook.

    Examples
    --------
    >>> class Echo:
    ...     provider = "echo"
    ...     async def complete(self, request):
    ...         return Response(request.messages[-1]["content"].upper(), "echo")
    ...     async def __aenter__(self):
    ...         return self
    ...     async def __aexit__(self, *exc_info):
    ...         pass
    >>> ask = Request("row-1", "m", [{"role": "user", "content": "hi"}])
    >>> complete_all([ask], Echo())[0].text
    'HI'
    """
    results: dict[int, Result] = {}

    def deliver(index: int, request: Request, result: Result) -> None:
        results[index] = result
        if on_result is not None:
            on_result(request, result)

    _check(max_in_flight)
    engine = Engine(requests, client, cache, deliver, max_in_flight=max_in_flight, drain_s=drain_s)
    _run(engine.run)
    return [results[place] for place in range(len(results))]


def stream_all(
    requests: Iterable[Request],
    client: Client,
    *,
    cache: Cache | None = None,
    max_in_flight: int = 64,
    ordered: bool = True,
    look_ahead: int = 4096,
    drain_s: float = _DRAIN_S,
) -> Iterator[tuple[Request, Response | Failure]]:
    """Yield each request with its result, without ever holding all of them.

    As `complete_all`, for any number of rows: at most `look_ahead` requests are
    read beyond the last result that was taken. Without a cache, requests with
    the same question are one call only within that distance.

    Parameters
    ----------
    requests
        What to ask; may be a generator. It is read in another thread.
    client, cache, max_in_flight, drain_s
        As of `complete_all`. The calls in flight are waited for also where the
        iterator is closed early.
    ordered
        Whether results come in the order of the requests, else as they come.
    look_ahead
        The most requests between reading one and its result being taken. With
        `ordered`, a slow row holds up the reading of new ones only beyond that.

    Raises
    ------
    ClientError
        As `complete_all` does, after all results that came before it.

    Examples
    --------
    >>> class Echo:
    ...     provider = "echo"
    ...     async def complete(self, request):
    ...         return Response(request.messages[-1]["content"].upper(), "echo")
    ...     async def __aenter__(self):
    ...         return self
    ...     async def __aexit__(self, *exc_info):
    ...         pass
    >>> asked = (Request(c, "m", [{"role": "user", "content": c}]) for c in "abc")
    >>> [result.text for _, result in stream_all(asked, Echo())]
    ['A', 'B', 'C']
    """
    _check(max_in_flight)
    if look_ahead < 1:
        raise ConfigError(f"look_ahead: expected at least 1, got {look_ahead}")
    return _Stream(
        lambda deliver: Engine(
            requests,
            client,
            cache,
            deliver,
            max_in_flight=max_in_flight,
            drain_s=drain_s,
            look_ahead=look_ahead,
        ),
        ordered=ordered,
    ).results()


_Item = tuple[int, Request, Result]


class _Stream:
    """An engine in a thread of its own, and the way of its results out of it."""

    def __init__(
        self, make: Callable[[Callable[[int, Request, Result], None]], Engine], *, ordered: bool
    ) -> None:
        self._out: queue.SimpleQueue[_Item | BaseException | None] = queue.SimpleQueue()
        self._engine = make(lambda *item: self._out.put(item))
        self._ordered = ordered
        self._taken = 0
        self._thread = threading.Thread(target=self._work, name="llmlabel-stream", daemon=True)

    def _work(self) -> None:
        try:
            asyncio.run(self._engine.run())
        except BaseException as error:  # raised where the results are taken
            self._out.put(error)
        else:
            self._out.put(None)

    def results(self) -> Iterator[tuple[Request, Result]]:
        self._thread.start()
        early: dict[int, _Item] = {}
        at = 0
        try:
            while (item := self._next()) is not None:
                if not self._ordered:
                    yield self._take(item)
                    continue
                early[item[0]] = item
                while at in early:
                    yield self._take(early.pop(at))
                    at += 1
        finally:
            self._engine.close()
            self._thread.join()

    def _next(self) -> _Item | None:
        if self._out.empty():
            self._acknowledge()
        item = self._out.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _take(self, item: _Item) -> tuple[Request, Result]:
        self._taken += 1
        if self._taken >= _ACKNOWLEDGE:
            self._acknowledge()
        return item[1], item[2]

    def _acknowledge(self) -> None:
        if self._taken:
            self._engine.acknowledge(self._taken)
            self._taken = 0


def _check(max_in_flight: int) -> None:
    if max_in_flight < 1:
        raise ConfigError(f"max_in_flight: expected at least 1, got {max_in_flight}")


def _run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a thread of its own where a loop already runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    task: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def known() -> T:
        current = asyncio.current_task()
        assert current is not None
        task.append((asyncio.get_running_loop(), current))
        return await main()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(known()))
        try:
            return future.result()
        except KeyboardInterrupt:
            for loop, running in task:  # leaving the pool then waits for the last commit
                loop.call_soon_threadsafe(running.cancel)
            raise
