"""Keywords of all labeling functions found in one pass over the texts (Aho-Corasick)."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import ahocorasick_rs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.lf.core import Batch
from llmlabel.lf.expressions import contains, in_rust
from llmlabel.lf.texts import Texts, texts_of

__all__ = ["Keywords", "vote_keywords", "word_pattern"]

Ints = npt.NDArray[np.int64]

_FEW: Final = 8  # plans up to which an expression for each is faster than the pass
_NOTHING: Final = r"\b\B"
_WORD: Final = re.compile(r"\w+")
_NO_WORD: Final = r"[^\x00-\x7f\p{L}\p{N}]+"  # what `re` takes for \W beyond ASCII


@dataclass(frozen=True)
class Keywords:
    """What one labeling function looks for; see `keyword`."""

    words: tuple[str, ...]
    without: tuple[str, ...]
    column: str
    whole_words: bool
    case_sensitive: bool


def vote_keywords(plans: Sequence[Keywords], batch: Batch) -> tuple[Ints, Ints]:
    """Return the rows that have the words of each plan: rows, and which plan's.

    Plans that read the same column in the same way share one pass, whose time hardly
    depends on how many words there are.
    """
    ways: dict[tuple[str, bool, bool], list[int]] = {}
    for i, plan in enumerate(plans):
        ways.setdefault((plan.column, plan.whole_words, plan.case_sensitive), []).append(i)
    rows, which = [], []
    for (column, *_), members in ways.items():
        group = tuple(plans[i] for i in members)
        texts = texts_of(batch[column])
        if not len(texts):
            continue
        cells = _one_by_one(group, texts) if len(group) <= _FEW else _scanner(group).find(texts)
        rows.append(cells % len(texts))
        which.append(np.array(members, np.int64)[cells // len(texts)])
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(rows), np.concatenate(which)


def _one_by_one(plans: tuple[Keywords, ...], texts: Texts) -> Ints:
    """Return the plans' votes: each by an expression of its own on plain ASCII."""
    n = len(texts)
    plain = np.ones(n, np.bool_)
    plain[texts.odd] = False
    cells = []
    for i, plan in enumerate(plans):
        found = plain & contains(texts, _expression(plan.words, plan))
        if plan.without:
            found &= ~contains(texts, _expression(plan.without, plan))
        cells.append(i * n + np.flatnonzero(found))
    if len(texts.odd):
        beyond = _scanner(plans).find(Texts(texts.odd_texts))
        plan_of, row = np.divmod(beyond, len(texts.odd))
        cells.append(plan_of * n + texts.odd[row])
    return np.concatenate(cells)


def _expression(words: Sequence[str], plan: Keywords) -> str:
    r"""Return `word_pattern` for Rust, which has no look-around.

    Borders that eat a sign, and ``\b`` where the word's own end is a letter.
    """
    said = []
    for word in words:
        body = r"\s+".join(re.escape(part) for part in word.split())
        if plan.whole_words:
            first, last = word.strip()[0], word.strip()[-1]
            before = r"\b" if _WORD.match(first) else r"(?:^|\W)"
            after = r"\b" if _WORD.match(last) else r"(?:$|\W)"
            body = f"{before}{body}{after}"
        said.append(body)
    # It is for plain ASCII: words beyond need not be found.
    every = "|".join(w for w in said if w.isascii()) or _NOTHING
    return in_rust(every, case_sensitive=plan.case_sensitive) or every


def word_pattern(words: Sequence[str], *, whole_words: bool) -> str:
    """Return the regular expression that finds any of some words, as the group ``hit``."""
    # Longest first: alternation takes the first that fits, and `why` quotes it.
    phrases = sorted({w.strip() for w in words}, key=lambda w: (-len(w), w))
    any_of = "|".join(r"\s+".join(re.escape(part) for part in p.split()) for p in phrases)
    return rf"(?<!\w)(?P<hit>{any_of})(?!\w)" if whole_words else f"(?P<hit>{any_of})"


@dataclass(frozen=True)
class _Wanted:
    """A word of a plan: whether its presence counts against it, and what proves it."""

    plan: int
    against: bool
    proof: Callable[[str], object] | None


