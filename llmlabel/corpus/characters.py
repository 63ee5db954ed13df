# ruff: noqa: RUF001
"""What each code point is: letter, digit, space, punctuation; looked up in tables."""

from __future__ import annotations

import functools
import sys
import unicodedata
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Kind", "Mark", "kinds", "lowered", "marks"]

_ASSIGNED: Final = 0x20000  # beyond it: ideographs, tags and private use


class Kind:
    """The classes of code points, in an order in which classes are ranges.

    Plain numbers, since numpy compares those as bytes, and members of an enum as int64.
    """

    NEWLINE: Final = 0
    SPACE: Final = 1
    PUNCTUATION: Final = 2  # and symbols, controls, unassigned
    DIGIT: Final = 3
    NUMBER: Final = 4  # superscripts, fractions, Roman numerals
    MARK: Final = 5
    LOWER: Final = 6
    UPPER: Final = 7
    LETTER: Final = 8  # of scripts without case
    SINGLE: Final = 9  # of scripts that put no space between words


class Mark:
    """What punctuation does at the edge of a word and inside it (spaCy's English rules)."""

    PREFIX: Final = 1
    SUFFIX: Final = 2
    INFIX: Final = 4
    HYPHEN: Final = 8
    QUOTE: Final = 16
    CURRENCY: Final = 32
    PUNCT: Final = 64


_SINGLES: Final = (  # Thai, Lao, Myanmar, Khmer, Kana, Han
    (0x0E01, 0x0E5B),
    (0x0E81, 0x0EDF),
    (0x1000, 0x109F),
    (0x1780, 0x17B3),
    (0x3041, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
)
_CATEGORIES: Final = {
    "Nd": Kind.DIGIT,
    "Nl": Kind.NUMBER,
    "No": Kind.NUMBER,
    "Mn": Kind.MARK,
    "Mc": Kind.MARK,
    "Me": Kind.MARK,
    "Ll": Kind.LOWER,
    "Lu": Kind.UPPER,
    "Lt": Kind.UPPER,
    "Lo": Kind.LETTER,
    "Lm": Kind.LETTER,
}
_PUNCT: Final = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES: Final = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_CURRENCY: Final = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"


@functools.cache
def kinds() -> npt.NDArray[np.uint8]:
    """Return the `Kind` of every code point, shape (1114112,)."""
    table = np.full(sys.maxunicode + 1, Kind.PUNCTUATION, np.uint8)
    category = unicodedata.category
    table[:_ASSIGNED] = [
        _CATEGORIES.get(category(chr(code)), Kind.PUNCTUATION) for code in range(_ASSIGNED)
    ]
    table[_ASSIGNED:0x32000] = Kind.SINGLE
    table[0xE0100:0xE01F0] = Kind.MARK
    for first, last in _SINGLES:
        part = table[first : last + 1]
        part[part == Kind.LETTER] = Kind.SINGLE
    table[[code for code in range(0x3001) if chr(code).isspace()]] = Kind.SPACE
    table[ord("\n")] = Kind.NEWLINE
    table.setflags(write=False)
    return table


@functools.cache
def lowered() -> npt.NDArray[np.uint32]:
    """Return the lower-case form of every code point (itself where that is longer than one)."""
    table = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for code in range(_ASSIGNED):
        lower = chr(code).lower()
        if len(lower) == 1:
            table[code] = ord(lower)
    table.setflags(write=False)
    return table


@functools.cache
def marks() -> npt.NDArray[np.uint8]:
    """Return the `Mark` flags of every code point."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    both = Mark.PREFIX | Mark.SUFFIX
    for characters, flags in (
        (_PUNCT, both | Mark.PUNCT),
        (_QUOTES, both | Mark.QUOTE),
        (_CURRENCY, Mark.PREFIX | Mark.CURRENCY),
        ("§%=", Mark.PREFIX),
        ("—–", both | Mark.HYPHEN),
        ("-~", Mark.HYPHEN),
        ("…", Mark.INFIX),
    ):
        for character in characters:
            table[ord(character)] |= flags
    symbols = [code for code in range(_ASSIGNED) if unicodedata.category(chr(code)) == "So"]
    table[symbols] |= both | Mark.INFIX
    table.setflags(write=False)
    return table
