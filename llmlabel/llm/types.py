"""What passes between a prompt, a client and the cache: requests, responses, failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypedDict

from llmlabel.errors import ClientError, ConfigError
from llmlabel.io import fingerprint

__all__ = ["Client", "Failure", "Message", "Request", "Response", "Usage", "response_from_body"]

_KEPT_OF_BODY = ("id", "system_fingerprint", "service_tier")


class Message(TypedDict):
    """One message of a chat: who speaks (``system``, ``user``, ``assistant``), and what."""

    role: str
    content: str


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Parameters
    ----------
    custom_id
        The row's id. It names the answer and does not change it.
    model
        The model to ask. Empty: the client's own.
    messages
        The rendered chat.
    params
        Sampling parameters as they are sent (``temperature``, ``max_tokens``,
        ``logprobs``, ...). None means not sent, and ``1.0`` is ``1``.
    schema
        JSON Schema that the answer has to follow; None: free text.
    prompt, prompt_fingerprint
        Provenance: the prompt's name and `Prompt.fingerprint`.
    sample
        Which of several answers to the same question this is.

    Raises
    ------
    ConfigError
        A parameter that is not plain JSON.

    Examples
    --------
    >>> ask = [{"role": "user", "content": "spam?"}]
    >>> a = Request("row-1", "m", ask, {"temperature": 0})
    >>> b = Request("row-2", "m", ask, {"temperature": 0.0, "top_p": None})
    >>> a.key("api.openai.com") == b.key("api.openai.com")
    True
    """

    custom_id: str
    model: str
    messages: Sequence[Message]
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    prompt: str = ""
    prompt_fingerprint: str = ""
    sample: int = 0

    def __post_init__(self) -> None:
        # What is keyed is what is sent, so both see the same spelling of it.
        params = {k: _plain(k, v) for k, v in self.params.items() if v is not None}
        object.__setattr__(self, "messages", tuple(self.messages))
        object.__setattr__(self, "params", params)

    def key(self, provider: str) -> str:
        """Return the sha256 (hex) of all that changes the answer, and of nothing else.

        Parameters
        ----------
        provider
            Who answers: `Client.provider`.
        """
        return fingerprint(
            provider, self.model, self.messages, self.params, self.schema, self.sample
        )


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(k): _plain(name, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, v) for v in value]
    raise ConfigError(f"parameter {name!r}: expected plain JSON, got {value!r}")


@dataclass(frozen=True)
class Usage:
    """Tokens of one call."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Response:
    """One answer of a model.

    Parameters
    ----------
    text
        What it wrote.
    model
        The model that the server says it was; may be more exact than the one asked for.
    finish_reason
        ``stop``, ``length`` (cut off), ...
    usage
        Tokens, where the server counts them.
    logprobs
        One mapping per token in OpenAI's form (``token``, ``logprob``,
        ``top_logprobs``), where asked for and given.
    latency_s
        Seconds from asking to the whole answer, retries included.
    created
        When it was made, in seconds since 1970; 0 where nobody says.
    cached
        Whether it cost no call in this run: it came from the cache, or from the
        call of a row with the same question.
    body
        What else is kept of the server's answer: its id, its system fingerprint.
    """

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None
    latency_s: float = 0.0
    created: int = 0
    cached: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, without `cached`, which is a fact about a run."""
        plain = {k: v for k, v in vars(self).items() if k != "cached"}
        return {**plain, "usage": None if self.usage is None else vars(self.usage)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, cached: bool = False) -> Response:
        """Make a response of what `as_dict` returned."""
        usage = None if data.get("usage") is None else Usage(**data["usage"])
        logprobs = None if data.get("logprobs") is None else tuple(data["logprobs"])
        return cls(**{**data, "usage": usage, "logprobs": logprobs}, cached=cached)


@dataclass(frozen=True)
class Failure:
    """A row that got no answer, and why.

    Parameters
    ----------
    custom_id
        The row's id.
    reason
        The server's own words where there are some.
    status
        HTTP status, where there was one.
    retryable
        Whether asking again later may help.
    """

    custom_id: str
    reason: str
    status: int | None = None
    retryable: bool = False


class Client(Protocol):
    """Whatever answers requests: a server, a local model, a recording.

    ``provider`` names who answers and is part of the cache's key: two clients
    with the same provider must give the same answers. A client is entered
    before its first call and left after the last, in the event loop of one
    `complete_all`; it must bear being entered again later, in another loop.

    A client whose answers belong to rows and not to questions (a recording)
    has a true attribute ``answers_by_row``: rows with the same text are then
    asked one by one and nothing is cached.
    """

    @property
    def provider(self) -> str:
        """Who answers."""

    async def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises
        ------
        ClientError
            There is no answer; ``fatal`` where no other row can have one either.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


def response_from_body(body: Any, *, latency_s: float = 0.0) -> Response:
    """Read the answer out of a ``chat.completion`` body.

    Raises
    ------
    ClientError
        The body holds no answer (retryable: a broken server may mend), or the
        model or a content filter refused (not retryable).

    Examples
    --------
    >>> message = {"role": "assistant", "content": "yes"}
    >>> body = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    >>> response_from_body(body).text
    'yes'
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text, reason = message.get("content"), choice.get("finish_reason") or "stop"
        refusal = message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ClientError(
            f"expected a chat completion with a choice, got {_short(body)}", retryable=True
        ) from None
    if refusal or reason == "content_filter":
        raise ClientError(f"refused: {refusal or 'stopped by the content filter'}")
    if not isinstance(text, str):
        raise ClientError(f"the message has no text: {_short(message)}", retryable=True)
    return Response(
        text=text,
        model=str(body.get("model") or ""),
        finish_reason=str(reason),
        usage=_usage(body.get("usage")),
        logprobs=_logprobs(choice.get("logprobs")),
        latency_s=latency_s,
        created=body["created"] if isinstance(body.get("created"), int) else 0,
        body={k: body[k] for k in _KEPT_OF_BODY if body.get(k) is not None},
    )


def _usage(usage: Any) -> Usage | None:
    try:
        return Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _logprobs(logprobs: Any) -> tuple[Mapping[str, Any], ...] | None:
    try:
        return tuple(
            {
                "token": t["token"],
                "logprob": t["logprob"],
                "top_logprobs": [
                    {"token": o["token"], "logprob": o["logprob"]}
                    for o in t.get("top_logprobs") or ()
                ],
            }
            for t in logprobs["content"]
        )
    except (KeyError, TypeError):
        return None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