@dataclass(frozen=True)
class _Scanner:
    """The words of plans that read a column in the same way.

    A word is looked for as it stands in the prepared text, between spaces if it is to be
    whole. Of a phrase, or a word with signs in it, the longest part is, and where that is
    found the whole is proved by its regular expression.

    Parameters
    ----------
    whole, case_sensitive
        How they read.
    automaton
        Finds the patterns.
    starts : array, shape (patterns + 1,)
        Which of `sure` a pattern means.
    sure : array of int, shape (s, 2)
        Plan and whether it is against, of words that need no proof.
    doubtful
        The others, with their pattern; -1: a word of signs alone, looked for everywhere.
    """

    whole: bool
    case_sensitive: bool
    automaton: ahocorasick_rs.BytesAhoCorasick
    starts: Ints
    sure: Ints
    doubtful: tuple[tuple[int, _Wanted], ...]

    def find(self, texts: Texts) -> Ints:
        """Return the cells ``plan * n + row`` of the plans' votes, some of them repeatedly."""
        n = len(texts)
        pattern, row = self._hits(texts)
        owners = np.diff(self.starts)[pattern]
        at = np.repeat(self.starts[pattern] - np.cumsum(owners) + owners, owners)
        at += np.arange(len(at))
        cells = self.sure[at, 0] * n + np.repeat(row, owners)
        against = self.sure[at, 1] > 0
        found, barred = [cells[~against]], [cells[against]]
        for of, word in self.doubtful:
            into = barred if word.against else found
            rows = np.arange(n) if of < 0 else np.unique(row[pattern == of])
            known = np.concatenate([cells - word.plan * n for cells in into])
            rows = rows[~np.isin(rows, known)]
            into.append(word.plan * n + _proved(word, rows, texts))
        cells, no = np.concatenate(found), np.concatenate(barred)
        return cells[~np.isin(cells, no)] if len(no) else cells

    def _hits(self, texts: Texts) -> tuple[Ints, Ints]:
        """Return which patterns are found in which rows."""
        buffer, starts = _prepared(texts, self.whole, self.case_sensitive)
        hits = self.automaton.find_matches_as_indexes(buffer, overlapping=True)
        flat = np.fromiter(itertools.chain.from_iterable(hits), np.int64, 3 * len(hits))
        pattern, first, _ = flat.reshape(-1, 3).T
        return pattern, np.searchsorted(starts, first, side="right") - 1


def _proved(word: _Wanted, rows: npt.NDArray[np.intp], texts: Texts) -> Ints:
    assert word.proof is not None
    held = [text is not None and word.proof(text) is not None for text in texts.take(rows)]
    return rows[np.array(held, np.bool_)].astype(np.int64)


@functools.lru_cache(maxsize=64)
def _scanner(plans: tuple[Keywords, ...]) -> _Scanner:
    whole, case_sensitive = plans[0].whole_words, plans[0].case_sensitive
    number: dict[bytes, int] = {}
    sure: list[tuple[int, int, int]] = []
    doubtful: list[tuple[int, _Wanted]] = []
    for i, plan in enumerate(plans):
        for against, words in ((False, plan.words), (True, plan.without)):
            for word in words:
                part, proof = _looked_for(word.strip(), whole, case_sensitive)
                of = -1 if part is None else number.setdefault(part, len(number))
                if proof is None:
                    sure.append((of, i, int(against)))
                else:
                    doubtful.append((of, _Wanted(i, against, proof)))
    automaton = ahocorasick_rs.BytesAhoCorasick(
        list(number), implementation=ahocorasick_rs.Implementation.ContiguousNFA
    )
    owned = np.array(sorted(set(sure)), np.int64).reshape(-1, 3)
    starts = np.searchsorted(owned[:, 0], np.arange(len(number) + 1))
    return _Scanner(whole, case_sensitive, automaton, starts, owned[:, 1:], tuple(doubtful))


def _looked_for(
    word: str, whole: bool, case_sensitive: bool
) -> tuple[bytes | None, Callable[[str], object] | None]:
    """Return what of a word to look for, and what proves the whole where that is not all."""
    folded = word if case_sensitive else pc.utf8_lower(word).as_py()
    parts = _WORD.findall(folded) if whole else folded.split()
    flags = 0 if case_sensitive else re.IGNORECASE
    proof = re.compile(word_pattern([word], whole_words=whole), flags).search
    if not parts:
        return None, proof
    part = max(parts, key=len)
    exact = part == folded
    return (f" {part} " if whole else part).encode(), None if exact else proof


def _prepared(texts: Texts, whole: bool, case_sensitive: bool) -> tuple[bytes, Ints]:
    """Return all texts in one buffer, and where each begins.

    In small letters, and with a space for each sign where whole words are meant; a space
    stands before each text and after the last. Where whole words are meant, a text begins
    with that space.
    """
    arrow = texts.arrow if not texts.arrow.null_count else pc.fill_null(texts.arrow, "")
    if len(texts.odd):
        new = _folded(arrow.take(pa.array(texts.odd)), whole, case_sensitive)
        mask = np.zeros(len(texts), np.bool_)
        mask[texts.odd] = True
        arrow = pc.replace_with_mask(arrow, pa.array(mask), new)
    n = len(arrow)
    lengths = pc.binary_length(arrow).to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths + np.arange(n) + (0 if whole else 1)
    one = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), arrow), " ")
    text = b" " + one[0].as_buffer().to_pybytes() + b" "
    return text.translate(_table(whole, case_sensitive)), starts


def _folded(texts: pa.StringArray, whole: bool, case_sensitive: bool) -> pa.StringArray:
    small = texts if case_sensitive else pc.utf8_lower(texts)
    return pc.replace_substring_regex(small, _NO_WORD, " ") if whole else small


@functools.cache
def _table(whole: bool, case_sensitive: bool) -> bytes:
    def new(c: str) -> str:
        if whole and not (c.isalnum() or c == "_"):
            return " "
        return c if case_sensitive else c.lower()

    return "".join(new(chr(c)) for c in range(128)).encode() + bytes(range(128, 256))
