"""The quality and repetition rules of Gopher's training data, MassiveText."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.characters import Kind, symbols
from llmlabel.corpus.ngrams import ranges
from llmlabel.corpus.repeats import duplicate_characters, ngram_repeats
from llmlabel.corpus.rules import Family, Values, judge, ratio
from llmlabel.corpus.segment import Segments, Spans, segment
from llmlabel.corpus.verdict import Verdict

__all__ = [
    "QUALITY",
    "REPETITION",
    "GopherQuality",
    "GopherRepetition",
    "gopher_quality",
    "gopher_repetition",
]

STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GopherQuality:
    """Thresholds of the quality rules; None turns a rule off.

    Parameters
    ----------
    min_words, max_words
        Words that are not punctuation alone.
    min_word_length, max_word_length
        Their mean length in code points.
    max_hashes, max_ellipses
        ``#`` and ellipses (``...`` or ``…``) per word.
    max_bullet_lines
        Share of lines that begin with a bullet (``•`` or ``-``).
    max_ellipsis_lines
        Share of lines that end in an ellipsis.
    min_alphabetic_words
        Share of words with at least one letter.
    min_stop_words
        How many of `stop_words` occur.
    stop_words
        As they are written.
    """

    min_words: float | None = 50
    max_words: float | None = 100_000
    min_word_length: float | None = 3
    max_word_length: float | None = 10
    max_hashes: float | None = 0.1
    max_ellipses: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_stop_words: float | None = 2
    stop_words: tuple[str, ...] = STOP_WORDS


@dataclass(frozen=True)
class GopherRepetition:
    """Thresholds of the repetition rules: shares of a document; None turns a rule off.

    Parameters
    ----------
    min_characters
        An empty document is dropped.
    max_duplicate_paragraphs, max_duplicate_paragraph_characters
        Paragraphs (cut at empty lines) that repeat an earlier one: of all paragraphs, and
        their code points of all.
    max_duplicate_lines, max_duplicate_line_characters
        The same of lines that are not empty.
    max_top_2_gram, max_top_3_gram, max_top_4_gram
        Code points of the most frequent n-gram of words, as often as it occurs.
    max_duplicate_5_grams, ..., max_duplicate_10_grams
        Code points in n-grams that have occurred before, each counted once.
    """

    min_characters: float | None = 1
    max_duplicate_paragraphs: float | None = 0.3
    max_duplicate_paragraph_characters: float | None = 0.2
    max_duplicate_lines: float | None = 0.3
    max_duplicate_line_characters: float | None = 0.2
    max_top_2_gram: float | None = 0.2
    max_top_3_gram: float | None = 0.18
    max_top_4_gram: float | None = 0.16
    max_duplicate_5_grams: float | None = 0.15
    max_duplicate_6_grams: float | None = 0.14
    max_duplicate_7_grams: float | None = 0.13
    max_duplicate_8_grams: float | None = 0.12
    max_duplicate_9_grams: float | None = 0.11
    max_duplicate_10_grams: float | None = 0.1


def gopher_quality(
    documents: Segments | Sequence[str], thresholds: GopherQuality | None = None
) -> Verdict:
    """Drop documents that do not read like prose.

    Parameters
    ----------
    documents
        n texts, or a segmentation that other filters share.
    thresholds
        By default the published ones.

    Returns
    -------
    The first rule that fails, in datatrove's order, and the measures.

    Notes
    -----
    Rae et al. (2021), Scaling language models: methods, analysis & insights from training
    Gopher, section A1.1; as datatrove's GopherQualityFilter reads it: stop words in small
    letters only, the share of alphabetic words counts punctuation too. Words differ in 2 of
    1,000 (see `words`), and decisions in 1 of 1,000 documents, those at a threshold.

    Examples
    --------
    >>> gopher_quality(["Too short."]).reason.tolist()
    ['gopher_quality.min_words']
    """
    return judge(QUALITY, documents, thresholds or GopherQuality())


def gopher_repetition(
    documents: Segments | Sequence[str], thresholds: GopherRepetition | None = None
) -> Verdict:
    r"""Drop documents that say the same again and again.

    Parameters
    ----------
    documents
        n texts, or a segmentation that other filters share.
    thresholds
        By default the published ones.

    Notes
    -----
    Rae et al. (2021), Table A1; as datatrove's GopherRepetitionFilter reads it: an n-gram is
    one of words and punctuation, and the scan for duplicates skips over those it finds. What
    it skipped counts here as having occurred, there not: decisions differ in 4 of 1,000
    documents, nearly all of which are dropped here.

    Examples
    --------
    >>> gopher_repetition(["Buy now!\n" * 9]).reason.tolist()
    ['gopher_repetition.max_duplicate_lines']
    """
    return judge(REPETITION, documents, thresholds or GopherRepetition())


def _quality(segments: Segments, thresholds: GopherQuality) -> Values:
    words, lines = segments.words, segments.lines
    spoken = ~_all_symbols(segments)
    count = segments.totals(words, spoken)
    bullets, ellipses = _line_marks(segments)
    dots, one = _ellipses(segments)
    hashes = np.flatnonzero(segments.codes == ord("#"))
    return {
        "words": count,
        "word_length": ratio(segments.totals(words, words.length * spoken), count),
        "hashes": ratio(segments.count(hashes), words.counts),
        "ellipses": ratio(dots + one, words.counts),
        "bullet_lines": ratio(segments.totals(lines, bullets), lines.counts),
        "ellipsis_lines": ratio(segments.totals(lines, ellipses), lines.counts),
        "alphabetic_words": ratio(segments.totals(words, _alphabetic(segments)), words.counts),
        "stop_words": _stop_words(segments, thresholds.stop_words),
    }


def _all_symbols(segments: Segments) -> Bools:
    """Return which words are punctuation alone."""
    words, table = segments.words, symbols()
    out = table.take(segments.codes.take(words.start))
    rest = np.flatnonzero(out & (words.length > 1))
    out[rest] = _each(words, rest, lambda at: table.take(segments.codes.take(at)), np.logical_and)
    return out


def _alphabetic(segments: Segments) -> Bools:
    """Return which words have a letter."""
    words, kinds = segments.words, segments.kinds
    out = kinds.take(words.start) >= Kind.LOWER
    rest = np.flatnonzero(~out & (words.length > 1))
    out[rest] = _each(words, rest, lambda at: kinds.take(at) >= Kind.LOWER, np.logical_or)
    return out


def _each(words: Spans, rows: Ints, flag: Callable[[Ints], Bools], how: np.ufunc) -> Bools:
    """Return whether a flag holds of all, or of any, code points of some words."""
    if not len(rows):
        return np.zeros(0, np.bool_)
    lengths = words.length.take(rows)
    flat = flag(ranges(words.start.take(rows), lengths))
    return np.asarray(how.reduceat(flat, np.cumsum(lengths) - lengths))


def _ellipses(segments: Segments) -> tuple[Ints, Ints]:
    """Return per document how often ``...`` occurs, none overlapping, and ``…``."""
    dots = np.flatnonzero(segments.codes == ord("."))
    first = np.ones(len(dots), np.bool_)
    first[1:] = np.diff(dots) > 1
    begins = np.flatnonzero(first)
    threes = np.diff(np.append(begins, len(dots))) // 3
    at = np.repeat(dots[begins], threes)
    return segments.count(at), segments.count(np.flatnonzero(segments.codes == ord("…")))


def _line_marks(segments: Segments) -> tuple[Bools, Bools]:
    """Return which lines begin with a bullet, and which end in an ellipsis."""
    words, codes, lines = segments.words, segments.codes, segments.lines
    first, last = segments.line_edges
    some = np.flatnonzero(first <= last)
    start, end = words.start[first[some]], words.end[last[some]]
    bullets, ellipses = np.zeros((2, len(lines)), np.bool_)
    opening = codes[start]
    bullets[some] = (opening == ord("•")) | (opening == ord("-"))
    three = (end - lines.start[some]) >= 3
    for back in (1, 2, 3):
        three &= codes[end - back] == ord(".")
    ellipses[some] = three | (codes[end - 1] == ord("…"))
    return bullets, ellipses


def _stop_words(segments: Segments, stop_words: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return how many of the stop words each document has."""
    wanted = segment(stop_words)
    whole = wanted.newline_lines
    if not whole.length.any():
        return np.zeros(len(segments))
    keys = np.unique(_keys(wanted.codes, whole.start, whole.length))
    words = segments.words
    rows = np.flatnonzero(words.length <= whole.length.max())
    key = _keys(segments.codes, words.start.take(rows), words.length.take(rows))
    at = np.searchsorted(keys, key)
    is_one = np.flatnonzero(keys.take(at, mode="clip") == key)
    found = np.zeros((len(segments), len(keys)), np.bool_)
    found[words.document.take(rows.take(is_one)), at.take(is_one)] = True
    return np.asarray(found.sum(1), np.float64)


