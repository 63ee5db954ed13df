"""Cut one text into pieces of at most so many tokens, at the best places."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.rag.boundaries import Boundaries, Level

__all__ = ["Text", "cut", "cut_tokens", "halves"]

Piece = tuple[int, int]

_FULL: Final = 3  # a cut below headings must leave a piece at least a third full
_SPACES: Final = (" ", "\n", "\t", "\u3000", "\u00a0")


@dataclass(frozen=True)
class Text:
    """A text, where its tokens begin, and the places for cuts in it."""

    text: str
    starts: npt.NDArray[np.int64]
    boundaries: Boundaries

    def tokens(self, place: int) -> int:
        """Return how many tokens begin before a place."""
        return int(self.starts.searchsorted(place))

    def strip(self, start: int, end: int) -> Piece:
        """Return the range without white space at its ends."""
        inner = self.text[start:end]
        left = len(inner) - len(inner.lstrip())
        return start + left, max(start + left, start + len(inner.rstrip()))


def cut_tokens(found: Text, size: int, overlap: int) -> list[Piece]:
    """Return windows of `size` tokens, each `overlap` tokens before the end of the last."""
    starts, end = found.starts, len(found.text)
    pieces: list[Piece] = []
    at, first = 0, 0
    while True:
        last = at + size >= len(starts)
        stop = end if last else max(int(starts[at + size]), first + 1)
        start, stop = found.strip(first, stop)
        # White space may be tokens: a window of the rest of it adds nothing.
        if start < stop and (not pieces or stop > pieces[-1][1]):
            pieces.append((start, stop))
        if last:
            return pieces
        at += size - overlap
        first = max(int(starts[at]), first + 1)


def cut(
    found: Text, size: int, overlap: int = 0, start: int = 0, end: int | None = None
) -> list[Piece]:
    """Return the pieces of a range of a text, greedily from its start.

    A piece ends at the strongest boundary that its tokens reach. It may hold several
    sections only when all of them fit; the rest of a section that did not fit is never
    mixed with the next one. Tables and code that fit are not cut.

    Parameters
    ----------
    found
        The text. Its token count is that of the whole text: a piece by itself may have
        more, which the caller measures.
    size, overlap
        In tokens. Overlaps begin at a sentence or a word and never reach over a heading.
    start, end
        The range.
    """
    stop = len(found.text) if end is None else end
    whole = _whole(found, size)
    pieces: list[Piece] = []
    level, low = int(Level.START), start  # what begins at `start`, and how far we have come
    while True:
        start, _ = found.strip(start, stop)
        low = max(low, start)
        if low >= stop or not found.text[low:stop].strip():
            return pieces
        place, level, barred = _next_cut(found, size, start, stop, low, level, whole)
        piece = found.strip(start, place)
        if not pieces or piece[1] > pieces[-1][1]:
            pieces.append(piece)
        start = low = place
        if overlap and place < stop and not barred:
            start = _step_back(found, overlap, piece[0] + 1, place, whole)
            start = start if _leaves_whole(found, size, start, place, whole) else place


def halves(found: Text, piece: Piece) -> list[Piece]:
    """Cut a piece in two where its tokens do not say how."""
    middle = (piece[0] + piece[1]) // 2
    parts = [found.strip(piece[0], middle), found.strip(middle, piece[1])]
    return [p for p in parts if p[0] < p[1]]


def _whole(found: Text, size: int) -> list[Piece]:
    spans = found.boundaries.whole
    return [s for s in spans if found.tokens(s[1]) - found.tokens(s[0]) <= size]


def _next_cut(
    found: Text, size: int, start: int, end: int, low: int, level: int, whole: list[Piece]
) -> tuple[int, int, bool]:
    """Return where a piece ends, what begins there, and whether it is another section."""
    first = found.tokens(start)
    starts = found.starts
    at = first + size
    stop = end if at >= len(starts) else min(end, max(int(starts[at]), low + 1))
    barrier = _barrier(found.boundaries, low, stop, level)
    if barrier is not None:
        return *barrier, True
    if stop == end:
        return end, level, False
    inside = _around(whole, stop)
    if inside is not None and inside[0] > low:
        stop = inside[0]
    place, new = _best(found, first + -(-size // _FULL), low, stop)
    return place, new, new > Level.HEADING


def _barrier(bounds: Boundaries, low: int, stop: int, level: int) -> tuple[int, int] | None:
    """Return the next heading that stands above what the piece began with."""
    if level >= Level.HEADING + 6 or not bounds.headings:
        return None
    for at in range(bisect_right(bounds.places, low), bisect_right(bounds.places, stop)):
        if bounds.levels[at] > max(level, Level.HEADING):
            return bounds.places[at], bounds.levels[at]
    return None


def _best(found: Text, full: int, low: int, stop: int) -> tuple[int, int]:
    """Return the best place for a cut after `low` and up to `stop`, and its level."""
    places, levels = found.boundaries.places, found.boundaries.levels
    best, strongest = -1, -1
    enough = int(found.starts[full]) if full < len(found.starts) else stop
    for at in range(bisect_right(places, stop) - 1, bisect_right(places, low) - 1, -1):
        place, level = places[at], levels[at]
        if level > strongest and (place >= enough or level > Level.HEADING or place == stop):
            best, strongest = place, level
    if best >= 0:
        return best, strongest
    space = max(found.text.rfind(s, low + 1, stop) for s in _SPACES)
    return (space if space >= enough else stop), int(Level.WORD)


def _around(whole: list[Piece], place: int) -> Piece | None:
    """Return the table or code that a place is in, not at its ends."""
    at = bisect_left(whole, (place,)) - 1
    return whole[at] if at >= 0 and whole[at][0] < place < whole[at][1] else None


def _leaves_whole(found: Text, size: int, start: int, place: int, whole: list[Piece]) -> bool:
    """Whether a table or code that comes next still fits behind the repeated text."""
    at = bisect_left(whole, (place,))
    if at == len(whole) or found.text[place : whole[at][0]].strip():
        return True
    return found.tokens(whole[at][1]) - found.tokens(start) <= size


def _step_back(found: Text, overlap: int, least: int, place: int, whole: list[Piece]) -> int:
    """Return where the next piece begins so that it repeats at most `overlap` tokens."""
    first = max(0, found.tokens(place) - overlap)
    if first and found.starts[first] == found.starts[first - 1]:  # in the middle of a character
        first = int(found.starts.searchsorted(found.starts[first], "right"))
    if first >= len(found.starts):
        return place
    target = max(int(found.starts[first]), least)
    while target < place and (inside := _around(whole, target)) is not None:
        target = inside[1]
    places = found.boundaries.places
    at = bisect_left(places, target)
    while at < len(places) and places[at] < place:
        if _around(whole, places[at]) is None:
            return places[at]
        at += 1
    if target >= place:
        return place
    spaces = [i for s in _SPACES if (i := found.text.find(s, target, place)) >= 0]
    before = found.text[target - 1].isspace()
    return target if before or not spaces else min(spaces)
