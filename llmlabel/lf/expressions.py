"""Python's regular expressions in Rust's and RE2's words: where they mean the same."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.lf.texts import Texts

__all__ = ["contains", "in_rust", "superset"]

# Signs by which Rust means something else than Python, or nothing.
_OTHERWISE: Final = ("{,", "[[", "[:", "&&", "--", "~~", r"\<", r"\>", r"\b{", "(?R", "(?U")


def contains(texts: Texts, expression: str) -> npt.NDArray[np.bool_]:
    """Return in which texts Rust's regex finds an expression."""
    hits = texts.series.str.contains(expression).fill_null(value=False)
    return np.array(hits.to_numpy(), np.bool_)


@functools.lru_cache(maxsize=4096)
def in_rust(pattern: str, *, case_sensitive: bool) -> str | None:
    r"""Return what Rust's regex has to be told to find what `re` finds, on plain ASCII.

    None where it cannot. Without Unicode's classes where that can be, which is faster.

    Examples
    --------
    >>> in_rust(r"\bab\d+", case_sensitive=False), in_rust("[^a]", case_sensitive=True)
    ('(?i-u)\\bab\\d+', '[^a]')
    >>> in_rust(r"(?<!a)b", case_sensitive=True), in_rust("a{,3}", case_sensitive=True)
    (None, None)
    """
    if any(sign in pattern for sign in _OTHERWISE):
        return None
    for flags in ("(?-u)", "") if case_sensitive else ("(?i-u)", "(?i)"):
        try:
            pl.Series([""]).str.contains(flags + pattern)
        except pl.exceptions.ComputeError:
            continue
        return flags + pattern
    return None


# What Python's classes hold of Unicode; RE2's own hold ASCII only.
_CLASSES: Final = {
    "d": r"\p{Nd}",
    "w": r"\p{L}\p{N}_",
    "s": r"\x09-\x0d\x1c-\x20\x{85}\x{a0}\p{Z}",
}


def superset(pattern: str) -> tuple[str, bool] | None:
    r"""Return an expression for RE2 that finds all that Python's `re` finds, or more.

    Word borders and ends are left out, since RE2's know ASCII alone: then who is found
    has to be looked at again, and the second value is false. None where the pattern has
    what cannot be said so.

    Examples
    --------
    >>> superset(r"\bab\d+$"), superset("ab?")
    (('ab[\\p{Nd}]+', False), ('ab?', True))
    >>> superset(r"(?<!a)b"), superset(r"(a)\1")
    (None, None)
    """
    out: list[str] = []
    exact = True
    in_class, at = False, 0
    while at < len(pattern):
        c = pattern[at]
        at += 1
        if c == "\\":
            said = _escape(pattern[at : at + 1], in_class)
            if said is None:
                return None
            out.append(said)
            exact = exact and said != ""
            at += 1
        elif in_class:
            in_class = c != "]" or _opens(pattern, at - 1)
            out.append(c)
        elif c == "[":
            in_class = True
            out.append(c)
        elif c == "(" and pattern[at : at + 1] == "?" and not _plain_group(pattern, at):
            return None
        elif c == "$":
            exact = False
        else:
            out.append(c)
    return "".join(out), exact


def _escape(c: str, in_class: bool) -> str | None:
    """Return what stands for a backslash and `c`."""
    if c in ("b", "B") and not in_class:
        return ""
    if c in _CLASSES:
        return _CLASSES[c] if in_class else f"[{_CLASSES[c]}]"
    if c.lower() in _CLASSES:  # the class's opposite
        return None if in_class else f"[^{_CLASSES[c.lower()]}]"
    if not c or c.isdigit() or c in "bBAZzGQECpPNuUx":
        return None
    return f"\\{c}"


def _opens(pattern: str, at: int) -> bool:
    """Return whether a bracket at this place is the first of its class, and so a sign."""
    start = pattern.rfind("[", 0, at)
    return pattern[start + 1 : at] in ("", "^")


def _plain_group(pattern: str, at: int) -> bool:
    return pattern.startswith(("?:", "?P<"), at)
