"""Look into a cache of answers, carry answers in and out, throw old ones away."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from llmlabel.errors import ConfigError, DataError
from llmlabel.io import atomic_write
from llmlabel.llm.batch_files import read_results
from llmlabel.llm.cache import Cache
from llmlabel.llm.types import Request, Response

__all__ = [
    "CacheStats",
    "ImportReport",
    "ModelStats",
    "cache_stats",
    "export_cache",
    "import_batch",
    "import_cache",
    "prune_cache",
]

T = TypeVar("T")

_GROUP: Final = 2000
_DAY_S: Final = 86400.0


@dataclass(frozen=True)
class ModelStats:
    """What a cache holds of one model.

    Parameters
    ----------
    model
        The model's name as the server gave it.
    answers
        Answers.
    prompt_tokens, completion_tokens
        Tokens paid for them, where the server counted.
    oldest, newest
        When stored, in seconds since 1970.
    """

    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    oldest: float
    newest: float


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds.

    Parameters
    ----------
    path
        The file.
    bytes
        Its size, with its write-ahead log.
    models
        By model, the one with the most answers first.
    """

    path: Path
    bytes: int
    models: tuple[ModelStats, ...]

    @property
    def answers(self) -> int:
        """Answers in all."""
        return sum(m.answers for m in self.models)


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Parameters
    ----------
    added
        Answers that are new.
    known
        Answers whose question was answered already; the first answer stays.
    failed
        Results that are no answer: failures and refusals, which are never stored.
    """

    added: int
    known: int
    failed: int = 0


_STATS: Final = """
SELECT model, count(*),
       coalesce(sum(answer ->> '$.usage.prompt_tokens'), 0),
       coalesce(sum(answer ->> '$.usage.completion_tokens'), 0),
       min(stored), max(stored)
