# ruff: noqa: RUF001
"""What each code point is: letter, digit, space, punctuation; looked up in tables."""

from __future__ import annotations

import functools
import sys
import unicodedata
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Kind", "Mark", "ends_sentence", "kinds", "lowered", "marks", "symbols"]

_ASSIGNED: Final = 0x20000  # beyond it: ideographs, tags and private use


class Kind:
    """The classes of code points, in an order in which classes are ranges.

    Plain numbers, since numpy compares those as bytes, and members of an enum as int64.
    """

    NEWLINE: Final = 0
    BREAK: Final = 1  # the other ends of lines that str.splitlines knows
    SPACE: Final = 2
    PUNCTUATION: Final = 3  # and symbols, controls, unassigned
    DIGIT: Final = 4
    NUMBER: Final = 5  # superscripts, fractions, Roman numerals
    MARK: Final = 6
    LOWER: Final = 7
    UPPER: Final = 8
    LETTER: Final = 9  # of scripts without case
    SINGLE: Final = 10  # of scripts that put no space between words


class Mark:
    """What punctuation does at the edge of a word and inside it, as bits.

    The rules are spaCy's for English (`spacy.lang.punctuation`, `spacy.lang.en.punctuation`):
    the first nine cut, each between its own neighbours.
    """

    PREFIX: Final = 1 << 0
    PLUS: Final = 1 << 1  # a prefix unless a digit follows
    SUFFIX: Final = 1 << 2
    UNIT: Final = 1 << 3  # a suffix of digits
    STOP: Final = 1 << 4  # a suffix of small letters and digits, and splits "end.Next"
    ALWAYS: Final = 1 << 5
    LINK: Final = 1 << 6  # between a letter or digit and a letter
    COMMA: Final = 1 << 7  # between letters
    SIGN: Final = 1 << 8  # between digits
    QUOTE: Final = 1 << 9
    PUNCT: Final = 1 << 10  # what spaCy lists as such
    BEFORE_STOP: Final = 1 << 11
    PUNCTUATION: Final = 1 << 12  # Unicode's categories P


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
_BREAKS: Final = "\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
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
    table[[ord(character) for character in _BREAKS]] = Kind.BREAK
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
def marks() -> npt.NDArray[np.uint16]:
    """Return the `Mark` flags of every code point."""
    table = np.zeros(sys.maxunicode + 1, np.uint16)
    both = Mark.PREFIX | Mark.SUFFIX
    for characters, flags in (
        (_PUNCT, both | Mark.PUNCT),
        (_QUOTES, both | Mark.QUOTE),
        (_CURRENCY, Mark.PREFIX | Mark.UNIT),
        ("§=", Mark.PREFIX),
        ("%", Mark.PREFIX | Mark.UNIT),
        ("—–", both),
        ("+", Mark.PLUS | Mark.UNIT),
        ("-~—–:<>=/", Mark.LINK),
        (",", Mark.COMMA),
        ("+-*^", Mark.SIGN),
        (".", Mark.STOP),
        ("…", Mark.ALWAYS),
        ("%²-+", Mark.BEFORE_STOP),
    ):
        for character in characters:
            table[ord(character)] |= flags
    categories = [unicodedata.category(chr(code)) for code in range(_ASSIGNED)]
    table[[i for i, name in enumerate(categories) if name == "So"]] |= both | Mark.ALWAYS
    table[[i for i, name in enumerate(categories) if name[0] == "P"]] |= Mark.PUNCTUATION
    table.setflags(write=False)
    return table


# Unicode's Sentence_Terminal and its like, code points in hexadecimal.
_TERMINAL: Final = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E
1735-1736 17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E
1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7
A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F
FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6
111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7
11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8
11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88
"""
_SYMBOLS: Final = (
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
)


@functools.cache
def ends_sentence() -> npt.NDArray[np.bool_]:
    """Return which code points end a sentence, in any script."""
    table = np.zeros(sys.maxunicode + 1, np.bool_)
    for part in _TERMINAL.split():
        first, _, last = part.partition("-")
        table[int(first, 16) : int(last or first, 16) + 1] = True
    table.setflags(write=False)
    return table


@functools.cache
def symbols() -> npt.NDArray[np.bool_]:
    """Return which code points datatrove takes for punctuation: a word of them is none."""
    table = ends_sentence().copy()
    table[[ord(character) for character in _SYMBOLS]] = True
    table[:32] = table[127:160] = True
    table[[9, 10]] = False
    table.setflags(write=False)
    return table
