"""Ask many requests at once: each question paid once, each answer kept before it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from llmlabel.errors import ClientError, ConfigError
from llmlabel.llm.cache import Cache
from llmlabel.llm.types import Client, Failure, Request, Response

__all__ = ["OnResult", "RequestPlan", "complete_all", "plan_requests"]

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
) -> list[Response | Failure]:
    """Ask all requests and return their results in the same order.

    Requests with the same question are one call. An answer is in the cache
    before anyone sees it. A row that fails is a `Failure` and stops nothing.

    Parameters
    ----------
    requests
        What to ask.
    client
        Whom to ask.
    cache
        Where answers are looked for and kept.
    max_in_flight
        Calls at the same time; one whose answer is not yet committed counts.
    on_result
        Told of each result as it comes.

    Raises
    ------
    ClientError
        A fatal one (a bad key, an unknown model): the run ends at once, and
        every answer that had come is in the cache.

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
    if max_in_flight < 1:
        raise ConfigError(f"max_in_flight: expected at least 1, got {max_in_flight}")
    asked = list(requests)
    by_row = getattr(client, "answers_by_row", False)
    board = _Board(asked, client.provider, by_row=by_row, on_result=on_result)
    keeper = _Keeper(None if by_row else cache, board)
    _run(lambda: _complete(client, board, keeper, max_in_flight))
    return board.results()


class _Board:
    """Which rows wait for which question, and what has come for them."""

    def __init__(
        self,
        requests: Sequence[Request],
        provider: str,
        *,
        by_row: bool,
        on_result: OnResult | None,
    ) -> None:
        self._requests = requests
        self._results: list[Response | Failure | None] = [None] * len(requests)
        self._on_result = on_result
        self._waiting: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            key = str(i) if by_row else request.key(provider)
            self._waiting.setdefault(key, []).append(i)

    @property
    def keys(self) -> list[str]:
        return list(self._waiting)

    def request(self, key: str) -> Request:
        return self._requests[self._waiting[key][0]]

    def post(self, key: str, result: Response | Failure) -> None:
        """Hand a result on to every row that waits for it; only the first paid for it."""
        for nth, i in enumerate(self._waiting[key]):
            own = result
            if isinstance(own, Failure):
                own = replace(own, custom_id=self._requests[i].custom_id)
            elif nth:
                own = replace(own, cached=True)
            self._results[i] = own
            if self._on_result is not None:
                self._on_result(self._requests[i], own)

    def results(self) -> list[Response | Failure]:
        done = [r for r in self._results if r is not None]
        assert len(done) == len(self._requests)
        return done


class _Keeper:
    """Commits answers in groups: while one group is written, the next gathers."""

    def __init__(self, cache: Cache | None, board: _Board) -> None:
        self._cache = cache
        self._board = board
        self._pending: dict[str, Response] = {}
        self._lock = asyncio.Lock()

    async def find(self) -> set[str]:
        """Post what the cache knows; return its keys."""
        if self._cache is None:
            return set()
        known = await asyncio.to_thread(self._cache.get_many, self._board.keys)
        for key, response in known.items():
            self._board.post(key, response)
        return set(known)

    async def keep(self, key: str, result: Response | Failure) -> None:
        """Return when the result is committed and posted."""
        if self._cache is None or isinstance(result, Failure):
            self._board.post(key, result)
            return
        self._pending[key] = result
        async with self._lock:
            group, self._pending = self._pending, {}
            if not group:  # another's commit has taken ours along
                return
            try:
                await asyncio.to_thread(self._commit, group)
            except BaseException:  # cancelled perhaps before the thread had begun
                self._pending = {**group, **self._pending}
                raise
            for committed, response in group.items():
                self._board.post(committed, response)

    def flush(self) -> None:
        """Commit what is left when a run ends early; what is there already stays."""
        self._commit(self._pending)

    def _commit(self, group: Mapping[str, Response]) -> None:
        if self._cache is not None:
            self._cache.put_many(group)


async def _complete(client: Client, board: _Board, keeper: _Keeper, max_in_flight: int) -> None:
    known = await keeper.find()
    to_ask = [key for key in board.keys if key not in known]
    if not to_ask:
        return
    shared = iter(to_ask)  # each worker takes the next, so a slow one holds up none
    first: BaseException | None = None
    try:
        async with client, asyncio.TaskGroup() as group:
            for _ in range(min(max_in_flight, len(to_ask))):
                group.create_task(_work(shared, client, board, keeper))
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    finally:
        keeper.flush()
    if first is not None:  # raised here, so that its own cause and context stay
        raise first


async def _work(keys: Iterator[str], client: Client, board: _Board, keeper: _Keeper) -> None:
    for key in keys:
        await keeper.keep(key, await _ask(board.request(key), client))


async def _ask(request: Request, client: Client) -> Response | Failure:
    try:
        return await client.complete(request)
    except ClientError as error:
        if error.fatal:
            raise
        return Failure(request.custom_id, error.message, error.status, error.retryable)
    except Exception as error:  # a bug, ours or a plug-in's: shown whole, with the row
        error.add_note(f"while asking about row {request.custom_id!r}")
        raise


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
