"""The rules that FineWeb adds to those of Gopher and C4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmlabel.corpus.characters import ends_sentence
from llmlabel.corpus.repeats import duplicate_characters
from llmlabel.corpus.rules import Family, Values, judge, ratio
from llmlabel.corpus.segment import Segments
from llmlabel.corpus.verdict import Verdict

__all__ = ["FINEWEB", "FineWeb", "fineweb"]


@dataclass(frozen=True)
class FineWeb:
    """Thresholds of FineWeb's rules; None turns a rule off.

    Parameters
    ----------
    min_lines
        Lines that are not blank: a document without any is dropped.
    min_punctuated_lines
        Share of lines that end in a mark that ends sentences.
    max_short_lines
        Share of lines of at most `short_line` code points.
    max_duplicate_characters
        Code points in lines that repeat an earlier one, of all but newlines.
    max_newlines
        Newlines per word: lists.
    """

    min_lines: float | None = 1
    min_punctuated_lines: float | None = 0.12
    max_short_lines: float | None = 0.67
    max_duplicate_characters: float | None = 0.01
    max_newlines: float | None = 0.3
    short_line: int = 30


def fineweb(documents: Segments | Sequence[str], thresholds: FineWeb | None = None) -> Verdict:
    r"""Drop lists, menus and pages whose lines repeat.

    Parameters
    ----------
    documents
        n texts, or a segmentation that other filters share.
    thresholds
        By default the published ones.

    Notes
    -----
    Penedo et al. (2024), The FineWeb datasets: decanting the web for the finest text data at
    scale, section 3.6. Thresholds and newlines per word are those of datatrove's
    FineWebQualityFilter, with which decisions differ in 2 of 10,000 documents; for duplicate
    characters the paper's text has 0.1.

    Examples
    --------
    >>> fineweb(["Home\nAbout us\nNews"]).reason.tolist()
    ['fineweb.min_punctuated_lines']
    """
    return judge(FINEWEB, documents, thresholds or FineWeb())


def _measure(segments: Segments, thresholds: FineWeb) -> Values:
    every = segments.newline_lines
    first, last = segments.edges(every)
    lines = segments.subset(every, first <= last)
    newlines = every.counts - 1
    closed = ends_sentence()[segments.codes[lines.end - 1]]
    twice = duplicate_characters(segments, lines)[1]
    return {
        "lines": lines.counts.astype(np.float64),
        "punctuated_lines": ratio(segments.totals(lines, closed), lines.counts),
        "short_lines": ratio(
            segments.totals(lines, lines.length <= thresholds.short_line), lines.counts
        ),
        "duplicate_characters": ratio(twice, segments.characters - newlines),
        "newlines": ratio(newlines, segments.words.counts),
    }


FINEWEB: Final = Family("fineweb", FineWeb, _measure)
