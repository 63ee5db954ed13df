"""Ask a model that runs here, in this process: transformers without a server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

from llmlabel.errors import ClientError, ConfigError, MissingExtraError, UnknownNameError
from llmlabel.io import fingerprint_path
from llmlabel.llm.types import Request, Response

if TYPE_CHECKING:
    from llmlabel.llm.local_model import LocalModel

__all__ = ["LocalClient"]

Mode = Literal["generate", "score"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_GATHER_S: Final = 0.005
_BATCHES_AT_ONCE: Final = 4


class LocalClient:
    """A causal language model of transformers as a client.

    Calls that come within a few milliseconds of each other are answered
    together, batched by length. torch is imported and the model is loaded at the first call.

    Parameters
    ----------
    name_or_path
        A folder, or a model's name on the hub.
    mode
        ``"score"``: the values of each ``enum`` field are scored as
        continuations of the prompt, and the best is the answer; see `ScoredAnswer`.
        Nothing is generated, no answer is outside the schema, and the response
        carries the values' probabilities as logprobs.
        ``"generate"``: the answer is written, up to the end of its JSON object;
        greedily where ``temperature`` is 0 or not given.
    device
        ``"auto"``: a GPU where there is one. Else a torch device.
    dtype
        ``"auto"``: that of the weights.
    batch_size, batch_tokens
        The most sequences generated at once (scoring is bounded by tokens
        alone), and the most padded tokens.
    provider
        Who answers, as part of the cache's key; by default the model's
        name, or for a folder the fingerprint of its files, with dtype and mode.

    Raises
    ------
    MissingExtraError
        torch or transformers is not installed.
    ConfigError
        An argument is wrong; at the first call: the model cannot be loaded.

    Notes
    -----
    The parameters ``temperature``, ``top_p``, ``max_tokens`` (also as
    ``max_completion_tokens``; 256), ``seed``, ``logprobs`` and ``top_logprobs``
    are understood; another one is an error. Greedy answers and scores depend on the
    batch only by rounding. Sampled ones depend on seed, sample and batch.

    Examples
    --------
    >>> client = LocalClient("Qwen/Qwen3-0.6B", mode="score")  # doctest: +SKIP
    >>> complete_all(requests, client)  # doctest: +SKIP
    """

    def __init__(
        self,
        name_or_path: str | Path,
        *,
        mode: Mode = "generate",
        device: str = "auto",
        dtype: Dtype = "auto",
        batch_size: int = 32,
        batch_tokens: int = 16_384,
        provider: str | None = None,
    ) -> None:
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "local", need=f"the local model {name_or_path!s}")
        for what, value, known in (("mode", mode, Mode), ("dtype", dtype, Dtype)):
            if value not in get_args(known):
                raise UnknownNameError(what, value, get_args(known))
        if batch_size < 1 or batch_tokens < 1:
            raise ConfigError("batch_size and batch_tokens: expected at least 1")
        self.name = str(name_or_path)
        self.mode: Mode = mode
        self.device = device
        self.dtype: Dtype = dtype
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self._provider = provider
        self._one_at_a_time = threading.Lock()
        # Futures belong to the event loop that made them.
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue]
        self._queues = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"LocalClient({self.name!r}, mode={self.mode!r})"

    @cached_property
    def provider(self) -> str:
        """Who answers; reads a local model's files once."""
        if self._provider is not None:
            return self._provider
        folder = Path(self.name)
        who = fingerprint_path(folder) if folder.is_dir() else self.name
        return f"transformers {who} {self.dtype} {self.mode}"

    async def __aenter__(self) -> Self:
        self._queues.setdefault(asyncio.get_running_loop(), _Queue())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        queue = self._queues.pop(asyncio.get_running_loop(), None)
        if queue is not None and queue.worker is not None:
            queue.worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await queue.worker

    async def complete(self, request: Request) -> Response:
        """Answer with the next batch; see `Client.complete`.

        Raises
        ------
        ClientError
            The prompt is longer than the model takes. Fatal: a parameter or
            schema that it cannot follow.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.setdefault(loop, _Queue())
        future: asyncio.Future[Response] = loop.create_future()
        queue.waiting.append((request, future))
        if queue.worker is None or queue.worker.done():
            queue.worker = loop.create_task(self._work(queue))
        return await future

    async def _work(self, queue: _Queue) -> None:
        most = self.batch_size * _BATCHES_AT_ONCE
        while queue.waiting:
            await asyncio.sleep(_GATHER_S)
            taken, queue.waiting = queue.waiting[:most], queue.waiting[most:]
            results: list[Response | ClientError] | Exception
            try:
                results = await asyncio.to_thread(self._answer, [r for r, _ in taken])
            except Exception as error:  # whoever waits is told
                results = error
            for i, (_, future) in enumerate(taken):
                result = results if isinstance(results, Exception) else results[i]
                if future.done():  # nobody waits any more
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _answer(self, requests: list[Request]) -> list[Response | ClientError]:
        with self._one_at_a_time:
            return self._model.answer(requests)

    @cached_property
    def _model(self) -> LocalModel:
        from llmlabel.llm.local_model import LocalModel  # imports torch

        return LocalModel(
            self.name,
            score=self.mode == "score",
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
        )


@dataclass
class _Queue:
    """The calls of one event loop that wait for the next batch."""

    waiting: list[tuple[Request, asyncio.Future[Response]]] = field(default_factory=list)
    worker: asyncio.Task[None] | None = None
