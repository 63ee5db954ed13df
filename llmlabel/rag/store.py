"""Vector stores: chunks with their vectors and metadata on disk; LanceDB, embedded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.extras import need_packages
from llmlabel.rag.retrieval import Hits, ranked

__all__ = ["LanceStore", "Store", "StoreSearcher", "Where", "check_chunks", "in_order"]

Where = Mapping[str, str | int | bool]
"""Columns and the values that they must have."""

_VECTOR: Final = "vector"


class Store(Protocol):
    """Keeps chunks with unit vectors and finds those that are near."""

    def write(self, chunks: pa.Table, vectors: npt.NDArray[Any]) -> None:
        """Write chunks in the place of those that are there."""

    def search(self, vectors: npt.NDArray[Any], k: int, where: Where | None = None) -> Hits:
        """Return the ids of the k nearest of each vector, (q, d), and their cosines."""

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the chunks of some ids, in their order."""

    def __len__(self) -> int:
        """Return how many chunks there are."""


class StoreSearcher:
    """A store as a `retrieval.Searcher`.

    Parameters
    ----------
    store
        Where the passages are.
    encode
        Queries to unit vectors, shape (q, d).
    where
        Which passages may be found.
    """

    def __init__(
        self, store: Store, encode: Callable[[Sequence[str]], Any], where: Where | None = None
    ) -> None:
        self._store, self._encode, self._where = store, encode, where

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `retrieval.Searcher`."""
        if not len(queries):
            return ranked([], k)
        return self._store.search(np.asarray(self._encode(queries), np.float32), k, self._where)


class LanceStore:
    """Chunks in a LanceDB folder: columns, exact search by cosine, no server.

    Parameters
    ----------
    folder
        The database's folder.
    name
        The table's name in it.

    Raises
    ------
    MissingExtraError
        lancedb is not installed (``llmlabel[rag]``).

    Notes
    -----
    The table is plain LanceDB: ``lancedb.connect(folder).open_table(name)`` opens it, with
    the columns of the chunks and ``vector``. Above some 100,000 rows an index makes it
    faster (``create_index``), which then is no longer exact.
    """

    def __init__(self, folder: str | Path, name: str = "chunks") -> None:
        need_packages("the vector store", "lancedb", extra="rag")
        self.folder, self.name = Path(folder), name

    def write(self, chunks: pa.Table, vectors: npt.NDArray[Any]) -> None:
        """See `Store`; a reader sees the old chunks or the new ones.

        Raises
        ------
        DataError
            No chunks, not as many vectors as chunks, ids that are not distinct, vectors that
            are not finite, or a column called ``vector``.
        """
        table = check_chunks(chunks, vectors)
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        self._database().create_table(
            self.name, table.append_column(_VECTOR, column), mode="overwrite"
        )

    def search(self, vectors: npt.NDArray[Any], k: int, where: Where | None = None) -> Hits:
        """See `Store`."""
        table = self._table()
        array = _check_queries(vectors, table.schema.field(_VECTOR).type.list_size, self.folder)
        if not len(array):
            return ranked([], k)
        query = table.search(array[0] if len(array) == 1 else array).distance_type("cosine")
        if where:
            query = query.where(_sql(where, table.schema.names), prefilter=True)
        columns = ["id", "_distance"]
        found = query.select(columns).limit(k).to_arrow()
        rows: list[dict[str, float]] = [{} for _ in array]
        of = found["query_index"].to_pylist() if len(array) > 1 else [0] * len(found)
        for row, id_, far in zip(of, *(found[c].to_pylist() for c in columns), strict=True):
            rows[row][id_] = 1 - far
        return ranked(rows, k)

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """See `Store`."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        table = self._table()
        names = [n for n in table.schema.names if n != _VECTOR]
        listed = ", ".join(_quoted(i) for i in wanted)
        query = table.search().where(f"id IN ({listed})").select(names).limit(len(wanted))
        found = {row["id"]: row for row in query.to_arrow().to_pylist()}
        return in_order(ids, found, self.folder)

    def __len__(self) -> int:
        return int(self._table().count_rows())

    def _database(self) -> Any:
        # It warns of each table that it makes, and of columns that nobody asked for.
        os.environ.setdefault("LANCE_LOG", "error")
        import lancedb

        return lancedb.connect(str(self.folder))

    def _table(self) -> Any:
        if not (self.folder / f"{self.name}.lance").is_dir():
            raise DataError(f"no chunks called {self.name!r} in it", file=self.folder)
        return self._database().open_table(self.name)


def check_chunks(chunks: pa.Table, vectors: npt.NDArray[Any]) -> pa.Table:
    """Return chunks that a store takes, with columns of no kind as text.

    Raises
    ------
    DataError
        See `LanceStore.write`.
    """
    names = chunks.column_names
    if "id" not in names:
        raise DataError(f"no such column (columns: {', '.join(names[:12])})", field="id")
    if _VECTOR in names:
        raise DataError("the store's vectors have this name; rename the column", field=_VECTOR)
    if vectors.ndim != 2 or len(vectors) != len(chunks) or not len(chunks):
        raise DataError(
            f"expected a vector for each of at least one chunk, got {vectors.shape} "
            f"for {len(chunks)}"
        )
    if len(set(chunks["id"].to_pylist())) < len(chunks):
        raise DataError("expected an id of its own for each chunk", field="id")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise DataError("its vector is not finite", row=chunks["id"][int(bad[0])].as_py())
    fields = [
        pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in chunks.schema
    ]
    return chunks.cast(pa.schema(fields)).combine_chunks()


def in_order(
    ids: Sequence[str], found: Mapping[str, dict[str, Any]], where: object
) -> list[dict[str, Any]]:
    """Return the rows of ids in their order.

    Raises
    ------
    DataError
        There is none of an id.
    """
    missing = next((i for i in ids if i not in found), None)
    if missing is not None:
        raise DataError("no such chunk in the store", file=str(where), row=missing)
    return [found[i] for i in ids]


def _check_queries(vectors: npt.NDArray[Any], dims: int, folder: Path) -> npt.NDArray[np.float32]:
    array = np.ascontiguousarray(vectors, np.float32)
    if array.ndim != 2 or array.shape[1] != dims:
        raise DataError(f"holds vectors of {dims} numbers, got {array.shape}", file=folder)
    return array


def _sql(where: Where, names: Sequence[str]) -> str:
    unknown = next((n for n in where if n not in names), None)
    if unknown is not None:
        raise UnknownNameError("column", unknown, [n for n in names if n != _VECTOR])
    return " AND ".join(f"`{name}` = {_quoted(value)}" for name, value in where.items())


def _quoted(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
