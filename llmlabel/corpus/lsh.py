"""Near duplicates among many signatures: banded, sorted, verified; no text is read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.minhash import EMPTY, Signatures, estimated_jaccard
from llmlabel.corpus.ngrams import Hashes
from llmlabel.errors import ConfigError

__all__ = ["Pairs", "band_keys", "check_threshold", "joined", "near_pairs", "rows_per_band"]

Ints = npt.NDArray[np.int64]

THRESHOLD: Final = 0.55
WINDOW: Final = 256
_BLOCK: Final = 1 << 13  # pairs verified at a time: 8 MB of signatures
_MISSED: Final = 0.005
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Pairs:
    """Pairs of documents that are alike.

    Parameters
    ----------
    left, right : int64 arrays, shape (p,)
        Rows of the two.
    similarity : float32 array, shape (p,)
    skipped
        Pairs of one bucket that were never compared, since the bucket was too large.
    """

    left: Ints
    right: Ints
    similarity: npt.NDArray[np.float32]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.left)


def rows_per_band(threshold: float, hashes: int) -> int:
    """Return the rows of a band: the most that miss at most .5 % of pairs at the threshold.

    A pair of Jaccard similarity J shares one of ``hashes // r`` bands of r rows with
    probability 1 - (1 - J^r)^(hashes // r). More rows are fewer pairs to verify in vain.

    Examples
    --------
    >>> [rows_per_band(threshold, 256) for threshold in (0.5, 0.7, 0.8, 0.9)]
    [3, 5, 8, 13]
    """
    check_threshold(threshold)
    rows = np.arange(1, min(hashes, 16) + 1)
    missed = (1.0 - threshold**rows) ** (hashes // rows)
    return int(rows[missed <= _MISSED].max(initial=1))


def check_threshold(threshold: float) -> None:
    """Raise `ConfigError` unless ``0 < threshold <= 1``."""
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold: expected a similarity above 0, at most 1, got {threshold}")


def near_pairs(
    table: Signatures,
    threshold: float,
    *,
    among: Ints | None = None,
    rows: int | None = None,
    window: int = WINDOW,
) -> Pairs:
    """Return enough pairs of near duplicates to join each with all that it is linked to.

    Band by band, signatures are sorted by their numbers in it; those with the same ones are
    compared as wholes, unless they are joined already. So the pairs are not all that there
    are, but their connected components are those of all that share a band and are alike.

    Parameters
    ----------
    table : uint16 array, shape (d, hashes)
        Signatures; may be a memory map.
    threshold
        The least estimated Jaccard similarity.
    among : int array, optional
        Rows to look at (one of each group of exact duplicates), in the order in which a
        bucket is gone through; by default all.
    rows
        Rows per band; by default `rows_per_band`.
    window
        A signature is compared with that many after it in a bucket.

    Returns
    -------
    The pairs. Memory beside the table: 45 bytes per document (45 MB per million), 20 MB.

    Notes
    -----
    P. Indyk, R. Motwani (1998), Approximate nearest neighbors; A. Z. Broder (1997), On the
    resemblance and containment of documents.
    """
    count, hashes = table.shape
    rows = rows or rows_per_band(threshold, hashes)
    if not 1 <= rows <= hashes:
        raise ConfigError(f"rows: expected from 1 to the {hashes} hashes, got {rows}")
    least = np.float32(threshold)
    label = np.arange(count)
    live = _with_ngrams(table, np.arange(count) if among is None else among)
    kept: list[tuple[Ints, Ints, npt.NDArray[np.float32]]] = []
    skipped = 0
    for first in range(0, hashes - rows + 1, rows):
        found: list[tuple[Ints, Ints, npt.NDArray[np.float32]]] = []
        order, keys = _sorted_keys(table, live, first, rows)
        skipped += _skipped(keys, window)
        for left, right in _bucket_pairs(order, keys, window):
            fresh = label[left] != label[right]
            found += _verified(table, left[fresh], right[fresh], least)
        kept += found
        if found:
            label = joined(
                count,
                np.concatenate([f[0] for f in found]),
                np.concatenate([f[1] for f in found]),
                label,
            )
    return _pairs(kept, skipped)


def band_keys(table: Signatures, first: int, rows: int) -> Hashes:
    """Return one 64-bit number per signature for `rows` of its numbers from place `first`."""
    keys = np.zeros(len(table), np.uint64)
    for place in range(first, first + rows):
        keys *= _BASE
        keys += table[:, place]
    return keys


def joined(count: int, left: Ints, right: Ints, label: Ints | None = None) -> Ints:
    """Return the connected component of each of `count` documents.

    Parameters
    ----------
    count
        Documents.
    left, right : int arrays, shape (p,)
        Pairs that are joined.
    label : int array, shape (count,), optional
        Components so far, numbered from 0.

    Examples
    --------
    >>> joined(4, np.array([0, 3]), np.array([2, 2])).tolist()
    [0, 1, 0, 0]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if label is None:
        label = np.arange(count)
    ones = np.ones(len(left), np.int8)
    nodes = int(label.max(initial=-1)) + 1
    graph = csr_array((ones, (label[left], label[right])), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1]
    return np.asarray(component, np.int64)[label]


def _with_ngrams(table: Signatures, among: Ints) -> Ints:
    """Return those rows whose documents have n-grams."""
    step = 1 << 14
    parts = (among[first : first + step] for first in range(0, len(among), step))
    live = [rows[(table[rows] != EMPTY).any(axis=1)] for rows in parts]
    return np.concatenate([np.empty(0, np.int64), *live])


def _sorted_keys(table: Signatures, live: Ints, first: int, rows: int) -> tuple[Ints, Hashes]:
    keys = band_keys(table, first, rows)[live]
    order = np.argsort(keys, kind="stable")
    return live[order], keys[order]


def _bucket_pairs(order: Ints, keys: Hashes, window: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs of equal keys that are 1, 2, ... apart in their bucket."""
    at, step = np.flatnonzero(keys[1:] == keys[:-1]), 1
    while at.size and step <= window:
        yield order[at], order[at + step]
        step += 1
        at = at[: np.searchsorted(at, len(keys) - step)]
        at = at[keys[at] == keys[at + step]]


def _skipped(keys: Hashes, window: int) -> int:
    """Return how many pairs of a bucket are further apart than the window."""
    if not (keys[window + 1 :] == keys[: -window - 1]).any():
        return 0
    bounds = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
    beyond = np.maximum(np.diff(bounds) - 1 - window, 0)
    return int((beyond * (beyond + 1) // 2).sum())


def _verified(
    table: Signatures, left: Ints, right: Ints, least: np.float32
) -> list[tuple[Ints, Ints, npt.NDArray[np.float32]]]:
    found = []
    for first in range(0, len(left), _BLOCK):
        one, other = left[first : first + _BLOCK], right[first : first + _BLOCK]
        alike = estimated_jaccard(table[one], table[other])
        good = alike >= least
        if good.any():
            found.append((one[good], other[good], alike[good]))
    return found


def _pairs(kept: list[tuple[Ints, Ints, npt.NDArray[np.float32]]], skipped: int) -> Pairs:
    if not kept:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), skipped)
    left, right, alike = (np.concatenate(part) for part in zip(*kept, strict=True))
    return Pairs(np.minimum(left, right), np.maximum(left, right), alike, skipped)
