"""Ask an OpenAI-compatible server: OpenAI itself, vLLM, Ollama, a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
import weakref
from typing import Any, Final, Self
from urllib.parse import urlsplit

import openai

from llmlabel.errors import ClientError
from llmlabel.llm.types import Request, Response, response_from_body

__all__ = ["OpenAIClient"]

_DEFAULT_URL: Final = "https://api.openai.com/v1"
_FATAL: Final = frozenset({401, 403, 404})
_ABOUT_FORMAT: Final = re.compile(r"response_format|json_schema|structured output", re.IGNORECASE)
_MAX_WORDS: Final = 300
_NO_KEY: Final = "none"  # local servers want no key; the package wants some text


class OpenAIClient:
    """A client of any server that speaks OpenAI's chat completions.

    The key is read from the environment at the first call. It is kept in no
    attribute of this object and is cut out of every error.

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
        Further attempts after 408, 409, 429 (after what Retry-After says), 5xx,
        a broken connection, a timeout or a body that cannot be read.
    provider
        Who answers, as part of the cache's key; by default host, port and path
        of `base_url`. Give one to keep the cache when a server moves.

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
        provider: str | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.max_retries = max_retries
        where = provider or _place(self.base_url)
        # A model that overrides the request's changes the answer as well.
        self.provider = f"{where} {model}" if model else where
        # Connections belong to the event loop that opened them.
        self._open: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI]
        self._open = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"OpenAIClient(model={self.model!r}, base_url={_place(self.base_url)!r})"

    async def __aenter__(self) -> Self:
        self._connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection = self._open.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.close()

    async def complete(self, request: Request) -> Response:
        """Ask the server; see `Client.complete`.

        Raises
        ------
        ClientError
            In the server's own words. Fatal for 401, 403, 404, a used-up quota
            and a server that does not know structured answers.
        """
        started = time.perf_counter()
        attempt = 0
        while True:
            content = await self._post(request)
            try:
                body = _decoded(content)
                return response_from_body(body, latency_s=time.perf_counter() - started)
            except ClientError as error:
                if not error.retryable or attempt >= self.max_retries:
                    raise
            # The package retries what fails on the way, but not a 200 that is broken.
            await asyncio.sleep(0.1 * 2**attempt)
            attempt += 1

    async def _post(self, request: Request) -> bytes:
        connection = self._connect()
        model = self.model or request.model
        if not model:
            raise ClientError("no model: neither the client nor the prompt names one", fatal=True)
        # Everything else goes as it is, so that a server's own parameters pass too.
        extra: dict[str, Any] = dict(request.params)
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        messages: Any = request.messages
        create = connection.chat.completions.with_raw_response.create
        try:
            answer = await create(model=model, messages=messages, extra_body=extra)
        except openai.OpenAIError as error:
            # `from None`: what it holds, headers with the key, must not be printed.
            raise self._explained(error, model) from None
        except UnicodeEncodeError as error:
            raise ClientError(f"the text is not valid Unicode: {error.reason}") from None
        return answer.content

    def _connect(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            key = os.environ.get(self.api_key_env)
            if not key and self.base_url == _DEFAULT_URL:
                raise ClientError(
                    f"no API key: the environment variable {self.api_key_env} is not set",
                    fatal=True,
                    hint=f"export {self.api_key_env}=...",
                )
            self._open[loop] = openai.AsyncOpenAI(
                api_key=key or _NO_KEY,
                base_url=self.base_url,
                timeout=openai.Timeout(self.timeout, connect=min(self.timeout, 10)),
                max_retries=self.max_retries,
            )
        return self._open[loop]

    def _explained(self, error: openai.OpenAIError, model: str) -> ClientError:
        place = _place(self.base_url)
        if isinstance(error, openai.APITimeoutError):
            return ClientError(f"{place}: no answer within {self.timeout:g} s", retryable=True)
        if isinstance(error, openai.APIConnectionError):
            cause = str(error.__cause__ or error)
            return ClientError(self._clean(f"{place}: no connection: {cause}"), retryable=True)
        if not isinstance(error, openai.APIStatusError):
            return ClientError(self._clean(f"{place}: {error}"))
        status, words = error.status_code, _words(error)
        hint = None
        fatal = status in _FATAL or error.code == "insufficient_quota"
        if status in {401, 403}:
            hint = f"check the key in the environment variable {self.api_key_env}"
        elif status == 404:
            hint = f"check the model {model!r} and the base_url"
        elif status in {400, 422} and _ABOUT_FORMAT.search(f"{error.param} {words}"):
            words = f"the server cannot give structured answers (response_format): {words}"
            fatal = True
        elif error.code in {"unsupported_parameter", "unsupported_value"}:
            hint = f"the model takes no such {error.param}: take it out of the prompt's hints"
            fatal = True
        return ClientError(
            self._clean(f"{place}: {status}: {words}"),
            status=status,
            retryable=not fatal and (status in {408, 409, 429} or status >= 500),
            fatal=fatal,
            hint=hint,
        )

    def _clean(self, message: str) -> str:
        key = os.environ.get(self.api_key_env)
        return message.replace(key, "***") if key else message


def _place(url: str) -> str:
    """Host, port and path of a URL, without a user and password that may stand in it."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/').removesuffix('/v1')}"


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        shown = content[:80].decode("utf-8", "replace")
        raise ClientError(f"the body is not JSON: {shown!r}", status=200, retryable=True) from None


def _words(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    words = " ".join(str(body or error.message).split())
    return words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}..."
