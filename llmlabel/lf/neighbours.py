"""The nearest of many anchors: exact in blocks, or by an index that knows most of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError, MissingExtraError

__all__ = ["Search", "approximate_search", "top_k"]

Matrix = npt.NDArray[np.float32]
Search = Callable[[npt.NDArray[Any], int], tuple[npt.NDArray[np.int32], Matrix]]
"""From vectors, (n, d), and k to the k nearest anchors and their cosines, both (n, k)."""

_BLOCK: Final = 1 << 24  # similarities at a time: 64 MB


def top_k(
    vectors: npt.NDArray[Any], anchors: npt.NDArray[Any], k: int
) -> tuple[npt.NDArray[np.int32], Matrix]:
    """Return the k nearest anchors of each unit vector and their cosines, nearest first.

    Blocks of rows are multiplied one after the other, so that memory does not grow with
    their number; `vectors` may be a memory map.

    Parameters
    ----------
    vectors : array, shape (n, d)
    anchors : array, shape (a, d)
    k
        At most a.

    Returns
    -------
    Indices of anchors and cosines, both of shape (n, k).

    Examples
    --------
    >>> at, cosine = top_k(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]), 1)
    >>> at.tolist(), cosine.round(1).tolist()
    ([[0], [1]], [[1.0], [0.800000011920929]])
    """
    n, count = len(vectors), len(anchors)
    if not 1 <= k <= count:
        raise DataError(f"expected k from 1 to the {count} anchors, got {k}")
    right = np.ascontiguousarray(np.asarray(anchors, np.float32).T)
    indices, cosines = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    step = max(1, _BLOCK // count)
    for start in range(0, n, step):
        found = np.asarray(vectors[start : start + step], np.float32) @ right
        part = np.arange(count)[None].repeat(len(found), axis=0)
        if k < count:
            part = np.argpartition(found, -k, axis=1)[:, -k:]
        best = np.take_along_axis(found, part, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        indices[start : start + step] = np.take_along_axis(part, order, axis=1)
        cosines[start : start + step] = np.take_along_axis(best, order, axis=1)
    return indices, cosines


def approximate_search(anchors: npt.NDArray[Any]) -> Search:
    """Return a search for the nearest anchors by a graph of neighbours (HNSW, usearch).

    Worth its building where anchors and queries both are many: with 100,000 anchors of
    384 numbers a query costs a ninth of the exact one, and 99 in 100 first neighbours are
    the true ones (``benchmarks/lfs.py`` measures both).

    Parameters
    ----------
    anchors : array, shape (a, d)
        Unit vectors, each once: among many equal ones the graph loses its way.

    Raises
    ------
    MissingExtraError
        usearch is not installed (``llmlabel[search]``).

    Notes
    -----
    Yu. A. Malkov, D. A. Yashunin (2020), Efficient and robust approximate nearest neighbor
    search using hierarchical navigable small world graphs. The graph is built by one
    thread, so that the same anchors give the same graph and the same votes.
    """
    if importlib.util.find_spec("usearch") is None:
        raise MissingExtraError("usearch", "search", need="approximate search")
    from usearch.index import Index

    table = np.ascontiguousarray(anchors, np.float32)
    index = Index(ndim=table.shape[1], metric="cos", dtype="bf16")
    index.add(np.arange(len(table)), table, threads=1)

    def search(vectors: npt.NDArray[Any], k: int) -> tuple[npt.NDArray[np.int32], Matrix]:
        if not 1 <= k <= len(table):
            raise DataError(f"expected k from 1 to the {len(table)} anchors, got {k}")
        queries = np.ascontiguousarray(vectors, np.float32)
        if not len(queries):
            return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
        found = index.search(queries, k)
        at = np.zeros((len(queries), k), np.int32)
        keys = np.asarray(found.keys).reshape(len(queries), -1)
        at[:, : keys.shape[1]] = keys
        # The graph may not reach so many: then the product tells.
        counts = np.asarray(getattr(found, "counts", [keys.shape[1]]))
        short = np.flatnonzero(counts < k)
        if short.size:
            at[short] = top_k(queries[short], table, k)[0]
        # bfloat16 found them; their cosines are exact, and decide the order.
        cosines = np.stack(
            [np.einsum("nd,nd->n", queries, table[at[:, i]]) for i in range(k)], axis=1
        )
        order = np.argsort(-cosines, axis=1, kind="stable")
        return np.take_along_axis(at, order, 1), np.take_along_axis(cosines, order, 1)

    return search
