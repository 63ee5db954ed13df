# ruff: noqa: RUF001
"""Where words begin and end: spaCy's rules for English as array operations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.characters import Kind, Mark, marks

__all__ = ["word_spans"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def word_spans(codes: npt.NDArray[np.uint32], kinds: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Return where each word begins and the place after its end.

    Text is cut at white space, then as spaCy's English tokenizer does it (what datatrove's
    filters count): punctuation at the edge of such a piece is a word of its own, an ellipsis
    is one word, hyphens, slashes and colons between letters are words, so are ``'s`` and
    ``n't``. Letters of scripts without spaces are words one by one.

    Parameters
    ----------
    codes, kinds : arrays, shape (c,)
        The first and the last are newlines.
    """
    inside = kinds > Kind.SPACE
    start = np.zeros(len(codes), np.bool_)
    start[1:] = inside[1:] & ~inside[:-1]
    at = np.flatnonzero(kinds == Kind.PUNCTUATION)
    cut_before, cut_after = _punctuation(codes, kinds, inside, at)
    start[at[cut_before]] = True
    start[at[cut_after] + 1] = True
    start[_contractions(codes, kinds, at)] = True
    _singles(kinds, start)
    start &= inside
    end = np.zeros(len(codes), np.bool_)
    end[1:] = inside[:-1] & (start[1:] | ~inside[1:])
    return np.flatnonzero(start), np.flatnonzero(end)


def _singles(kinds: npt.NDArray[np.uint8], start: Bools) -> None:
    single = kinds == Kind.SINGLE
    if single.any():
        start |= single
        start[1:] |= single[:-1] & (kinds[1:] != Kind.MARK)


def _punctuation(
    codes: npt.NDArray[np.uint32], kinds: npt.NDArray[np.uint8], inside: Bools, at: Ints
) -> tuple[Bools, Bools]:
    """Return whether each punctuation mark has a cut before it and after it."""
    if not at.size:
        return np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    code = codes[at]
    flags = marks()[code]
    joined = np.zeros(len(at) + 1, np.bool_)
    joined[1:-1] = at[1:] == at[:-1] + 1
    first, last = ~joined[:-1], ~joined[1:]
    before, after = kinds[at - 1], kinds[at + 1]
    dot = code == ord(".")
    dots = _neighbours(dot, joined)
    prefix = ((flags & Mark.PREFIX) != 0) | dots
    prefix |= (code == ord("+")) & (after != Kind.DIGIT)
    suffix = _suffixes(code, flags, dots, before, codes[at - 1], kinds[at - 2])
    prefix = _all_from_start(prefix, first) & (~inside[at - 1])[_run_start(first)]
    suffix = _all_from_start(suffix[::-1], last[::-1])[::-1]
    suffix &= (~inside[at + 1])[len(at) - 1 - _run_start(last[::-1])[::-1]]
    infix = _infixes(code, flags, dots, before, after, codes[at - 1], codes[at + 1])
    alone = prefix | suffix | infix
    # Dots that belong together are one word.
    inner = np.zeros(len(at), np.bool_)
    inner[1:] = joined[1:-1] & dot[1:] & dot[:-1]
    cut_before = alone & ~inner
    cut_after = alone.copy()
    cut_after[:-1] &= ~inner[1:]
    return cut_before, cut_after


def _neighbours(dot: Bools, joined: Bools) -> Bools:
    """Return which dots stand beside another."""
    out = np.zeros(len(dot), np.bool_)
    pair = joined[1:-1] & dot[1:] & dot[:-1]
    out[1:] |= pair
    out[:-1] |= pair
    return out


def _run_start(first: Bools) -> Ints:
    """Return for each mark the index of the first of its run."""
    places = np.arange(len(first))
    return np.maximum.accumulate(np.where(first, places, 0))


def _all_from_start(flags: Bools, first: Bools) -> Bools:
    """Return where a flag holds from the run's first mark up to this one."""
    places = np.arange(len(flags))
    bad = np.maximum.accumulate(np.where(flags, -1, places))
    return np.asarray(bad < _run_start(first))


def _suffixes(
    code: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint8],
    dots: Bools,
    before: npt.NDArray[np.uint8],
    code_before: npt.NDArray[np.uint32],
    second_before: npt.NDArray[np.uint8],
) -> Bools:
    out = ((flags & Mark.SUFFIX) != 0) | dots
    digit = before == Kind.DIGIT
    unit = ((flags & Mark.CURRENCY) != 0) | (code == ord("+")) | (code == ord("%"))
    out |= unit & digit
    closes = (before == Kind.LOWER) | (before >= Kind.LETTER) | digit
    closes |= (before == Kind.UPPER) & (second_before == Kind.UPPER)
    closes |= (marks()[code_before] & (Mark.PUNCT | Mark.QUOTE)) != 0
    closes |= np.isin(code_before, [ord(c) for c in "%²-+"])
    out |= (code == ord(".")) & closes
    return np.asarray(out)


def _infixes(
    code: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint8],
    dots: Bools,
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    code_before: npt.NDArray[np.uint32],
    code_after: npt.NDArray[np.uint32],
) -> Bools:
    letter_before, letter_after = before >= Kind.LOWER, after >= Kind.LOWER
    digit_before = before == Kind.DIGIT
    out = dots | ((flags & Mark.INFIX) != 0)
    hyphen = (flags & Mark.HYPHEN) != 0
    out |= hyphen & (letter_before | digit_before) & letter_after
    out |= (code == ord(",")) & letter_before & letter_after
    joins = np.isin(code, [ord(c) for c in ":<>=/"])
    out |= joins & (letter_before | digit_before) & letter_after
    sign = np.isin(code, [ord(c) for c in "+-*^"])
    out |= sign & digit_before & ((after == Kind.DIGIT) | (code_after == ord("-")))
    quoted_before = (marks()[code_before] & Mark.QUOTE) != 0
    quoted_after = (marks()[code_after] & Mark.QUOTE) != 0
    low = (before == Kind.LOWER) | (before >= Kind.LETTER) | quoted_before
    high = (after >= Kind.UPPER) | quoted_after
    out |= (code == ord(".")) & low & high
    return np.asarray(out)


_ENDINGS = ("s", "S", "re", "ve", "ll", "m", "d", "RE", "VE", "LL", "M", "D")


def _contractions(codes: npt.NDArray[np.uint32], kinds: npt.NDArray[np.uint8], at: Ints) -> Ints:
    """Return where the endings ``'s``, ``'ll``, ``n't`` and so on begin."""
    code = codes[at]
    quote = at[(code == ord("'")) | (code == ord("’"))]
    quote = quote[(kinds[quote - 1] >= Kind.DIGIT) & (kinds[quote + 1] >= Kind.LOWER)]
    one, two = codes[quote + 1], codes[np.minimum(quote + 2, len(codes) - 1)]
    short = kinds[np.minimum(quote + 2, len(codes) - 1)] < Kind.DIGIT
    long = ~short & (kinds[np.minimum(quote + 3, len(codes) - 1)] < Kind.DIGIT)
    found = np.zeros(len(quote), np.bool_)
    for ending in _ENDINGS:
        if len(ending) == 1:
            found |= short & (one == ord(ending))
        else:
            found |= long & (one == ord(ending[0])) & (two == ord(ending[1]))
    negated = short & ((one | 32) == ord("t")) & ((codes[quote - 1] | 32) == ord("n"))
    negated &= kinds[quote - 2] >= Kind.LOWER
    return np.concatenate([quote[found], quote[negated] - 1])
