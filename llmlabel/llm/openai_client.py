"""Ask an OpenAI-compatible server: OpenAI itself, Azure, vLLM, Ollama, a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import orjson

from llmlabel.errors import ClientError
from llmlabel.llm.limits import Limiter
from llmlabel.llm.retry import backoff, is_retryable, retry_after
from llmlabel.llm.slots import pause
from llmlabel.llm.structured import Mode, format_mode, lower_mode, refuses_format, with_schema
from llmlabel.llm.types import Request, Response, response_from_body

if TYPE_CHECKING:
    from llmlabel.llm.transport import Reply, Transport

__all__ = ["OpenAIClient"]

_DEFAULT_URL: Final = "https://api.openai.com/v1"
_FATAL: Final = frozenset({401, 403, 404})
_MAX_WORDS: Final = 300
_NO_KEY: Final = "none"  # local servers want no key; the package wants some text
_DEAD_AFTER: Final = 20
"""So many failed attempts in a row, at least, before a server counts as dead."""
_BYTES_PER_TOKEN: Final = 4


class _RefusedFormatError(Exception):
    """The server does not take the response_format."""


@dataclass
class _Connection:
    """What belongs to one event loop."""

    limiter: Limiter = field(default_factory=Limiter)
    transport: Transport | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """How things stood when a row was first sent."""

    successes: int
    started: float


class OpenAIClient:
    """A client of any server that speaks OpenAI's chat completions.

    The key is read from the environment at the first call. It is kept in no
    attribute of this object and is cut out of every error.

    Retried are 408, 409, 429, 5xx, connections that fail or break off, timeouts
    and bodies that cannot be read: after what Retry-After says, else with
    exponential back-off. A 429 while other rows get answers is a queue and not
    a failure, and uses up no retry. Where a row has used up its retries, none
    has got an answer in all that time and 20 attempts in a row have failed, the
    server counts as dead and the run ends. How fast is asked is found out by
    `Limiter`. How the answer's schema is asked for: see `structured`.

    Parameters
    ----------
    model
        Asked instead of the model that a request names, where given.
    base_url
        By default ``OPENAI_BASE_URL`` from the environment, else OpenAI's.
    api_key_env
        The environment variable with the key. It may be unset for a `base_url`
        that wants none.
    timeout
        Seconds for one attempt.
    max_retries
        Further attempts per row.
    total_timeout
        Seconds for one row, all its attempts and waits together. None begins later.
    provider
        Who answers, as part of the cache's key; by default host, port and path
        of `base_url`. Give one to keep the cache when a server moves.
    azure_api_version
        Where given, `base_url` is an Azure OpenAI endpoint and the models are
        its deployments.

    Examples
    --------
    >>> OpenAIClient("qwen3", base_url="http://localhost:8000/v1").provider
    'localhost:8000 qwen3'
    """

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        *,
        timeout: float = 120.0,
        max_retries: int = 4,
        total_timeout: float = 600.0,
        provider: str | None = None,
        azure_api_version: str | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.max_retries = max_retries
        self.total_timeout = total_timeout
        self.azure_api_version = azure_api_version
        self._place = _place(self.base_url)
        where = provider or self._place
        # A model that overrides the request's changes the answer as well.
        self.provider = f"{where} {model}" if model else where
        # Connections belong to the event loop that opened them.
        self._open: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection]
        self._open = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"OpenAIClient(model={self.model!r}, base_url={self._place!r})"

    async def __aenter__(self) -> Self:
        self._connection()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection = self._open.pop(asyncio.get_running_loop(), None)
        if connection is not None and connection.transport is not None:
            await connection.transport.close()

    async def complete(self, request: Request) -> Response:
        """Ask the server; see `Client.complete`.

        Raises
        ------
        ClientError
            In the server's own words. Fatal for 401, 403, 404, a used-up quota
            and a dead server.
        """
        model = self.model or request.model
        if not model:
            raise ClientError("no model: neither the client nor the prompt names one", fatal=True)
        endpoint = f"{self._place} {model}"
        mode = "text" if request.schema is None else format_mode(endpoint)
        while True:
            try:
                return await self._answer(_body(request, model, mode), model, mode)
            except _RefusedFormatError:
                mode = lower_mode(endpoint, mode)

    async def _answer(self, body: bytes, model: str, mode: Mode) -> Response:
        limiter = self._connection().limiter
        attempt = failed = 0
        row: _Row | None = None
        while True:
            ticket = await limiter.acquire(len(body) // _BYTES_PER_TOKEN)
            row = row or _Row(limiter.successes, time.perf_counter())
            successes = limiter.successes
            try:
                response = await self._attempt(ticket, body, model, mode, row)
            except ClientError as error:
                if not error.retryable:
                    limiter.succeeded()  # the server lives: it read the question and said no
                    raise
                limiter.failures += 1
                queued = error.status == 429 and limiter.successes > successes
                failed += not queued
                wait = getattr(error, "retry_after", None)
                wait = backoff(attempt) if wait is None else wait + backoff(0) / 5
                attempt += 1
                ends = time.perf_counter() + wait - row.started > self.total_timeout
                if failed > self.max_retries or self.max_retries == 0 or ends:
                    raise self._given_up(error, limiter, row) from None
                await pause(wait)
            else:
                limiter.succeeded()
                return response

    async def _attempt(
        self, ticket: int, body: bytes, model: str, mode: Mode, row: _Row
    ) -> Response:
        limiter = self._connection().limiter
        reply: Reply | None = None
        try:
            reply = await self._post(model, body)
        except TimeoutError:
            limiter.timed_out(ticket)
            words = f"{self._place}: no answer within {self.timeout:g} s"
            raise ClientError(words, retryable=True) from None
        finally:
            status, headers = (None, {}) if reply is None else (reply.status, reply.headers)
            limiter.release(ticket, status, headers)
        if reply.status != 200:
            raise self._refusal(reply, model, mode)
        latency_s = time.perf_counter() - row.started
        return response_from_body(_decoded(reply.content), latency_s=latency_s)

    async def _post(self, model: str, body: bytes) -> Reply:
        from llmlabel.llm.transport import BrokenOffError

        try:
            return await self._transport().post(model, body)
        except BrokenOffError as error:
            words = self._clean(f"{self._place}: no connection: {error}")
            raise ClientError(words, retryable=True) from None

    def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            self._open[loop] = _Connection()
        return self._open[loop]

    def _transport(self) -> Transport:
        connection = self._connection()
        if connection.transport is None:
            # Here, and not above: a run that the cache answers does not wait 0.6 s for it.
            from llmlabel.llm.transport import Transport, catching_client

            key = os.environ.get(self.api_key_env)
            if not key and self.base_url == _DEFAULT_URL:
                raise ClientError(
                    f"no API key: the environment variable {self.api_key_env} is not set",
                    fatal=True,
                    hint=f"export {self.api_key_env}=...",
                )
            client = catching_client(self.base_url, key or _NO_KEY, self.azure_api_version)
            connection.transport = Transport(*client, self.timeout)
        return connection.transport

    def _given_up(self, error: ClientError, limiter: Limiter, row: _Row) -> ClientError:
        if limiter.successes > row.successes or limiter.failures < _DEAD_AFTER:
            return error
        return ClientError(
            f"{self._place} answers nothing: {limiter.failures} attempts in a row failed, "
            f"the last with: {error.message}",
            status=error.status,
            retryable=True,
            fatal=True,
            hint="run again when the server is back: what is answered is kept",
        )

    def _refusal(self, reply: Reply, model: str, mode: Mode) -> Exception:
        status = reply.status
        words, code, param = _words(reply.content)
        about_format = refuses_format(status, param, words)
        if about_format and mode != "text":
            return _RefusedFormatError()
        hint = None
        fatal = status in _FATAL or code == "insufficient_quota" or about_format
        if about_format:
            words = f"the server cannot give structured answers (response_format): {words}"
        if status in {401, 403}:
            hint = f"check the key in the environment variable {self.api_key_env}"
        elif status == 404:
            hint = f"check the model {model!r} and the base_url"
        elif code in {"unsupported_parameter", "unsupported_value"}:
            hint = f"the model takes no such {param}: take it out of the prompt's hints"
            fatal = True
        error = _WaitError(
            self._clean(f"{self._place}: {status}: {words}"),
            status=status,
            retryable=not fatal and is_retryable(status),
            fatal=fatal,
            hint=hint,
        )
        error.retry_after = retry_after(reply.headers)
        return error

    def _clean(self, message: str) -> str:
        key = os.environ.get(self.api_key_env)
        return message.replace(key, "***") if key else message


class _WaitError(ClientError):
    """A refusal that may say when to come back."""

    retry_after: float | None = None


def _place(url: str) -> str:
    """Host, port and path of a URL, without a user and password that may stand in it."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/').removesuffix('/v1')}"


def _body(request: Request, model: str, mode: Mode) -> bytes:
    # Everything else goes as it is, so that a server's own parameters pass too.
    body = {"model": model, **with_schema(request, mode), **request.params}
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # a number of more than 64 bits, half of a surrogate pair
        pass
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ClientError(f"the text is not valid Unicode: {error.reason}") from None


def _decoded(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:  # half of a surrogate pair, which models do write
        pass
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        shown = content[:80].decode("utf-8", "replace")
        raise ClientError(f"the body is not JSON: {shown!r}", status=200, retryable=True) from None


def _words(content: bytes) -> tuple[str, str | None, str | None]:
    """What a server says of an error, its code and the parameter it is about."""
    text = content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = text
    error = body.get("error", body) if isinstance(body, Mapping) else body
    code = param = None
    if isinstance(error, Mapping):
        code, param = error.get("code"), error.get("param")
        error = error.get("message") or error.get("detail") or dict(error)
    words = " ".join(str(error).split())
    shown = words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}..."
    return shown or "no words", code, param
