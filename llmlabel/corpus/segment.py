"""One segmentation of a batch of documents that all filters and MinHash share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from ahocorasick_rs import BytesAhoCorasick, MatchKind

from llmlabel.corpus.characters import Kind, kinds, lowered
from llmlabel.corpus.words import word_spans
from llmlabel.errors import DataError
from llmlabel.io.hashing import mix

__all__ = ["Segments", "Spans", "batches", "segment"]

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

BATCH_CHARACTERS: Final = 1 << 19  # so that arrays of this size stay in the cache


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of the batch's code points, in order, and which document has which.

    Parameters
    ----------
    start, end : int64 arrays, shape (k,)
        Where each begins, and the place after its last code point.
    offsets : int64 array, shape (n + 1,)
        Document i has the spans ``offsets[i]:offsets[i + 1]``.
    """

    start: Ints
    end: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def length(self) -> Ints:
        """Code points per span, shape (k,)."""
        return self.end - self.start

    @cached_property
    def counts(self) -> Ints:
        """Spans per document, shape (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def document(self) -> Ints:
        """The document of each span, shape (k,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True, eq=False)
class Segments:
    r"""A batch of n documents as one array of code points, cut up.

    The parts that not every filter needs are found when they are first asked for.

    Parameters
    ----------
    codes : uint32 array, shape (c,)
        A newline, then each document and a newline after it.
    kinds : uint8 array, shape (c,)
        The `Kind` of each code point.
    offsets : int64 array, shape (n + 1,)
        Document i is ``codes[offsets[i]:offsets[i + 1] - 1]``.
    letters
        See `segment`.

    Examples
    --------
    >>> found = segment(["It's a test.", "Two lines,\nno more"])
    >>> [found.text(found.words, i) for i in range(5)]
    ['It', "'s", 'a', 'test', '.']
    >>> found.words.counts.tolist(), found.lines.counts.tolist()
    ([5, 5], [1, 2])
    >>> found.terms.counts.tolist()
    [4, 4]
    """

    codes: npt.NDArray[np.uint32]
    kinds: npt.NDArray[np.uint8]
    offsets: Ints
    letters: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def characters(self) -> Ints:
        """Code points per document, shape (n,)."""
        return np.diff(self.offsets) - 1

    @cached_property
    def words(self) -> Spans:
        """Words and punctuation, as spaCy's English tokenizer cuts them (see `words`)."""
        return self.spans(*word_spans(self.codes, self.kinds, letters=self.letters))

    @cached_property
    def terms(self) -> Spans:
        """Runs of letters, digits and marks: what duplicates and n-grams are counted on.

        In scripts without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) a term is one
        letter with its marks.
        """
        inside = self.kinds >= Kind.DIGIT
        start = inside & ~_before(inside)
        single = self.kinds == Kind.SINGLE
        if single.any():
            start |= single
            start |= inside & (self.kinds != Kind.MARK) & _before(single)
        end = inside & _after(start | ~inside)
        return self.spans(np.flatnonzero(start), np.flatnonzero(end) + 1)

    @cached_property
    def opens_piece(self) -> npt.NDArray[np.bool_]:
        """Whether white space stands before each word, shape of `words`."""
        return self.kinds.take(self.words.start - 1) <= Kind.SPACE

    @cached_property
    def pieces(self) -> Spans:
        """What is between white space, as `str.split` cuts it."""
        first = np.flatnonzero(self.opens_piece)
        last = np.append(first[1:], len(self.words))[: len(first)] - 1
        return self.spans(self.words.start.take(first), self.words.end.take(last))

    @cached_property
    def newline_lines(self) -> Spans:
        """What is between newlines, empty lines too."""
        breaks = np.flatnonzero(self.kinds == Kind.NEWLINE)
        return self.spans(breaks[:-1] + 1, breaks[1:])

    @cached_property
    def lines(self) -> Spans:
        """Lines as `str.splitlines` cuts them: at every line break, no empty one at the end."""
        breaks = np.flatnonzero(self.kinds <= Kind.BREAK)
        start, end = breaks[:-1] + 1, breaks[1:]
        closes = np.zeros(len(self.codes), np.bool_)
        closes[self.offsets[1:] - 1] = True
        none = (start == end) & closes[end]
        none |= (start == end) & (self.codes[end] == 10) & (self.codes[start - 1] == 13)
        return self.spans(start[~none], end[~none])

    def spans(self, start: Ints, end: Ints) -> Spans:
        """Return stretches, in order, with the documents that they are in."""
        return Spans(start, end, np.searchsorted(start, self.offsets))

    def subset(self, spans: Spans, kept: npt.NDArray[np.bool_] | Ints) -> Spans:
        """Return those spans for which a flag is set, or that have one of some indices."""
        return self.spans(spans.start[kept], spans.end[kept])

    @cached_property
    def line_edges(self) -> tuple[Ints, Ints]:
        """The first and the last word of each of `lines`."""
        return self.edges(self.lines)

    def edges(self, spans: Spans) -> tuple[Ints, Ints]:
        """Return the first and the last word in each span; the last is less where none is.

        Between spans there must be white space alone.
        """
        first = np.searchsorted(self.words.start, spans.start)
        return first, np.append(first[1:], len(self.words))[: len(first)] - 1

    def count(self, places: Ints) -> Ints:
        """Return how many of some places, in order, are in each document."""
        return np.diff(np.searchsorted(places, self.offsets))

    def totals(self, spans: Spans, numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """Return the sum of a number per span over each document's spans."""
        sums = np.bincount(spans.document, numbers, len(self))
        return sums.astype(np.float64, copy=False)

    @cached_property
    def ascii(self) -> bytes:
        """The batch in lower case, one byte per code point; what is no ASCII is 0x7f."""
        return np.minimum(self.codes, 127).astype(np.uint8).tobytes().lower()

    def find(self, phrases: Sequence[str]) -> Ints:
        """Return where ASCII phrases in lower case occur, whatever their case in the text."""
        search = BytesAhoCorasick([p.encode() for p in phrases], MatchKind.LeftmostFirst)
        found = search.find_matches_as_indexes(self.ascii)
        return np.array([start for _, start, _ in found], np.int64)

    @cached_property
    def word_hashes(self) -> Hashes:
        """A 64-bit hash of each word as it is written, shape of `words`."""
        return self.hash(self.words)

    @cached_property
    def term_hashes(self) -> Hashes:
        """A 64-bit hash of each term in lower case, shape of `terms`."""
        return span_hashes(_sums(lowered()[self.codes]), self.terms)

    def hash(self, spans: Spans) -> Hashes:
        """Return a 64-bit hash of the text of each span; equal texts have equal hashes."""
        ends = np.cumsum(spans.length)
        total = int(ends[-1]) if len(ends) else 0
        if "_code_sums" not in self.__dict__ and total * 8 < len(self.codes):
            starts = ends - spans.length
            places = np.arange(total) + np.repeat(spans.start - starts, spans.length)
            return span_hashes(_sums(self.codes.take(places)), Spans(starts, ends, spans.offsets))
        return span_hashes(self._code_sums, spans)

    def text(self, spans: Spans, i: int) -> str:
        """Return the text of one span."""
        return decode(self.codes[spans.start[i] : spans.end[i]])

    @cached_property
    def _code_sums(self) -> Hashes:
        return _sums(self.codes)


def segment(texts: Sequence[str], *, letters: bool = False) -> Segments:
    """Join a batch of documents into one array and look up what each code point is.

    Parameters
    ----------
    texts
        n documents; see `batches` for how many at a time.
    letters
        Whether in scripts without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) each letter
        is a word. Otherwise a word is what is between spaces, as datatrove's filters have it
        unless they are told the language; then mean lengths and n-grams say little of such
        texts. Either way thresholds made for English do not fit them. Terms are always cut.

    Raises
    ------
    DataError
        One is no text.

    Notes
    -----
    All filters on one segmentation take some 70 bytes per code point.
    """
    try:
        joined = "\n".join(["", *texts, ""])
    except TypeError:
        i, bad = next((i, t) for i, t in enumerate(texts) if not isinstance(t, str))
        raise DataError(f"expected a text, got {type(bad).__name__}", row=i) from None
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    offsets = np.ones(len(texts) + 1, np.int64)
    np.cumsum([len(text) + 1 for text in texts], out=offsets[1:])
    offsets[1:] += 1
    return Segments(codes, kinds()[codes], offsets, letters)


def batches(texts: Sequence[str], characters: int = BATCH_CHARACTERS) -> Iterator[slice]:
    """Cut documents into batches of about so many characters, in order.

    Examples
    --------
    >>> list(batches(["aaa", "bb", "c", "dddd"], characters=4))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    first, held = 0, 0
    for i, text in enumerate(texts):
        held += len(text)
        if held >= characters:
            yield slice(first, i + 1)
            first, held = i + 1, 0
    if first < len(texts):
        yield slice(first, len(texts))


def decode(codes: npt.NDArray[np.uint32]) -> str:
    """Return code points as text."""
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


# Hashes. A span's hash is a polynomial of its code points, taken from running sums, so that
# any span costs one subtraction; the bits are then mixed (splitmix64).
_BASE: Final = 0x9E3779B97F4A7C15 | 1
_STEP: Final = 12
_ROWS: Final = 16
_WORD: Final = (1 << 64) - 1


def _powers(base: int, count: int) -> Hashes:
    out = np.empty(count, np.uint64)
    value = 1
    for i in range(count):
        out[i] = value
        value = value * base & _WORD
    return out


_LOW: Final = _powers(_BASE, 1 << _STEP)
_INVERSE: Final = pow(_BASE, -1, 1 << 64)
_LOW_INVERSE: Final = _powers(_INVERSE, 1 << _STEP)


def _sums(codes: npt.NDArray[np.uint32]) -> Hashes:
    """Return running sums of ``code * base ** place``, one more than there are codes."""
    width = 1 << _STEP
    rows = -(-len(codes) // width)
    out = np.zeros(rows * width + 1, np.uint64)
    high = _powers(pow(_BASE, width, 1 << 64), rows)
    block = width * _ROWS
    for begin in range(0, len(codes), block):  # so that a block is still in the cache
        part = codes[begin : begin + block]
        target = out[begin + 1 : begin + 1 + block]
        target[: len(part)] = part
        table = target.reshape(-1, width)
        table *= _LOW
        table *= high[begin // width : begin // width + len(table), None]
        target[:1] += out[begin : begin + 1]
        np.cumsum(target, out=target)
    return out


def span_hashes(sums: Hashes, spans: Spans) -> Hashes:
    """Return the hash of each span from the running sums."""
    width = 1 << _STEP
    high = _powers(pow(_INVERSE, width, 1 << 64), len(sums) // width + 1)
    value = sums.take(spans.end) - sums.take(spans.start)
    value *= _LOW_INVERSE.take(spans.start & (width - 1))
    value *= high.take(spans.start >> _STEP)
    value += spans.length.view(np.uint64)  # the code point 0 is not seen otherwise
    return mix(value)


def _before(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return for each place what holds of the one before it."""
    out = np.empty_like(flags)
    out[0], out[1:] = False, flags[:-1]
    return out


def _after(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return for each place what holds of the one after it."""
    out = np.empty_like(flags)
    out[-1], out[:-1] = True, flags[1:]
    return out
