"""What is said again in a document: repeated lines, the top n-gram, duplicate n-grams."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.segment import Segments, Spans
from llmlabel.io.hashing import mix

__all__ = ["duplicate_characters", "first_equal", "ngram_repeats", "repeated"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_NEXT: Final = np.uint64(0xD6E8FEB86659FD93)
_DOCUMENT: Final = np.uint64(0xA0761D6478BD642F)
_SPREAD: Final = 0x9E3779B97F4A7C15
_ALL: Final = (1 << 64) - 1
_LOW: Final = (1 << 32) - 1


def first_equal(keys: Hashes) -> Ints:
    """Return for each key the index of the first that equals it.

    A table of slots instead of a sort: of the keys of a slot the first stays, those equal to
    it are done, and the others go to another table.

    Examples
    --------
    >>> first_equal(np.array([7, 8, 7, 9, 8], np.uint64)).tolist()
    [0, 1, 0, 3, 1]
    """
    out = left = np.arange(len(keys))
    rest, spread = keys, _SPREAD
    while len(left):
        bits = len(left).bit_length() + 1
        slot = ((rest * np.uint64(spread)) >> np.uint64(64 - bits)).view(np.int64)
        table = np.empty(1 << bits, np.int32)
        table[slot[::-1]] = left[::-1]  # of equal slots the last written stays
        owner = table.take(slot).astype(np.int64)
        if left is out:
            out = owner
        else:
            out[left] = owner
        left = left.compress(keys.take(owner) != rest)
        rest = keys.take(left)
        spread = spread * _SPREAD & _ALL
    return out


def repeated(hashes: Hashes, documents: Ints) -> Bools:
    """Return which items equal an earlier one of their document.

    Parameters
    ----------
    hashes : uint64 array, shape (k,)
    documents : int64 array, shape (k,)

    Examples
    --------
    >>> repeated(np.array([7, 8, 7, 7], np.uint64), np.array([0, 0, 0, 1])).tolist()
    [False, False, True, False]
    """
    keys = mix(hashes + documents.astype(np.uint64) * _DOCUMENT)
    return np.asarray(first_equal(keys) != np.arange(len(keys)))


def duplicate_characters(segments: Segments, spans: Spans) -> tuple[Ints, Floats]:
    """Return per document how many spans repeat an earlier one, and their code points.

    No span is empty. Only those that are as long and begin, end and have the same in the
    middle as another are read.
    """
    codes, documents = segments.codes, spans.document
    keys = spans.length.astype(np.uint64)
    for places in (spans.start, spans.end - 1, (spans.start + spans.end) >> 1):
        keys = keys * _NEXT + codes.take(places)
    like = first_equal(keys * _NEXT + documents.astype(np.uint64) * _DOCUMENT)
    some = np.flatnonzero(np.bincount(like, minlength=len(like)).take(like) > 1)
    again = some.compress(repeated(segments.hash(segments.subset(spans, some)), documents[some]))
    n, document = len(segments), documents.take(again)
    characters = np.bincount(document, spans.length.take(again), n)
    return np.bincount(document, minlength=n), characters.astype(np.float64, copy=False)


def ngram_repeats(
    segments: Segments, top: tuple[int, ...], duplicate: tuple[int, ...]
) -> tuple[dict[int, Floats], dict[int, Floats]]:
    """Return the code points of the top n-grams and of all duplicate n-grams.

    Only a run of n words of which both runs of n - 1 occur twice can itself occur twice:
    so each n looks only at what is left of the one before.

    Parameters
    ----------
    segments
        n documents.
    top
        Lengths of n-grams, in words, whose most frequent one is measured, joined by spaces,
        as often as it occurs; of equally frequent ones the first.
    duplicate
        Lengths for which, read from the left, each n-gram that occurs before counts, and the
        scan goes on after it; joined by nothing. An earlier occurrence may begin inside one
        that was skipped, where datatrove would not see it.

    Returns
    -------
    Two mappings from length to a float64 array of shape (n,).
    """
    words, hashes = segments.words, segments.word_hashes
    ends = np.zeros(len(words) + 1, np.int64)
    np.cumsum(words.length, out=ends[1:])
    tops: dict[int, Floats] = {}
    duplicates: dict[int, Floats] = {}
    places = np.arange(len(words))
    state = hashes + words.document.astype(np.uint64) * _DOCUMENT
    for n in range(2, max((*top, *duplicate)) + 1):
        kept = np.zeros(len(places), np.bool_)
        kept[:-1] = places[1:] == places[:-1] + 1
        if n == 2:  # later ones overlap, so that they are in one document
            kept[words.offsets[1:][words.counts > 0] - 1] = False
        chosen = np.flatnonzero(kept)
        places = places.take(chosen)
        state = state.take(chosen) * _NEXT + hashes.take(places + (n - 1))
        first = first_equal(state)
        count = np.bincount(first, minlength=len(first))
        if n in top:
            tops[n] = _top(words, places, count, ends, n)
        chosen = np.flatnonzero(count.take(first) > 1)
        count[chosen] = np.arange(len(chosen))  # where each of them is now
        first = count.take(first.take(chosen))
        places, state = places.take(chosen), state.take(chosen)
        if n in duplicate:
            taken = _leaps(places.compress(first != np.arange(len(first))), n)
            lengths = (ends[taken + n] - ends[taken]).astype(np.float64)
            sums = np.bincount(words.document[taken], lengths, len(segments))
            duplicates[n] = sums.astype(np.float64, copy=False)
    return tops, duplicates


def _top(words: Spans, places: Ints, count: Ints, ends: Ints, n: int) -> Floats:
    """Return the code points of each document's most frequent n-gram."""
    has = words.counts >= n
    best, most = words.offsets[:-1][has], np.ones(int(has.sum()), np.int64)
    firsts = np.flatnonzero(count > 1)
    if len(firsts):
        document = words.document[places[firsts]]
        begins = np.flatnonzero(np.diff(document, prepend=-1))
        # The greatest number is the highest count and, of those, the first place.
        packed = np.maximum.reduceat(count[firsts] << 32 | (-1 - places[firsts] & _LOW), begins)
        rows = (np.cumsum(has) - 1)[document[begins]]
        best[rows], most[rows] = -1 - packed & _LOW, packed >> 32
    out = np.zeros(len(has))
    out[has] = (ends[best + n] - ends[best] + n - 1) * most
    return out


def _leaps(places: Ints, n: int) -> Ints:
    """Return the places met by leaping from the first to the next that is n further, and on."""
    count = len(places)
    met = np.ones(count + 1, np.bool_)
    # After a gap the scan is at the next place whatever it did before.
    met[1:-1] = np.diff(places) >= n
    goal = places + n
    leap = np.minimum(np.arange(n, count + n + 1), count)
    # Mostly all places in between are there too.
    rest = np.flatnonzero(places.take(leap[:-1] - 1) != goal - 1)
    leap[rest] = np.searchsorted(places, goal.take(rest))
    # Doubled leaps: after k rounds all are met that take fewer than 2^k.
    while True:
        targets = leap.compress(met)
        if met.take(targets).all():
            return places.compress(met[:-1])
        met[targets] = True
        leap = leap.take(leap)
