"""The rules of C4: lines are dropped first, then documents by what is left of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.characters import Kind, Mark, ends_sentence, marks
from llmlabel.corpus.ngrams import ranges
from llmlabel.corpus.rules import Family, Values, judge
from llmlabel.corpus.segment import Segments, batches, decode, segment
from llmlabel.corpus.verdict import Verdict

__all__ = ["C4", "C4_FAMILY", "C4Lines", "c4", "c4_clean"]

POLICIES: Final = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_MARKED: Final = ("[edit]", "[citation needed]")
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class C4Lines:
    """Which lines are dropped.

    Parameters
    ----------
    max_word_length
        Those with a longer word (between white space).
    min_words
        Those with fewer.
    punctuation
        Those that do not end in one of these, or end in ``...``.
    phrases
        Those with one of these ASCII phrases, whatever its case.
    citations
        Whether ``[1]``, ``[]``, ``[edit]`` and ``[citation needed]`` are taken out.
    """

    max_word_length: int = 1000
    min_words: int = 3
    punctuation: str = ".?!\"'"
    phrases: tuple[str, ...] = ("javascript", *POLICIES)
    citations: bool = True


@dataclass(frozen=True)
class C4:
    """Thresholds of C4's rules; None turns a rule off.

    Parameters
    ----------
    max_lorem_ipsum, max_curly_brackets
        Lines with "lorem ipsum", and with ``{``, among those kept so far.
    min_sentences
        In the lines that are kept.
    lines
        Which lines are dropped.
    """

    max_lorem_ipsum: float | None = 0
    max_curly_brackets: float | None = 0
    min_sentences: float | None = 5
    lines: C4Lines = field(default_factory=C4Lines)


def c4(documents: Segments | Sequence[str], thresholds: C4 | None = None) -> Verdict:
    """Drop documents with code, with filler or with too few whole sentences.

    Parameters
    ----------
    documents
        n texts, or a segmentation that other filters share.
    thresholds
        By default the published ones.

    See Also
    --------
    c4_clean : the lines that are left.

    Notes
    -----
    Raffel et al. (2020), Exploring the limits of transfer learning with a unified
    text-to-text transformer, section 2.2, and the code of its data set; as datatrove's
    C4QualityFilter reads them, without the list of bad words. Where a document has both
    filler and a bracket the reason is the filler, not what comes first. Sentences end at
    more marks than spaCy's (Khmer, for example), and decisions differ in 4 of 10,000 documents.

    Examples
    --------
    >>> c4(["One sentence is not enough."]).reason.tolist()
    ['c4.min_sentences']
    """
    return judge(C4_FAMILY, documents, thresholds or C4())


def c4_clean(documents: Segments | Sequence[str], thresholds: C4 | None = None) -> list[str]:
    r"""Return each document's lines that C4 keeps, citations taken out.

    Parameters
    ----------
    documents
        n texts, or a segmentation that other filters share.

    Examples
    --------
    >>> c4_clean(["A line that ends well.[1]\nShare this\nAnd it ends here."])
    ['A line that ends well.\nAnd it ends here.']
    """
    limits = (thresholds or C4()).lines
    if isinstance(documents, Segments):
        return _clean(documents, limits)
    return [
        text for part in batches(documents) for text in _clean(segment(documents[part]), limits)
    ]


@dataclass(frozen=True)
class _Lines:
    """The lines of a batch, without white space at their ends.

    ``end`` is where the text ends, citations at the end left out; ``kept`` is what the rules
    on lines before the brackets leave, ``left`` what all of them leave.
    """

    start: Ints
    end: Ints
    document: Ints
    first: Ints
    last: Ints
    kept: Bools
    left: Bools


def _measure(segments: Segments, thresholds: C4) -> Values:
    lines = _lines(segments, thresholds.lines)
    n = len(segments)

    def documents(flags: Bools) -> npt.NDArray[np.float64]:
        return np.bincount(lines.document[flags], minlength=n).astype(np.float64)

    lorem = lines.kept & _has(lines.start, lines.end, segments.find(["lorem ipsum"]))
    bracket = lines.kept & _has(lines.start, lines.end, np.flatnonzero(segments.codes == ord("{")))
    sentences = _sentences(segments, lines)
    if thresholds.lines.citations:
        _without_citations(segments, lines, thresholds.lines, sentences)
    return {
        "lorem_ipsum": documents(lorem),
        "curly_brackets": documents(bracket),
        "sentences": np.bincount(lines.document, sentences * lines.left, n).astype(np.float64),
    }


def _lines(segments: Segments, limits: C4Lines) -> _Lines:
    words, every = segments.words, segments.lines
    first, last = segments.line_edges
    some = np.flatnonzero(first <= last)
    first, last, document = first.take(some), last.take(some), every.document.take(some)
    start, end = words.start.take(first), words.end.take(last)
    pieces = np.cumsum(segments.opens_piece)
    kept = np.asarray(pieces.take(last) - pieces.take(first) + 1 >= limits.min_words)
    long = segments.pieces.start.compress(segments.pieces.length > limits.max_word_length)
    kept &= ~_has(start, end, long)
    close = _before_citations(segments, start, end) if limits.citations else end
    codes = segments.codes
    kept &= np.isin(codes[close - 1], [ord(c) for c in limits.punctuation]) & (close > start)
    three = np.asarray(close - start >= 3)
    for back in (1, 2, 3):
        three &= codes[close - back] == ord(".")
    kept &= ~three
    left = kept
    if limits.phrases:
        left = kept & ~_has(start, end, segments.find(limits.phrases))
    return _Lines(start, close, document, first, last, kept, left)


def _has(start: Ints, end: Ints, places: Ints) -> Bools:
    """Return which lines have one of some places."""
    line = np.searchsorted(start, places, side="right") - 1
    inside = (line >= 0) & (places < end.take(line))
    out = np.zeros(len(start), np.bool_)
    out[line.compress(inside)] = True
    return out


def _citations(segments: Segments) -> tuple[Ints, Ints]:
    """Return where citations begin and end: ``[``, digits or a set word, ``]``."""
    opens = np.flatnonzero(segments.codes == ord("["))
    closes = np.flatnonzero(segments.codes == ord("]"))
    at = np.searchsorted(closes, opens)
    opens, at = opens[at < len(closes)], at[at < len(closes)]
    end = closes[at] + 1
    digits = np.flatnonzero(segments.kinds == Kind.DIGIT)
    count = np.searchsorted(digits, end) - np.searchsorted(digits, opens)
    ok = count == end - opens - 2
    for phrase in _MARKED:
        rows = np.flatnonzero(end - opens == len(phrase))
        for k, character in enumerate(phrase):
            rows = rows.compress(segments.codes.take(opens.take(rows) + k) == ord(character))
        ok[rows] = True
    return opens.compress(ok), end.compress(ok)


def _before_citations(segments: Segments, start: Ints, end: Ints) -> Ints:
    """Return where lines end when the citations at their ends are taken out."""
    opens, closes = _citations(segments)
    if not len(opens):
        return end
    # Where one begins at the end of another, all of them go.
    first = np.ones(len(opens), np.bool_)
    first[1:] = opens[1:] != closes[:-1]
    begin = opens.take(np.maximum.accumulate(np.where(first, np.arange(len(opens)), 0)))
    at = np.minimum(np.searchsorted(closes, end), len(closes) - 1)
    return np.where(closes.take(at) == end, np.maximum(begin.take(at), start), end)


def _sentences(segments: Segments, lines: _Lines) -> Ints:
    """Return the sentences of each line: a new one begins at the first word after its end.

    As spaCy's sentencizer counts: the end is a mark on its own, and punctuation that
    follows still belongs to it.
    """
    words, codes = segments.words, segments.codes
    opening = codes[words.start]
    ends = ends_sentence()[opening] & (words.length == 1)
    others = (marks()[opening] & Mark.PUNCTUATION) == 0
    others |= (marks()[codes[words.end - 1]] & Mark.PUNCTUATION) == 0
    others = np.flatnonzero(others)
    at = np.flatnonzero(ends)
    line = np.searchsorted(lines.first, at, side="right") - 1
    here = np.searchsorted(others, at)
    ok = (line >= 0) & (here < len(others))
    at, line, following = at[ok], line[ok], others[here[ok]]
    ok = (following <= lines.last[line]) & (words.start[following] < lines.end[line])
    line, following = line[ok], following[ok]
    new = np.ones(len(following), np.bool_)
    new[1:] = np.diff(following) > 0
    return 1 + np.bincount(line[new], minlength=len(lines.start))


def _without_citations(segments: Segments, lines: _Lines, limits: C4Lines, sentences: Ints) -> None:
    """Count once more in lines with a citation, which has hidden the mark before it."""
    opens, _ = _citations(segments)
    rows = np.flatnonzero(lines.left & _has(lines.start, lines.end, opens))
    if len(rows):
        bare = segment(_texts(segments, lines, rows, citations=True))
        sentences[rows] = _sentences(bare, _lines(bare, limits))


def _texts(segments: Segments, lines: _Lines, rows: Ints, *, citations: bool) -> list[str]:
    """Return the text of some lines, citations taken out."""
    left = np.ones(len(segments.codes), np.bool_)
    if citations:
        opens, closes = _citations(segments)
        left[ranges(opens, closes - opens)] = False
    spans = zip(lines.start.take(rows), lines.end.take(rows), strict=True)
    return [decode(segments.codes[start:end][left[start:end]]) for start, end in spans]


def _clean(segments: Segments, limits: C4Lines) -> list[str]:
    lines = _lines(segments, limits)
    rows = np.flatnonzero(lines.left)
    texts = _texts(segments, lines, rows, citations=limits.citations)
    ends = np.searchsorted(lines.document.take(rows), np.arange(len(segments) + 1)).tolist()
    return ["\n".join(texts[a:b]).strip() for a, b in itertools.pairwise(ends)]


C4_FAMILY: Final = Family("c4", C4, _measure)
