"""MinHash signatures: short rows of numbers that agree as often as two documents' n-grams do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.ngrams import Hashes, Offsets, mixed, ngrams, ranges
from llmlabel.errors import ConfigError

__all__ = ["EMPTY", "HASHES", "SHINGLE", "Signatures", "estimated_jaccard", "signatures"]

Signatures = npt.NDArray[np.uint16]
"""One row of `hashes` numbers per document; a row of nothing but `EMPTY` has no n-grams."""

HASHES: Final = 256
SHINGLE: Final = 5
EMPTY: Final = np.uint16(0xFFFF)

_NONE: Final = np.uint32(0xFFFFFFFF)
_ROUNDS: Final = 8
_CHUNK: Final = 1 << 17  # words at a time: 1 MB, what a core's cache holds
_DIRECT: Final = 1 << 17
_HALF: Final = np.uint64(32)
_OWN: Final = np.uint64(0xA24BAED4963EE407)


def signatures(
    words: Hashes, offsets: Offsets, *, shingle: int = SHINGLE, hashes: int = HASHES
) -> Signatures:
    """Return the MinHash signature of each document.

    Two signatures agree in a share of their places whose mean is the Jaccard similarity J of
    the two sets of n-grams, with a standard deviation of at most sqrt(J (1 - J) / hashes):
    .031 with 256. They depend on the words alone: the same on every machine and in every run.

    Parameters
    ----------
    words : uint64 array, shape (w,)
        Hashes of the words of all documents (`Segments.term_hashes`).
    offsets : int array, shape (d + 1,)
        Where each document begins, and w (``Segments.terms.offsets``).
    shingle
        Words per n-gram; a document of fewer words is one n-gram. Where a script puts no
        spaces between words, a word is a character.
    hashes
        Numbers per signature, a multiple of 4; each takes two bytes.

    Returns
    -------
    uint16 array of shape (d, hashes): 512 MB per million documents at 256.

    Notes
    -----
    Fast similarity sketching (S. Dahlgaard, M. Knudsen, M. Thorup 2017, FOCS): each n-gram
    falls into one place and the smallest stays; places without any are filled by further
    rounds with other hash functions, and what is still empty after eight of them by plain
    MinHash. So a long document costs one step per n-gram instead of one per n-gram and
    number, and a short one has no places that are copies of others. Of each smallest value
    the low 16 bits are kept (P. Li, A. C. König 2010, b-bit minwise hashing).

    Examples
    --------
    >>> words = np.arange(30, dtype=np.uint64)
    >>> both = np.concatenate([words[:20], words[10:]])
    >>> a, b = signatures(both, np.array([0, 20, 40]), shingle=1)
    >>> bool(abs(estimated_jaccard(a, b) - 1 / 3) < 0.1)
    True
    """
    if hashes < 4 or hashes % 4:
        raise ConfigError(f"hashes: expected a multiple of 4, got {hashes}")
    if shingle < 1:
        raise ConfigError(f"shingle: expected at least 1 word, got {shingle}")
    out = np.full((len(offsets) - 1, hashes), EMPTY, np.uint16)
    for first, last in _parts(offsets):
        here = offsets[first : last + 1]
        grams, bounds = ngrams(words[here[0] : here[-1]], here - here[0], shingle)
        out[first:last] = _sketch(grams, bounds, hashes)
    return out


def estimated_jaccard(left: Signatures, right: Signatures) -> npt.NDArray[np.float32]:
    """Return the share of places in which two signatures, or two arrays of them, agree."""
    return np.asarray((left == right).mean(axis=-1), np.float32)


def _parts(offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Yield runs of documents of about `_CHUNK` words, at most 4,096 documents."""
    first, n = 0, len(offsets) - 1
    while first < n:
        last = int(np.searchsorted(offsets, offsets[first] + _CHUNK, side="right")) - 1
        last = min(max(last, first + 1), first + 4096, n)
        yield first, last
        first = last


def _sketch(grams: Hashes, offsets: Offsets, hashes: int) -> npt.NDArray[np.uint16]:
    counts = np.diff(offsets)
    best = _round(grams, np.repeat(np.arange(len(counts)), counts), len(counts), hashes)
    for number in range(1, _ROUNDS):
        todo = np.flatnonzero((best == _NONE).any(axis=1) & (counts > 0))
        if not todo.size:
            break
        again = mixed(grams[ranges(offsets[todo], counts[todo])], number)
        owner = np.repeat(np.arange(len(todo)), counts[todo])
        more = _round(again, owner, len(todo), hashes)
        best[todo] = np.where(best[todo] == _NONE, more, best[todo])
    _fill_directly(best, grams, offsets)
    # A multiplication spreads what the smallest values have in common: their leading zeros.
    values = (best * np.uint32(0x9E3779B1) >> np.uint32(16)).astype(np.uint16)
    values[counts == 0] = EMPTY
    return values


def _round(grams: Hashes, owner: Offsets, documents: int, hashes: int) -> npt.NDArray[np.uint32]:
    """Throw each n-gram into one place of its document; the smallest stays."""
    best = np.full(documents * hashes, _NONE, np.uint32)
    place = ((grams >> _HALF) * np.uint64(hashes) >> _HALF).astype(np.int64)
    place += owner * hashes
    np.minimum.at(best, place, grams.astype(np.uint32))
    return best.reshape(documents, hashes)


def _fill_directly(best: npt.NDArray[np.uint32], grams: Hashes, offsets: Offsets) -> None:
    """Give places that are still empty the smallest of all n-grams by a function of their own."""
    counts = np.diff(offsets)
    rows, places = np.nonzero((best == _NONE) & (counts > 0)[:, None])
    work = np.cumsum(counts[rows])
    first = 0
    while first < len(rows):
        done = work[first - 1] if first else 0
        last = max(int(np.searchsorted(work, done + _DIRECT, side="right")), first + 1)
        row, place = rows[first:last], places[first:last]
        length = counts[row]
        own = place.astype(np.uint64)
        own *= _OWN
        values = grams[ranges(offsets[row], length)]
        values += np.repeat(own, length)
        starts = np.cumsum(length) - length
        smallest = np.minimum.reduceat((mixed(values, _ROUNDS) >> _HALF).astype(np.uint32), starts)
        best[row, place] = smallest
        first = last
