"""Duplicates of an existing corpus, of which only the sketches are at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.lsh import THRESHOLD, WINDOW, band_keys, check_threshold, rows_per_band
from llmlabel.corpus.minhash import EMPTY, Signatures, estimated_jaccard
from llmlabel.corpus.ngrams import Hashes, ranges
from llmlabel.corpus.sketches import Sketches
from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import DataError

__all__ = ["Matches", "match_stored"]

Ints = npt.NDArray[np.int64]
_Sorted = tuple[Hashes, Ints]

_STEP: Final = 1 << 16  # stored sketches at a time: 34 MB
_BLOCK: Final = 1 << 13


@dataclass(frozen=True)
class Matches:
    """The most similar stored document of each of n new ones.

    Parameters
    ----------
    row : int64 array, shape (n,)
        Of the stored document; -1 where none is alike.
    similarity : float32 array, shape (n,)
        To it: 1 where it is the same text, 0 where there is none.
    exact : bool array, shape (n,)
        Whether it is the same text.
    """

    row: Ints
    similarity: npt.NDArray[np.float32]
    exact: npt.NDArray[np.bool_]

    def verdict(self) -> Verdict:
        """Return why documents are dropped: exact or near duplicate of a stored one."""
        reason = np.full(len(self.row), "", object)
        reason[self.row >= 0] = "near duplicate of a stored document"
        reason[self.exact] = "exact duplicate of a stored document"
        return Verdict(reason, {"stored_similarity": self.similarity, "stored_row": self.row})


def match_stored(
    new: Sketches,
    stored: Sketches,
    *,
    threshold: float | None = THRESHOLD,
    rows: int | None = None,
    window: int = WINDOW,
) -> Matches:
    """Find for each new document the stored one that is most like it.

    Stored sketches are read once, in blocks; memory does not grow with their number.

    Parameters
    ----------
    new, stored
        `stored` may be memory maps (`load_sketches`).
    threshold
        The least estimated Jaccard similarity; None finds the same texts only.
    rows
        Rows per band, by default `lsh.rows_per_band`.
    window
        In a block, a stored document is compared with so many new ones per band.

    Returns
    -------
    Matches. Of equally similar stored documents the first row counts. Memory: 8 KB per new
    document at 64 bands.

    Examples
    --------
    >>> from llmlabel.corpus.sketches import sketch
    >>> stored = sketch(["unlike all others, this is", "one text that is stored already"])
    >>> found = match_stored(sketch(["One text that is stored already!", "new"]), stored)
    >>> found.row.tolist(), found.exact.tolist(), found.similarity.tolist()
    ([1, -1], [False, False], [1.0, 0.0])
    """
    if (new.shingle, new.minhash.shape[1]) != (stored.shingle, stored.minhash.shape[1]):
        raise DataError(
            f"stored sketches have {stored.minhash.shape[1]} hashes of {stored.shingle} words, "
            f"the new ones {new.minhash.shape[1]} of {new.shingle}"
        )
    found = Matches(
        np.full(len(new), -1, np.int64), np.zeros(len(new), np.float32), np.zeros(len(new), bool)
    )
    bands = _bands(new, threshold, rows)
    whole = _sorted(new.exact[:, 0], np.arange(len(new)))
    for first in range(0, len(stored), _STEP):
        last = first + _STEP
        exact, minhash = (
            np.asarray(stored.exact[first:last]),
            np.asarray(stored.minhash[first:last]),
        )
        left, right = _equal(whole, exact[:, 0], len(new))
        same = (new.exact[left] == exact[right]).all(axis=1) & ~found.exact[left]
        # Backwards, so that the first of several stays.
        found.row[left[same][::-1]] = right[same][::-1] + first
        found.exact[left[same]] = True
        found.similarity[left[same]] = 1.0
        live = np.flatnonzero((minhash != EMPTY).any(axis=1)) if bands else right
        for (start, width), band in bands.items():
            left, right = _equal(band, band_keys(minhash, start, width)[live], window)
            _improve(found, new, minhash, left, live[right], first, threshold)
    return found


def _bands(
    new: Sketches, threshold: float | None, rows: int | None
) -> dict[tuple[int, int], _Sorted]:
    """Return the sorted keys of the new documents by band (its first place and its rows)."""
    if threshold is None:
        return {}
    check_threshold(threshold)
    hashes = new.minhash.shape[1]
    rows = rows or rows_per_band(threshold, hashes)
    live = np.flatnonzero((new.minhash != EMPTY).any(axis=1))
    return {
        (first, rows): _sorted(band_keys(new.minhash, first, rows)[live], live)
        for first in range(0, hashes - rows + 1, rows)
    }


def _sorted(keys: Hashes, owner: Ints) -> _Sorted:
    order = np.argsort(keys, kind="stable")
    return keys[order], owner[order]


def _equal(ours: _Sorted, keys: Hashes, most: int) -> tuple[Ints, Ints]:
    """Return all pairs (row of ours, place in `keys`) of equal keys, at most `most` a key."""
    begin = np.searchsorted(ours[0], keys, side="left")
    counts = np.minimum(np.searchsorted(ours[0], keys, side="right") - begin, most)
    return ours[1][ranges(begin, counts)], np.repeat(np.arange(len(keys)), counts)


def _improve(
    found: Matches,
    new: Sketches,
    minhash: Signatures,
    left: Ints,
    right: Ints,
    first: int,
    threshold: float | None,
) -> None:
    """Verify pairs and write those down that are the best so far of their new documents."""
    todo = ~found.exact[left] & (found.row[left] != right + first)
    left, right = left[todo], right[todo]
    for start in range(0, len(left), _BLOCK):
        one, other = left[start : start + _BLOCK], right[start : start + _BLOCK]
        alike = estimated_jaccard(new.minhash[one], minhash[other])
        row, held = other + first, found.similarity[one]
        better = (alike > held) | ((alike == held) & (row < found.row[one]))
        better &= alike >= np.float32(threshold or 0.0)
        one, row, alike = one[better], row[better], alike[better]
        order = np.lexsort((-row, alike))  # the best of a document is written last
        found.row[one[order]] = row[order]
        found.similarity[one[order]] = alike[order]
