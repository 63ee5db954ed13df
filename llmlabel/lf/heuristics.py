"""Labeling functions that look at the text itself: keywords and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import ConfigError
from llmlabel.lf.core import LF, Batch, Vote, Votes
from llmlabel.schema import ABSTAIN

__all__ = ["keyword", "regex"]

Mask = npt.NDArray[np.bool_]
Finder = Callable[[pa.StringArray], Mask]


def keyword(
    name: str,
    words: Sequence[str],
    label: str,
    *,
    without: Sequence[str] = (),
    column: str = "text",
    whole_words: bool = True,
    case_sensitive: bool = False,
) -> LF:
    """Vote for a class where a text has one of some words or phrases.

    Parameters
    ----------
    name
        The LF's name.
    words
        Words or phrases; any white space between the words of a phrase matches.
    label
        The class voted for.
    without
        Words whose presence makes it abstain after all.
    column
        The text column.
    whole_words
        Whether ``ring`` must not match in ``string``.
    case_sensitive
        Whether ``US`` must not match ``us``.

    Raises
    ------
    ConfigError
        No words, or an empty one.

    Examples
    --------
    >>> lf = keyword("refund", ["refund", "money back"], "RETURN")
    >>> lf({"text": ["My MONEY  back please", "refunding", "hi"]})[0].tolist()
    [0, -1, -1]
    >>> lf.why({"text": "I want my money back"})
    'contains "money back"'
    """
    pattern = _word_pattern(words, name, whole_words)
    block = _word_pattern(without, name, whole_words) if without else None
    spotter = re.compile(pattern, 0 if case_sensitive else re.IGNORECASE)

    def why(row: Mapping[str, Any]) -> str:
        found = spotter.search(str(row.get(column) or ""))
        return f'contains "{found["hit"]}"' if found else "no word found"

    vote = _matcher(pattern, block, column, case_sensitive=case_sensitive)
    return LF(name, vote, labels=(label,), kind="keyword", columns=(column,), why=why)


def regex(
    name: str,
    pattern: str,
    label: str,
    *,
    without: str | None = None,
    column: str = "text",
    case_sensitive: bool = False,
) -> LF:
    r"""Vote for a class where a regular expression is found in a text.

    Parameters
    ----------
    name
        The LF's name.
    pattern
        A regular expression. It runs in RE2; what RE2 lacks (look-around,
        back-references) runs in Python's `re`, more slowly.
    label
        The class voted for.
    without
        A second expression, whose presence makes it abstain after all.
    column, case_sensitive
        As in `keyword`.

    Raises
    ------
    ConfigError
        The expression does not compile; says where.

    Examples
    --------
    >>> lf = regex("order_number", r"\bLF-\d{5}\b", "ORDER_STATUS")
    >>> lf({"text": ["about lf-12345", "about LF-1"]})[0].tolist()
    [0, -1]
    >>> lf.why({"text": "order LF-12345"})
    'matches "LF-12345"'
    """
    flags = 0 if case_sensitive else re.IGNORECASE
    spotter = _compile(pattern, flags, name)
    if without is not None:
        _compile(without, flags, name)

    def why(row: Mapping[str, Any]) -> str:
        found = spotter.search(str(row.get(column) or ""))
        return f'matches "{found[0]}"' if found else "no match"

    vote = _matcher(pattern, without, column, case_sensitive=case_sensitive)
    return LF(name, vote, labels=(label,), kind="regex", columns=(column,), why=why)


def _compile(pattern: str, flags: int, name: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        raise ConfigError(
            f"LF {name!r}: {pattern!r} is no regular expression: {error.msg}{place}"
        ) from None


def _word_pattern(words: Sequence[str], name: str, whole_words: bool) -> str:
    if isinstance(words, str):
        raise ConfigError(f"LF {name!r}: expected a list of words, got the one string {words!r}")
    if not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ConfigError(
            f"LF {name!r}: expected at least one word and no empty ones, got {list(words)!r}"
        )
    # Longest first: alternation takes the first that fits, and `why` quotes it.
    phrases = sorted({w.strip() for w in words}, key=lambda w: (-len(w), w))
    any_of = "|".join(r"\s+".join(re.escape(part) for part in p.split()) for p in phrases)
    # Borders that eat a character, since RE2 has no look-around.
    return rf"(?:^|\W)(?P<hit>{any_of})(?:$|\W)" if whole_words else f"(?P<hit>{any_of})"


def _matcher(pattern: str, without: str | None, column: str, *, case_sensitive: bool) -> Vote:
    flags = 0 if case_sensitive else re.IGNORECASE
    find = _finder(pattern, flags)
    block = _finder(without, flags) if without is not None else None

    def vote(batch: Batch) -> Votes:
        texts = pa.array(batch[column], pa.string())
        hits = find(texts)
        if block is not None:
            hits = hits & ~block(texts)
        return np.where(hits, 0, ABSTAIN).astype(np.int16)

    return vote


def _finder(pattern: str, flags: int) -> Finder:
    r"""Return a function from strings to whether the pattern is in them.

    The meaning is that of Python's `re`. RE2, in Arrow, does the work where it
    means the same: its ``\b``, ``\w`` and ``\d`` know ASCII only, its ``$``
    does not match before a last newline, and it takes ``{,3}`` literally.
    """
    search = re.compile(pattern, flags).search
    fast = f"(?i){pattern}" if flags & re.IGNORECASE else pattern

    def slowly(texts: pa.StringArray) -> Mask:
        hits = (t is not None and search(t) is not None for t in texts.to_pylist())
        return np.fromiter(hits, np.bool_, len(texts))

    def quickly(texts: pa.StringArray) -> Mask:
        hits = pc.match_substring_regex(texts, fast)
        out = np.array(pc.fill_null(hits, False).to_numpy(zero_copy_only=False), np.bool_)
        odd = pc.invert(pc.string_is_ascii(texts))
        if "$" in pattern:
            odd = pc.or_(odd, pc.ends_with(texts, "\n"))
        rest = np.flatnonzero(pc.fill_null(odd, False).to_numpy(zero_copy_only=False))
        if rest.size:
            out[rest] = slowly(texts.take(pa.array(rest)))
        return out

    if "{," in pattern:
        return slowly
    try:
        pc.match_substring_regex(pa.array([""], pa.string()), fast)
    except pa.ArrowInvalid:
        return slowly
    return quickly
