"""n-grams of words as 64-bit numbers: what duplicates and leaks are found by."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.io.hashing import mix

__all__ = ["Hashes", "Offsets", "mixed", "ngrams", "ranges"]

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_BASE: Final = np.uint64(0x9E3779B97F4A7C15)


def mixed(numbers: Hashes, seed: int = 0) -> Hashes:
    """Return numbers whose every bit depends on every bit of those given.

    Parameters
    ----------
    numbers : uint64 array
    seed
        Another seed is another function.

    Examples
    --------
    >>> found = mixed(np.array([1, 2], np.uint64))
    >>> bool(found[0] != found[1]), found.dtype.name
    (True, 'uint64')
    """
    return mix(numbers + np.uint64(((2 * seed + 1) * int(_BASE)) & (2**64 - 1)))


def ranges(starts: Offsets, lengths: Offsets) -> Offsets:
    """Return the numbers of all ranges ``start, ..., start + length - 1``, one after the other.

    Examples
    --------
    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)


def ngrams(
    words: Hashes, offsets: Offsets, n: int, *, whole: bool = True
) -> tuple[Hashes, Offsets]:
    """Return the hashes of all runs of `n` words within a document.

    Parameters
    ----------
    words : uint64 array, shape (w,)
        Hashes of the words of all documents, one document after the other.
    offsets : int array, shape (d + 1,)
        Where each document begins, and w.
    n
        Words in a run.
    whole
        Whether a document of fewer words counts as one run of all its words; else it has none.

    Returns
    -------
    The hashes and the offsets of each document's. The order of words within a run counts.

    Examples
    --------
    >>> words = np.array([7, 8, 9, 7, 8], np.uint64)
    >>> grams, offsets = ngrams(words, np.array([0, 3, 5]), 2)
    >>> offsets.tolist(), bool(grams[0] == grams[2])
    ([0, 2, 3], True)
    """
    lengths = np.diff(offsets)
    # Horner's scheme; runs that reach into the next document are cut out below.
    total = words.copy()
    for step in range(1, min(n, len(words))):
        total[: len(words) - step] *= _BASE
        total[: len(words) - step] += words[step:]
    counts = np.maximum(lengths - n + 1, 0)
    short = np.flatnonzero((lengths < n) & (lengths > 0)) if whole else np.empty(0, np.int64)
    counts[short] = 1
    found = total[ranges(offsets[:-1], counts)]
    bounds = np.concatenate(([0], np.cumsum(counts)))
    if short.size:
        found[bounds[short]] = _whole(words, offsets[short], lengths[short])
    return mixed(found), bounds


def _whole(words: Hashes, starts: Offsets, lengths: Offsets) -> Hashes:
    total = np.zeros(len(starts), np.uint64)
    for step in range(int(lengths.max())):
        inside = lengths > step
        total[inside] = total[inside] * _BASE + words[starts[inside] + step]
    return total
