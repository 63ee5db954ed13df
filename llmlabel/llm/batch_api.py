"""The few calls of OpenAI's files and batches endpoints, by the openai package."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import openai

from llmlabel.errors import ClientError
from llmlabel.io import atomic_write

__all__ = ["BatchApi", "BatchView"]

_OPENAI: Final = "https://api.openai.com"
_TAG: Final = "llmlabel"
_PAGE: Final = 100
_CLOCK_S: Final = 2 * 86_400
_RETRIES: Final = 4  # of calls that change nothing


@dataclass(frozen=True)
class BatchView:
    """What the server says of a batch.

    Parameters
    ----------
    id, status
        The server's own words.
    output_file, error_file
        Ids of the result files, where there are some.
    errors
        Why the batch as a whole failed: code and message of each error.
    completed, failed, total
        Rows.
    """

    id: str
    status: str
    output_file: str | None
    error_file: str | None
    errors: tuple[tuple[str, str], ...]
    completed: int
    failed: int
    total: int


class BatchApi:
    """One endpoint's files and batches.

    Calls that change nothing are retried by the openai package; an upload and
    the creation of a batch never are, since the first try may have come through.

    Parameters
    ----------
    base_url
        Where.
    api_key_env
        The environment variable with the key. The key is kept in no attribute
        of ours and is cut out of every error.
    timeout
        Seconds for one call, a connection's silence in uploads and downloads.
    """

    def __init__(self, base_url: str, api_key_env: str, *, timeout: float = 120.0) -> None:
        key = os.environ.get(api_key_env)
        if not key and base_url.startswith(_OPENAI):
            raise ClientError(
                f"no API key: the environment variable {api_key_env} is not set",
                fatal=True,
                hint=f"export {api_key_env}=...",
            )
        self._key_env = api_key_env
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=base_url, timeout=timeout, max_retries=_RETRIES
        )
        self._once = self._client.with_options(max_retries=0)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def upload(self, path: Path, name: str) -> str:
        """Upload a file of requests under a name; return its id."""
        with self._errors("upload"), path.open("rb") as handle:
            return self._once.files.create(file=(name, handle), purpose="batch").id

    def find_file(self, name: str) -> str | None:
        """Return the id of an uploaded file of that name, or None."""
        with self._errors("list files"):
            for file in self._client.files.list(purpose="batch", limit=_PAGE):
                if file.filename == name:
                    return file.id
        return None

    def create(self, file_id: str, tag: str) -> str:
        """Create a batch that carries a tag; return its id. From here on it costs money."""
        with self._errors("create a batch"):
            batch = self._once.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TAG: tag},
            )
        return batch.id

    def find_batch(self, tag: str, *, since: float) -> str | None:
        """Return the id of the batch with that tag, or None.

        Parameters
        ----------
        tag
            What `create` was given.
        since
            Batches older than this (seconds since 1970, two days of clock error
            allowed) are not looked at; the server lists the newest first.
        """
        with self._errors("list batches"):
            for batch in self._client.batches.list(limit=_PAGE):
                if (batch.metadata or {}).get(_TAG) == tag:
                    return batch.id
                if batch.created_at < since - _CLOCK_S:
                    break
        return None

    def view(self, batch_id: str) -> BatchView:
        """Return how a batch stands."""
        with self._errors(f"look at batch {batch_id}"):
            batch = self._client.batches.retrieve(batch_id)
        counts, errors = batch.request_counts, (batch.errors.data if batch.errors else None)
        return BatchView(
            id=batch.id,
            status=batch.status,
            output_file=batch.output_file_id,
            error_file=batch.error_file_id,
            errors=tuple((e.code or "", e.message or "") for e in errors or ()),
            completed=counts.completed if counts else 0,
            failed=counts.failed if counts else 0,
            total=counts.total if counts else 0,
        )

    def download(self, file_id: str, path: Path) -> None:
        """Write the content of a file to `path`, whole or not at all."""
        # Not streamed: so a body that breaks off is the package's to retry.
        with self._errors(f"download file {file_id}"):
            content = self._client.files.content(file_id).content
        with atomic_write(path) as part:
            part.write_bytes(content)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except openai.OpenAIError as error:
            # `from None`: what it holds, headers with the key, must not be printed.
            raise self._explained(error, what) from None

    def _explained(self, error: openai.OpenAIError, what: str) -> ClientError:
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        words = _words(error)
        key = os.environ.get(self._key_env)
        if key:
            words = words.replace(key, "***")
        if status is None:
            return ClientError(f"cannot {what}: {words}", retryable=True)
        denied = status in {401, 403}
        return ClientError(
            f"cannot {what}: {status}: {words}",
            status=status,
            retryable=status in {408, 409, 429} or status >= 500,
            fatal=denied,
            hint=f"check the key in the environment variable {self._key_env}" if denied else None,
        )


def _words(error: openai.OpenAIError) -> str:
    body = error.body if isinstance(error, openai.APIStatusError) else None
    if isinstance(body, Mapping) and body.get("message"):
        return " ".join(str(body["message"]).split())
    return " ".join(str(error.__cause__ or error).split())
