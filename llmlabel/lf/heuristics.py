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
from llmlabel.lf.core import LF, Batch, Joint, Vote, Votes, batch_length
from llmlabel.lf.expressions import contains, in_rust, superset
from llmlabel.lf.keywords import Keywords, vote_keywords, word_pattern
from llmlabel.lf.texts import Texts, texts_of
from llmlabel.schema import ABSTAIN

__all__ = ["keyword", "regex"]

Mask = npt.NDArray[np.bool_]
Finder = Callable[[Texts], Mask]


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
        Whether ``US`` must not match ``us``. Letters are alike where their small
        letters are.

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
    _check_words(words, name)
    if without:
        _check_words(without, name)
    flags = 0 if case_sensitive else re.IGNORECASE
    spotter = re.compile(word_pattern(words, whole_words=whole_words), flags)
    plan = Keywords(tuple(words), tuple(without), column, whole_words, case_sensitive)

    def vote(batch: Batch) -> Votes:
        out = np.full(batch_length(batch), ABSTAIN, np.int16)
        out[vote_keywords([plan], batch)[0]] = 0
        return out

    def why(row: Mapping[str, Any]) -> str:
        found = spotter.search(str(row.get(column) or ""))
        return f'contains "{found["hit"]}"' if found else "no word found"

    return LF(
        name,
        vote,
        labels=(label,),
        kind="keyword",
        columns=(column,),
        why=why,
        spec={
            "lf": "keyword",
            "name": name,
            "label": label,
            "words": list(words),
            "without": list(without),
            "column": column,
            "whole_words": whole_words,
            "case_sensitive": case_sensitive,
        },
        joint=Joint(vote_keywords, plan),
    )


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

    return LF(
        name,
        _matcher(pattern, without, column, case_sensitive=case_sensitive),
        labels=(label,),
        kind="regex",
        columns=(column,),
        why=why,
        spec={
            "lf": "regex",
            "name": name,
            "label": label,
            "pattern": pattern,
            "without": without,
            "column": column,
            "case_sensitive": case_sensitive,
        },
    )


def _compile(pattern: str, flags: int, name: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        raise ConfigError(
            f"LF {name!r}: {pattern!r} is no regular expression: {error.msg}{place}"
        ) from None


def _check_words(words: Sequence[str], name: str) -> None:
    if isinstance(words, str):
        raise ConfigError(f"LF {name!r}: expected a list of words, got the one string {words!r}")
    if not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ConfigError(
            f"LF {name!r}: expected at least one word and no empty ones, got {list(words)!r}"
        )


def _matcher(pattern: str, without: str | None, column: str, *, case_sensitive: bool) -> Vote:
    flags = 0 if case_sensitive else re.IGNORECASE
    find = _finder(pattern, flags)
    block = _finder(without, flags) if without is not None else None

    def vote(batch: Batch) -> Votes:
        texts = texts_of(batch[column])
        hits = find(texts)
        if block is not None:
            hits = hits & ~block(texts)
        return np.where(hits, 0, ABSTAIN).astype(np.int16)

    return vote


def _finder(pattern: str, flags: int) -> Finder:
    r"""Return a function from strings to whether the pattern is in them.

    The meaning is that of Python's `re`. Rust's regex, in polars, does the work on plain
    ASCII, where it means the same: elsewhere its ``\w``, ``\b`` and letters without regard
    to case are not quite those of `re`, and its ``$`` does not match before a last newline.
    """
    search = re.compile(pattern, flags).search
    fast = in_rust(pattern, case_sensitive=not flags & re.IGNORECASE)
    wide = superset(pattern)
    if wide is not None:
        said, exact = wide
        said = f"(?i){said}" if flags & re.IGNORECASE else said
        wide = (said, exact) if _compiles(said) else None

    def slowly(texts: Texts, rows: Sequence[int] | npt.NDArray[np.intp]) -> list[bool]:
        return [t is not None and search(t) is not None for t in texts.take(np.asarray(rows))]

    def all_slowly(texts: Texts) -> Mask:
        return np.array(slowly(texts, range(len(texts))), np.bool_)

    def quickly(texts: Texts) -> Mask:
        assert fast is not None
        out = contains(texts, fast)
        rest = texts.odd
        if wide is not None and rest.size:
            sure, doubtful = _beyond_ascii(texts, *wide)
            out[texts.odd], rest = sure, texts.odd[doubtful]
        if "$" in pattern:
            last = pc.fill_null(pc.ends_with(texts.arrow, "\n"), False)
            ends = np.flatnonzero(last.to_numpy(zero_copy_only=False))
            rest = np.union1d(rest, ends)
        if rest.size:
            out[rest] = slowly(texts, rest)
        return out

    return all_slowly if fast is None else quickly


def _beyond_ascii(texts: Texts, pattern: str, exact: bool) -> tuple[Mask, Mask]:
    """Return which texts beyond ASCII match, and on which of them `re` has to decide."""
    hits = pc.match_substring_regex(texts.odd_texts, pattern).to_numpy(zero_copy_only=False)
    found = np.asarray(hits, np.bool_)
    doubtful = texts.odd_letters if exact else found | texts.odd_letters
    return found & ~doubtful, doubtful


def _compiles(pattern: str) -> bool:
    try:
        pc.match_substring_regex(pa.array([""], pa.string()), pattern)
    except pa.ArrowInvalid:
        return False
    return True
