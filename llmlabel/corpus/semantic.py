"""Semantic duplicates: documents that say the same in other words, through embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.clusters import Clusters, Keep, best_first, clusters_of
from llmlabel.corpus.lsh import Pairs, check_threshold, joined
from llmlabel.errors import DataError
from llmlabel.lf.neighbours import approximate_search

__all__ = ["find_semantic", "semantic_pairs"]

_BLOCK: Final = 2048  # rows and columns of a block of cosines: 16 MB


def find_semantic(
    vectors: npt.NDArray[Any],
    *,
    threshold: float = 0.9,
    neighbours: int | None = None,
    keep: Keep = "first",
    values: Sequence[Any] | npt.NDArray[Any] | None = None,
    ids: Sequence[Any] | None = None,
) -> Clusters:
    """Find clusters of documents whose embeddings are near, and keep one of each.

    Parameters
    ----------
    vectors, threshold, neighbours
        See `semantic_pairs`.
    keep, values, ids
        See `clusters.find_duplicates`.

    Examples
    --------
    >>> found = find_semantic(np.array([[1.0, 0.0], [0.0, 1.0], [0.98, 0.199]]))
    >>> found.kind.tolist()
    ['kept', '', 'semantic']
    """
    order = best_first(len(vectors), keep, values, ids)
    pairs = semantic_pairs(vectors, threshold, neighbours=neighbours)
    label = joined(len(vectors), pairs.left, pairs.right)

    def alike(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        one, other = (np.asarray(vectors[rows], np.float32) for rows in (left, right))
        # What float32 rounds off is no reason to be less alike than the pair that was found.
        return np.asarray(np.einsum("nd,nd->n", one, other) + 1e-6, np.float32).clip(-1.0, 1.0)

    return clusters_of(label, order, alike, threshold=threshold, kind="semantic")


def semantic_pairs(
    vectors: npt.NDArray[Any], threshold: float = 0.9, *, neighbours: int | None = None
) -> Pairs:
    """Return the pairs of documents whose embeddings have at least a cosine.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Unit vectors (`llmlabel.embed.embed`); may be a memory map.
    threshold
        The least cosine.
    neighbours
        None compares all with all, in blocks of a matrix product: exact, and quadratic. A
        number asks an index (HNSW) for so many neighbours of each instead; worth it from
        some 50,000 documents. Equal vectors are found all the same: they are joined first.

    Returns
    -------
    Pairs, each once.

    Raises
    ------
    DataError
        The vectors are not of length 1.
    MissingExtraError
        `neighbours` is given and usearch is not installed (``llmlabel[search]``).

    Notes
    -----
    A. Abbas et al. (2023), SemDeDup: Data-efficient learning at web-scale through semantic
    deduplication.

    Examples
    --------
    >>> found = semantic_pairs(np.array([[1.0, 0.0], [0.0, 1.0], [0.98, 0.199]]), 0.9)
    >>> found.left.tolist(), found.right.tolist(), found.similarity.round(2).tolist()
    ([0], [2], [0.9800000190734863])
    """
    check_threshold(threshold)
    if vectors.ndim != 2:
        raise DataError(f"expected vectors of shape (n, d), got {vectors.shape}")
    for first in range(0, len(vectors), _BLOCK):
        norms = np.linalg.norm(np.asarray(vectors[first : first + _BLOCK], np.float32), axis=1)
        wrong = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-2))
        if wrong.size:
            at = first + int(wrong[0])
            raise DataError(f"expected unit vectors, got a length of {norms[wrong[0]]:.3g}", row=at)
    if neighbours is None:
        return _all_pairs(vectors, np.float32(threshold))
    return _neighbour_pairs(vectors, np.float32(threshold), neighbours)


def _all_pairs(vectors: npt.NDArray[Any], least: np.float32) -> Pairs:
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    for top in range(0, len(vectors), _BLOCK):
        rows = np.asarray(vectors[top : top + _BLOCK], np.float32)
        for side in range(top, len(vectors), _BLOCK):
            cosines = rows @ np.asarray(vectors[side : side + _BLOCK], np.float32).T
            left, right = np.nonzero(cosines >= least)
            later = left + top < right + side
            left, right = left[later], right[later]
            parts.append((left + top, right + side, cosines[left, right]))
    left, right, alike = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pairs(left, right, alike)


def _neighbour_pairs(vectors: npt.NDArray[Any], least: np.float32, neighbours: int) -> Pairs:
    table = np.ascontiguousarray(vectors, np.float32)
    different, first, group = np.unique(table, axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    again = np.flatnonzero(first[group] != np.arange(len(table)))
    count = min(neighbours + 1, len(different))
    at, cosines = approximate_search(different)(different, count)
    left = np.repeat(first, count)
    right, alike = first[at.ravel()], cosines.ravel()
    good = (alike >= least) & (left != right)
    low, high = np.minimum(left[good], right[good]), np.maximum(left[good], right[good])
    _, once = np.unique(low * len(table) + high, return_index=True)
    return Pairs(
        np.concatenate([first[group[again]], low[once]]),
        np.concatenate([again, high[once]]),
        np.concatenate([np.ones(len(again), np.float32), alike[good][once]]),
    )