FROM answers GROUP BY model ORDER BY count(*) DESC, model
"""


def cache_stats(path: str | Path) -> CacheStats:
    """Return what a cache holds; an absent file holds nothing.

    Raises
    ------
    DataError
        The file is no cache.

    Examples
    --------
    >>> cache_stats("no-such-file.sqlite").answers
    0
    """
    path = Path(path)
    if not path.exists():
        return CacheStats(path, 0, ())
    with _open(path) as connection:
        models = tuple(ModelStats(*row) for row in connection.execute(_STATS))
    parts = (path, path.with_name(f"{path.name}-wal"))
    return CacheStats(path, sum(p.stat().st_size for p in parts if p.exists()), models)


def export_cache(path: str | Path, target: str | Path, *, model: str | None = None) -> int:
    """Write the answers as JSON Lines: ``key``, ``model``, ``stored``, ``answer``.

    Parameters
    ----------
    path
        The cache.
    target
        The file to write, whole or not at all.
    model
        Only this model's answers.

    Returns
    -------
    How many were written.

    Raises
    ------
    DataError
        There is no such cache, or it is none.
    """
    path, count = _existing(path), 0
    with _open(path) as connection, atomic_write(Path(target)) as part:
        query = "SELECT key, model, stored, answer FROM answers WHERE ?1 IS NULL OR model = ?1"
        with part.open("w", encoding="utf-8") as handle:
            for key, name, stored, answer in connection.execute(f"{query} ORDER BY key", (model,)):
                line = {"key": key, "model": name, "stored": stored, "answer": json.loads(answer)}
                handle.write(json.dumps(line) + "\n")
                count += 1
    return count


def import_cache(path: str | Path, source: str | Path) -> ImportReport:
    """Take over the answers that `export_cache` wrote.

    Raises
    ------
    DataError
        A line that is no exported answer, with its number. The lines before it
        may be in the cache.
    """
    return _import(Path(path), _exported(Path(source)))


def import_batch(
    path: str | Path,
    requests: str | Path,
    results: str | Path,
    *,
    provider: str = "api.openai.com",
) -> ImportReport:
    """Take over the answers of an OpenAI Batch: its file of requests and its output file.

    The key of an answer is made of its request, so that a run that asks the same
    finds it. Both files are OpenAI's own formats; lines are matched by ``custom_id``.

    Parameters
    ----------
    path
        The cache; it is made where there is none.
    requests
        The file that was uploaded.
    results
        The output file, or the error file.
    provider
        Whose answers they are: `Client.provider` of the client that will ask.

    Raises
    ------
    DataError
        A file that is absent or something else; a result whose request is missing.
    """
    keys = _keys(Path(requests), provider)
    if not Path(results).is_file():
        raise DataError("no such file of results", file=results)
    read = read_results([Path(results)])
    if read.unreadable:
        raise DataError(
            f"{read.unreadable} lines are no results of a batch: expected 'custom_id', "
            "'response' and 'error'",
            file=results,
        )
    strange = [name for name in read.answers if name not in keys]
    if strange:
        raise DataError(f"the result {strange[0]!r} has no request in {requests}", file=results)
    found = ((keys[name], response) for name, response in read.answers.items())
    report = _import(Path(path), found)
    return ImportReport(report.added, report.known, len(read.failures))


def prune_cache(
    path: str | Path, *, older_than_days: float | None = None, model: str | None = None
) -> int:
    """Delete answers and give their space back.

    Parameters
    ----------
    path
        The cache.
    older_than_days
        Only answers stored longer ago.
    model
        Only this model's answers.

    Returns
    -------
    How many were deleted.

    Raises
    ------
    ConfigError
        Neither is given: to delete everything, delete the file.
    DataError
        There is no such cache, or it is none.
    """
    if older_than_days is None and model is None:
        raise ConfigError("prune: expected an age or a model; to delete all, delete the file")
    before = None if older_than_days is None else time.time() - older_than_days * _DAY_S
    with _open(_existing(path)) as connection:
        deleted = connection.execute(
            "DELETE FROM answers WHERE (?1 IS NULL OR stored < ?1) AND (?2 IS NULL OR model = ?2)",
            (before, model),
        ).rowcount
        if deleted:
            connection.execute("VACUUM")
    return deleted


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise DataError("no such cache of answers", file=path)
    return Path(path)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with Cache(path) as cache:
        len(cache)  # checks that it is a cache, of a version that is known
    try:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DataError(f"the answer cache failed: {error}", file=path) from error


def _import(path: Path, answers: Iterator[tuple[str, Response]]) -> ImportReport:
    added = known = 0
    group: dict[str, Response] = {}
    with Cache(path) as cache:

        def store() -> None:
            nonlocal added, known
            there = len(cache.known(group))
            cache.put_many(group)
            known += there
            added += len(group) - there
            group.clear()

        for key, response in answers:
            group[key] = response
            if len(group) >= _GROUP:
                store()
        store()
    return ImportReport(added, known)


def _exported(source: Path) -> Iterator[tuple[str, Response]]:
    def read(data: Mapping[str, Any]) -> tuple[str, Response]:
        return str(data["key"]), Response.from_dict(data["answer"])

    return _lines(source, read, "expected a line of an exported cache")


def _keys(requests: Path, provider: str) -> dict[str, str]:
    def read(data: Mapping[str, Any]) -> tuple[str, str]:
        return str(data["custom_id"]), _request(data["body"]).key(provider)

    return dict(_lines(requests, read, "expected a request of a batch"))


def _request(body: Mapping[str, Any]) -> Request:
    params = {k: v for k, v in body.items() if k not in {"model", "messages"}}
    form = params.get("response_format") or {}
    schema = None
    if form.get("type") == "json_schema":
        schema = params.pop("response_format")["json_schema"]["schema"]
    return Request("", str(body["model"]), body["messages"], params, schema)


def _lines(source: Path, read: Callable[[Mapping[str, Any]], T], expected: str) -> Iterator[T]:
    if not source.is_file():
        raise DataError("no such file", file=source)
    with source.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                yield read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{expected}: {error!r}", file=source, line=number) from None
