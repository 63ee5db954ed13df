"""The files of a batch: requests as JSON lines, and the results that come back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llmlabel.errors import ClientError, DataError
from llmlabel.llm.types import Failure, Request, Response, response_from_body

__all__ = ["Results", "read_keys", "read_results", "request_line", "split_lines"]

_URL: Final = "/v1/chat/completions"
_MAX_WORDS: Final = 300


def request_line(key: str, request: Request, model: str) -> bytes:
    r"""Return a request as one line of a batch's file.

    Parameters
    ----------
    key
        `Request.key`: the line's ``custom_id``, by which the result finds its row.
    request
        The request.
    model
        Whom it goes to.

    Examples
    --------
    >>> ask = Request("row-1", "m", [{"role": "user", "content": "spam?"}], {"temperature": 0})
    >>> json.loads(request_line("k", ask, "m"))["body"]["temperature"]
    0
    """
    body: dict[str, Any] = {"model": model, "messages": request.messages, **request.params}
    if request.schema is not None:
        schema = {"name": "answer", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    line = {"custom_id": key, "method": "POST", "url": _URL, "body": body}
    # ASCII: a text may hold half of a surrogate pair.
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def split_lines(
    lines: Iterable[tuple[str, bytes]], *, max_requests: int, max_bytes: int
) -> Iterator[list[bytes]]:
    """Cut lines into files: each of one model, within the server's limits.

    Parameters
    ----------
    lines
        Model and line.
    max_requests, max_bytes
        The most of one file.

    Examples
    --------
    >>> list(split_lines([("m", b"a"), ("m", b"b"), ("o", b"c")], max_requests=2, max_bytes=9))
    [[b'a', b'b'], [b'c']]
    """
    open_files: dict[str, tuple[list[bytes], int]] = {}
    for model, line in lines:
        file, size = open_files.get(model, ([], 0))
        if file and (len(file) == max_requests or size + len(line) > max_bytes):
            yield file
            file, size = [], 0
        file.append(line)
        open_files[model] = (file, size + len(line))
    yield from (file for file, _ in open_files.values())


def read_keys(path: Path) -> list[str]:
    """Return the ``custom_id`` of each line of a file of requests.

    Raises
    ------
    DataError
        There is no such file, or it holds something else.
    """
    try:
        with path.open("rb") as handle:
            return [json.loads(line)["custom_id"] for line in handle]
    except FileNotFoundError:
        raise DataError("the requests of a batch under way are missing", file=path) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"expected a batch's requests: {error}", file=path) from error


@dataclass
class Results:
    """What a batch's files hold, by key.

    Parameters
    ----------
    answers
        Answers.
    failures
        Rows that failed; `Failure.custom_id` is the key.
    unreadable
        Lines that are no result.
    """

    answers: dict[str, Response] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    unreadable: int = 0


def read_results(paths: Iterable[Path]) -> Results:
    """Read a batch's output and error files."""
    out = Results()
    for path in paths:
        with path.open("rb") as handle:
            for line in handle:
                _take(line, out)
    return out


def _take(line: bytes, out: Results) -> None:
    try:
        data = json.loads(line)
        key, answer, error = str(data["custom_id"]), data.get("response"), data.get("error")
        if not error:
            status, body = int(answer["status_code"]), answer["body"]
    except (ValueError, KeyError, TypeError, AttributeError):
        out.unreadable += bool(line.strip())
        return
    if error:
        out.failures[key] = Failure(key, _words(error), retryable=True)
    elif status >= 400:
        retryable = status in {408, 409, 429} or status >= 500
        out.failures[key] = Failure(key, f"{status}: {_words(body)}", status, retryable)
    else:
        try:
            out.answers[key] = response_from_body(body)
        except ClientError as refusal:
            out.failures[key] = Failure(key, refusal.message, status, refusal.retryable)


def _words(body: Any) -> str:
    if isinstance(body, Mapping):
        body = body.get("error") or body
    if isinstance(body, Mapping):
        code, message = body.get("code"), body.get("message")
        body = f"{code}: {message}" if code and message else message or code or body
    words = " ".join(str(body).split())
    return words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}..."
