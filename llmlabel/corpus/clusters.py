"""Clusters of duplicates: which documents are one, and which of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.corpus.exact import exact_groups
from llmlabel.corpus.lsh import THRESHOLD, WINDOW, joined, near_pairs
from llmlabel.corpus.minhash import estimated_jaccard
from llmlabel.corpus.sketches import Sketches
from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import ConfigError, DataError, UnknownNameError

__all__ = ["KEEP", "Clusters", "Keep", "best_first", "clusters_of", "find_duplicates"]

Ints = npt.NDArray[np.int64]
Keep = Literal["first", "longest", "newest", "best"]
Alike = Callable[[Ints, Ints], npt.NDArray[np.float32]]
KEEP: Final[tuple[Keep, ...]] = ("first", "longest", "newest", "best")

_BLOCK: Final = 1 << 13  # similarities at a time


@dataclass(frozen=True)
class Clusters:
    """Duplicates among n documents, and the one of each cluster that is kept.

    Parameters
    ----------
    cluster : int64 array, shape (n,)
        Numbered by their first rows; a document without duplicates is a cluster of its own.
    keeper : int64 array, shape (n,)
        The row that is kept of each document's cluster.
    similarity : float32 array, shape (n,)
        To the document that is kept.
    kind : object array, shape (n,)
        ``""`` (no duplicates), ``"kept"``, ``"exact"``, ``"near"``, ``"semantic"``, or
        ``"linked"``: less like the kept one than the threshold, joined to it through others.
    skipped
        Pairs that were not compared since a bucket was too large.
    """

    cluster: Ints
    keeper: Ints
    similarity: npt.NDArray[np.float32]
    kind: npt.NDArray[np.object_]
    skipped: int = 0

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        """Whether each document is kept, shape (n,)."""
        return np.asarray(self.keeper == np.arange(len(self.keeper)))

    def verdict(self) -> Verdict:
        """Return why documents are dropped: exact, near, semantic or linked duplicate."""
        reason = np.full(len(self.kind), "", object)
        for kind in ("exact", "near", "semantic", "linked"):
            reason[self.kind == kind] = f"{kind} duplicate"
        return Verdict(reason, {"similarity": self.similarity, "cluster": self.cluster})

    def table(self, ids: Sequence[Any]) -> pa.Table:
        """Return the clusters of two and more as columns id, cluster, kept, similarity, kind.

        Parameters
        ----------
        ids
            Of the n documents. A cluster has the id of the document that is kept.
        """
        if len(ids) != len(self.kind):
            raise DataError(f"{len(self.kind)} documents, but {len(ids)} ids")
        rows = np.flatnonzero(self.kind != "")
        rows = rows[np.argsort(self.cluster[rows], kind="stable")]
        names = pa.array(ids)
        return pa.table(
            {
                "id": names.take(pa.array(rows)),
                "cluster": names.take(pa.array(self.keeper[rows])),
                "kept": pa.array(self.keep[rows]),
                "similarity": pa.array(self.similarity[rows]),
                "kind": pa.array(self.kind[rows], pa.string()),
            }
        )


def find_duplicates(
    sketches: Sketches,
    *,
    threshold: float | None = THRESHOLD,
    keep: Keep = "first",
    values: Sequence[Any] | npt.NDArray[Any] | None = None,
    ids: Sequence[Any] | None = None,
    rows: int | None = None,
    window: int = WINDOW,
) -> Clusters:
    """Find exact and near duplicates from the sketches of all documents.

    Parameters
    ----------
    sketches
        Of n documents, of one shard or of many (`joined_sketches`).
    threshold
        The least estimated Jaccard similarity of near duplicates; None finds exact ones.
    keep
        Which of a cluster stays: the first row, or the one with the largest value.
    values : array, shape (n,)
        Lengths for ``"longest"``, dates for ``"newest"`` (datetime64 or ISO 8601 text of
        one form), scores for ``"best"``. What is missing (None, NaN, NaT) comes last.
    ids
        Of the n documents. Of equal values the least id stays, so that the choice does not
        depend on the order of shards; without ids it is the first row.
    rows, window
        See `lsh.near_pairs`.

    Returns
    -------
    Clusters. They do not depend on how documents are ordered or cut into shards, apart from
    ``"first"``. Memory beside the sketches: 85 bytes per document (85 MB per million), 20 MB.

    Examples
    --------
    >>> from llmlabel.corpus.sketches import sketch
    >>> texts = ["a b c d e f g h", "A b c d e f g h", "something else", "a b c d e f g h i"]
    >>> found = find_duplicates(sketch(texts), keep="longest", values=[15, 15, 14, 17])
    >>> found.kind.tolist(), found.keep.tolist()
    (['near', 'near', '', 'kept'], [False, False, True, True])
    """
    order = best_first(len(sketches), keep, values, ids)

    def alike(left: Ints, right: Ints) -> npt.NDArray[np.float32]:
        return estimated_jaccard(sketches.minhash[left], sketches.minhash[right])

    first, group = exact_groups(sketches.exact)
    label, skipped = group, 0
    if threshold is not None:
        # In the order of hashes, so that a bucket is gone through the same way each time.
        pairs = near_pairs(sketches.minhash, threshold, among=first, rows=rows, window=window)
        label = joined(len(first), group[pairs.left], group[pairs.right])[group]
        skipped = pairs.skipped
    found = clusters_of(label, order, alike, threshold=threshold or 1.0, skipped=skipped)
    same = (sketches.exact == sketches.exact[found.keeper]).all(axis=1) & ~found.keep
    found.kind[same], found.similarity[same] = "exact", 1.0
    return found


def clusters_of(
    label: Ints,
    order: Ints,
    alike: Alike,
    *,
    threshold: float,
    kind: str = "near",
    skipped: int = 0,
) -> Clusters:
    """Return the clusters of labels, each with its best document kept.

    Parameters
    ----------
    label : int array, shape (n,)
        Equal for documents of one cluster (`lsh.joined`).
    order : int array, shape (n,)
        All rows, best first (`best_first`).
    alike
        From two arrays of rows their similarities.
    threshold
        Documents less like the one that is kept are ``"linked"``, others of `kind`.
    kind
        ``"near"`` or ``"semantic"``.
    skipped
        Pairs not compared.
    """
    _, first, cluster = np.unique(label, return_index=True, return_inverse=True)
    cluster = np.argsort(np.argsort(first))[cluster].astype(np.int64)
    # np.unique gives the first of each in the order of the rows given: best first.
    _, best = np.unique(cluster[order], return_index=True)
    keeper = order[best][cluster]
    similarity = np.ones(len(label), np.float32)
    kinds = np.full(len(label), "", object)
    lost = np.flatnonzero(keeper != np.arange(len(label)))
    kinds[keeper[lost]] = "kept"
    kinds[lost] = kind
    for start in range(0, len(lost), _BLOCK):
        rows = lost[start : start + _BLOCK]
        similarity[rows] = alike(rows, keeper[rows])
    kinds[lost[similarity[lost] < np.float32(threshold)]] = "linked"
    return Clusters(cluster, keeper, similarity, kinds, skipped)


def best_first(
    n: int,
    keep: Keep = "first",
    values: Sequence[Any] | npt.NDArray[Any] | None = None,
    ids: Sequence[Any] | None = None,
) -> Ints:
    """Return the rows of n documents, best first by a rule (see `find_duplicates`).

    Examples
    --------
    >>> best_first(3, "longest", [5, 9, 5], ids=["b", "c", "a"]).tolist()
    [1, 2, 0]
    """
    if keep not in KEEP:
        raise UnknownNameError("rule", keep, KEEP, where="keep")
    for name, given in (("values", values), ("ids", ids)):
        if given is not None and len(given) != n:
            raise DataError(f"{n} documents, but {len(given)} {name}")
    if keep == "first":
        return np.arange(n)
    if values is None:
        what = {"longest": "lengths", "newest": "dates", "best": "scores"}[keep]
        raise ConfigError(f"keep: {keep!r} needs values: the documents' {what}")
    ties = np.arange(n) if ids is None else _codes(ids)
    return np.asarray(np.lexsort((ties, -_codes(values))), np.int64)


def _codes(values: Sequence[Any] | npt.NDArray[Any]) -> Ints:
    """Return the place of each value among the different ones; -1 where it is missing."""
    try:
        array = pa.array(values, from_pandas=True)
        codes = pc.index_in(array, array.unique().drop_null().sort())
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"values cannot be ordered: {error}") from error
    return np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