def _keys(codes: npt.NDArray[np.uint32], start: Ints, length: Ints) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each of some short words."""
    key = np.zeros(len(start), np.uint64)
    for k in range(int(length.max(initial=0))):
        live = np.flatnonzero(length > k)
        key[live] = key.take(live) * _FACTOR + codes.take(start.take(live) + k)
    return key


def _repetition(segments: Segments, thresholds: GopherRepetition) -> Values:  # noqa: ARG001
    characters = segments.characters
    paragraphs = _paragraphs(segments)
    twice, twice_characters = duplicate_characters(segments, paragraphs)
    line_count, again, again_characters = _lines(segments)
    top, duplicate = ngram_repeats(segments, (2, 3, 4), (5, 6, 7, 8, 9, 10))
    return {
        "characters": characters.astype(np.float64),
        "duplicate_paragraphs": ratio(twice, np.maximum(paragraphs.counts, 1)),
        "duplicate_paragraph_characters": ratio(twice_characters, characters),
        "duplicate_lines": ratio(again, line_count),
        "duplicate_line_characters": ratio(again_characters, characters),
        **{f"top_{n}_gram": ratio(part, characters) for n, part in top.items()},
        **{f"duplicate_{n}_grams": ratio(part, characters) for n, part in duplicate.items()},
    }


def _lines(segments: Segments) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Return per document the lines, those that repeat one, and their characters.

    A break at the very start or end of a text leaves an empty line there, which counts.
    """
    every = segments.newline_lines
    lines = segments.subset(every, every.length > 0)
    again, characters = duplicate_characters(segments, lines)
    first, last = segments.offsets[:-1], segments.offsets[1:] - 2
    has = segments.characters > 0
    opens = has & (segments.codes[first] == ord("\n"))
    closes = has & (segments.codes[last] == ord("\n"))
    return lines.counts + opens + closes, again + (opens & closes), characters


def _paragraphs(segments: Segments) -> Spans:
    """Return what is between empty lines of the text without white space at its ends."""
    words, every = segments.words, segments.newline_lines
    has = np.flatnonzero(words.counts > 0)
    low, high = np.zeros((2, len(segments)), np.int64)
    low[has] = words.start[words.offsets[has]]
    high[has] = words.end[words.offsets[has + 1] - 1]
    document = every.document
    inside = (every.end > low[document]) & (every.start < high[document]) & (every.length > 0)
    rows = np.flatnonzero(inside)
    opens = np.ones(len(rows), np.bool_)
    opens[1:] = (np.diff(rows) > 1) | (np.diff(document[rows]) > 0)
    begins = np.flatnonzero(opens)
    closes = np.append(begins[1:], len(rows))[: len(begins)] - 1
    of = document[rows[begins]]
    start = np.maximum(every.start[rows[begins]], low[of])
    end = np.minimum(every.end[rows[closes]], high[of])
    return segments.spans(start, end)


QUALITY: Final = Family("gopher_quality", GopherQuality, _quality)
REPETITION: Final = Family("gopher_repetition", GopherRepetition, _repetition)
