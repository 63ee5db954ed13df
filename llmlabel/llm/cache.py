"""Answers that were paid for, kept in one SQLite file that several processes may share."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import orjson

from llmlabel.errors import DataError
from llmlabel.llm.types import Response

__all__ = ["Cache"]

_VERSION: Final = 2
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    stored REAL NOT NULL,
    answer TEXT NOT NULL
)
"""
_META: Final = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
_INSERT: Final = """
INSERT OR IGNORE INTO answers (key, model, stored, answer)
SELECT value ->> 0, value ->> 1, ?, value ->> 2 FROM json_each(?)
"""
_BUSY_S: Final = 60.0
_MANY: Final = 10_000


class Cache:
    """A cache of answers by `Request.key`.

    An answer that `put_many` has returned from survives ``kill -9`` and a power
    cut: the file is in WAL mode with ``synchronous=FULL``. FULL and not NORMAL,
    which after a power cut may forget the last commits: an answer costs money
    and seconds, a commit costs one fsync (0.2 ms on the machine this was
    measured on, against 0.04 ms), and answers are committed in groups, so that
    it is paid once for many.

    Only answers are stored: never a failure, never a refusal. The first answer
    to a question stays. A cache can be used from several threads and, through
    an object of each its own, from several processes. The file belongs on a
    local disk: SQLite's WAL mode does not work over a network.

    Parameters
    ----------
    path
        The SQLite file. It is made when the first answer is stored.

    Raises
    ------
    DataError
        At first use: the file is no cache, or one of a later version.

    Examples
    --------
    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()) / "answers.sqlite")
    >>> cache.put_many({"k": Response("yes", "m")})
    >>> cache.get_many(["k", "other"])["k"].text
    'yes'
    >>> cache.close()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"Cache({str(self.path)!r})"

    def get_many(self, keys: Collection[str]) -> dict[str, Response]:
        """Return the answers that are there, each marked as cached."""
        return {
            key: Response.from_dict(json.loads(answer), cached=True)
            for key, answer in self._select("key, answer", keys)
        }

    def known(self, keys: Collection[str]) -> set[str]:
        """Return those keys whose answers are there."""
        return {key for (key,) in self._select("key", keys)}

    def put_many(self, answers: Mapping[str, Response]) -> None:
        """Store answers in one commit; when this returns, they are on the disk."""
        now = time.time()
        rows = [
            (key, _printable(response.model), _as_json(response.as_dict()))
            for key, response in answers.items()
            if response.finish_reason != "content_filter"
        ]
        if not rows:
            return
        with self._use() as connection:
            # One statement: each step of several would wait for the interpreter's lock anew,
            # 5 ms a time while the event loop is busy.
            connection.execute(_INSERT, (now, _as_json(rows)))

    def meta(self, prefix: str = "") -> dict[str, Any]:
        """Return what is remembered beside the answers under names that begin with `prefix`."""
        if self._absent():
            return {}
        query = "SELECT name, value FROM meta WHERE substr(name, 1, ?) = ?"
        with self._use() as connection:
            found = connection.execute(query, (len(prefix), prefix)).fetchall()
        return {name: json.loads(value) for name, value in found}

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Remember small plain values beside the answers, the last one by each name."""
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        with self._use() as connection:
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def __len__(self) -> int:
        if self._absent():
            return 0
        with self._use() as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file; it is opened again when it is needed again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _select(self, columns: str, keys: Collection[str]) -> list[tuple[str, ...]]:
        if not keys or self._absent():
            return []
        wanted, out = list(keys), []
        # One list as JSON: SQLite bounds the number of parameters.
        query = f"SELECT {columns} FROM answers WHERE key IN (SELECT value FROM json_each(?))"  # noqa: S608
        with self._use() as connection:
            for start in range(0, len(wanted), _MANY):
                part = json.dumps(wanted[start : start + _MANY])
                out += connection.execute(query, (part,)).fetchall()
        return out

    def _absent(self) -> bool:
        # Looking for answers, as a dry run does, leaves no file behind.
        return self._connection is None and not self.path.exists()

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self.path)
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise DataError(f"the answer cache failed: {error}", file=self.path) from error


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair: in ASCII it can be kept
        return json.dumps(value)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise DataError(
            f"is a cache of version {version}; this llmlabel reads up to {_VERSION}", file=path
        )
    if version < _VERSION:
        connection.execute(_TABLE)
        connection.execute(_META)
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _use_wal(connection: sqlite3.Connection) -> None:
    # Turning WAL on needs the file alone and does not wait for the busy timeout.
    end = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
