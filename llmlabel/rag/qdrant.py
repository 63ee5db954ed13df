"""Vector stores: qdrant, in a folder, in memory or on a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import DataError
from llmlabel.extras import need_packages
from llmlabel.io import plain_value
from llmlabel.rag.retrieval import Hits, ranked
from llmlabel.rag.store import Where, check_chunks, in_order

__all__ = ["QdrantStore"]

_POINTS: Final = 512


class QdrantStore:
    """Chunks in a collection of qdrant, searched by cosine.

    Parameters
    ----------
    place
        ``":memory:"``, the address of a server (``http://...``), a folder, which one process
        can open at a time, or a client of qdrant-client.
    name
        The collection's name.

    Raises
    ------
    MissingExtraError
        qdrant-client is not installed (``llmlabel[qdrant]``).
    """

    def __init__(self, place: Any, name: str = "chunks") -> None:
        need_packages("the vector store", "qdrant_client", extra="qdrant")
        from qdrant_client import QdrantClient

        self.name = name
        if hasattr(place, "query_batch_points"):
            self._client = place
        elif str(place).startswith(("http://", "https://")):
            self._client = QdrantClient(url=str(place))
        elif str(place) == ":memory:":
            self._client = QdrantClient(":memory:")
        else:
            self._client = QdrantClient(path=str(place))

    def close(self) -> None:
        """Let another process have the folder."""
        self._client.close()

    def write(self, chunks: pa.Table, vectors: npt.NDArray[Any]) -> None:
        """See `store.Store`; errors as of `store.LanceStore.write`. Points are numbered from 0."""
        from qdrant_client import models

        table = check_chunks(chunks, vectors)
        if self._client.collection_exists(self.name):
            self._client.delete_collection(self.name)
        params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
        self._client.create_collection(self.name, vectors_config=params)
        for start in range(0, len(table), _POINTS):
            rows = json.loads(
                json.dumps(table.slice(start, _POINTS).to_pylist(), default=plain_value)
            )
            part = np.asarray(vectors[start : start + _POINTS], np.float32).tolist()
            points = [
                models.PointStruct(id=start + i, vector=vector, payload=row)
                for i, (row, vector) in enumerate(zip(rows, part, strict=True))
            ]
            self._client.upsert(self.name, points=points)

    def search(self, vectors: npt.NDArray[Any], k: int, where: Where | None = None) -> Hits:
        """See `store.Store`."""
        from qdrant_client import models

        self._check()
        conditions = [
            models.FieldCondition(key=name, match=models.MatchValue(value=value))
            for name, value in (where or {}).items()
        ]
        requests = [
            models.QueryRequest(
                query=vector,
                limit=k,
                with_payload=["id"],
                filter=models.Filter(must=conditions) if conditions else None,
            )
            for vector in np.asarray(vectors, np.float32).tolist()
        ]
        if not requests:
            return ranked([], k)
        found = self._client.query_batch_points(self.name, requests=requests)
        return ranked([{p.payload["id"]: p.score for p in one.points} for one in found], k)

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """See `store.Store`."""
        from qdrant_client import models

        self._check()
        wanted = list(dict.fromkeys(ids))
        match = models.FieldCondition(key="id", match=models.MatchAny(any=wanted))
        points, _ = self._client.scroll(
            self.name, scroll_filter=models.Filter(must=[match]), limit=max(1, len(wanted))
        )
        return in_order(ids, {p.payload["id"]: p.payload for p in points}, self.name)

    def __len__(self) -> int:
        self._check()
        return int(self._client.count(self.name).count)

    def _check(self) -> None:
        if not self._client.collection_exists(self.name):
            raise DataError(f"qdrant: no collection called {self.name!r}")
