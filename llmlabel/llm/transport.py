"""Post chat completions: the openai package says where and with which headers, aiohttp sends."""

from __future__ import annotations

import asyncio
import io
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import openai

__all__ = ["BrokenOffError", "Reply", "Transport", "catching_client"]

_CONNECT_S: Final = 10.0
_LARGE: Final = 1 << 20
_NOT_OURS: Final = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "accept-encoding"}
)


class BrokenOffError(Exception):
    """There was no whole response: no connection, a reset, a body that ended early."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """Connections to one server, in one event loop.

    The openai package stays the client: for each model it is asked once what it
    would send, and its request is caught by a hook on its own HTTP client. So
    address (Azure's deployments too), authentication (a token provider too),
    organisation and project headers are its own. The request itself goes through one
    aiohttp session, since the package turns parameters, options and headers over
    again for each call: 2,000 calls take 2.0 times as long as with bare aiohttp at
    64 in flight and 11 times at 512, by its own aiohttp transport 1.4 and 5.6 times,
    this way about 1.1 and 1.4 times with rendering, parsing and the cache
    (benchmarks/llm.py, 50 ms latency, 2 cores).

    Parameters
    ----------
    client
        The package's client; this closes it.
    catch
        The list into which a hook of `catching_client` puts requests.
    timeout
        Seconds for one attempt.
    """

    def __init__(self, client: openai.AsyncOpenAI, catch: list[Any], timeout: float) -> None:
        self._client = client
        self._catch = catch
        self._asking = asyncio.Lock()
        self._targets: dict[str, tuple[str, dict[str, str]]] = {}
        base = str(client.base_url)
        self._proxy = _proxy(base)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the number in flight is bounded elsewhere
                ttl_dns_cache=300,
                ssl=_tls() if base.startswith("https") else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECT_S)),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._client.close()

    async def post(self, model: str, body: bytes) -> Reply:
        """Send a request's JSON and return the whole response.

        Raises
        ------
        TimeoutError
            There was none in time.
        BrokenOffError
            There was none, or half of one.
        openai.OpenAIError
            The package cannot make a request of its configuration.
        """
        if model not in self._targets:
            async with self._asking:
                if model not in self._targets:
                    self._targets[model] = await self._ask_package(model)
        url, headers = self._targets[model]
        data = body if len(body) < _LARGE else io.BytesIO(body)
        try:
            async with self._session.post(
                url, data=data, headers=headers, proxy=self._proxy
            ) as response:
                return Reply(response.status, response.headers, await response.read())
        except aiohttp.ConnectionTimeoutError:
            raise BrokenOffError("no connection in time") from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenOffError(str(error) or type(error).__name__) from None

    async def _ask_package(self, model: str) -> tuple[str, dict[str, str]]:
        try:
            await self._client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": ""}]
            )
        except openai.OpenAIError:
            if not self._catch:
                raise
        request = self._catch.pop()
        self._catch.clear()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_OURS}
        headers["Content-Type"] = "application/json"
        return str(request.url), headers


def catching_client(
    base_url: str, api_key: str, azure_api_version: str | None
) -> tuple[openai.AsyncOpenAI, list[Any]]:
    """Return a client of the package that sends nothing, and where its requests end."""
    caught: list[Any] = []

    async def catch(request: Any) -> None:
        caught.append(request)
        raise openai.OpenAIError("caught before it was sent")

    # It never opens a connection: reading the certificates would take 20 ms.
    http = openai.DefaultAsyncHttpxClient(
        event_hooks={"request": [catch]}, trust_env=False, verify=False
    )
    if azure_api_version is not None:
        client: openai.AsyncOpenAI = openai.AsyncAzureOpenAI(
            azure_endpoint=base_url,
            api_version=azure_api_version,
            api_key=api_key,
            http_client=http,
            max_retries=0,
        )
    else:
        client = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, http_client=http, max_retries=0
        )
    return client, caught


def _proxy(url: str) -> str | None:
    # Once and not by aiohttp's trust_env, which reads the environment for each call.
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # a bare container
        import certifi

        context.load_verify_locations(certifi.where())
    return context
