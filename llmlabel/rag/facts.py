"""Facts with numbers in texts: prices, days, amounts, shares; and how two texts' facts differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

__all__ = ["Facts", "compared_facts", "contexts_of", "facts_of", "said_changes"]

Ints = npt.NDArray[np.int64]

_NUMBER: Final = r"\d[\d,]*(?:\.\d+)?"
# Words between a number and what it counts.
_BETWEEN: Final = (
    r"(?:(?:working|business|calendar|full|consecutive|more|different|free|of the|whole) )?"
)
_FACT: Final = (
    rf"[£$€¥]\s?{_NUMBER}|{_NUMBER}(?:\s?(?:[\u2013-]|to)\s?{_NUMBER})?"
    rf"[ \u00a0-]?(?:%|‰|°\s?[CF]|[£$€¥]|{_BETWEEN}[A-Za-z]+)"
)
_NOISE: Final = r"(?m)^\s*\d+[.)]\s|\*\*|__|`|\b(?:19|20)\d\d-\d\d-\d\d\b"
_UNITS: Final = r"([£$€¥%‰]|°\s?[CF]|[A-Za-z]+$)"
_FACT_RE: Final = re.compile(_FACT)
_NOISE_RE: Final = re.compile(_NOISE)
_NUMBER_RE: Final = re.compile(_NUMBER)
_UNIT_RE: Final = re.compile(_UNITS)
_MONTHS: Final = frozenset(
    ["janu", "febr", "marc", "apri", "may", "june", "july", "augu", "sept", "octo", "nove", "dece"]
)
_UNIT: Final = 4  # letters that tell units apart: minu, mont, day
_STEM: Final = 6  # ... and words: deliv, return
_PAIRS: Final = 50_000  # compared at a time


@dataclass(frozen=True, eq=False)
class Facts:
    """The facts of n texts.

    Parameters
    ----------
    table : sparse bool matrix, shape (n, f)
        Which text has which fact: a number with its unit.
    units : sparse matrix, shape (f, u)
        The unit of each fact.
    """

    table: Any
    units: Any

    @property
    def counts(self) -> Ints:
        """Different facts per text, shape (n,)."""
        return np.asarray(np.diff(self.table.indptr), np.int64)


def facts_of(texts: Sequence[str]) -> Facts:
    """Find the numbers with units of texts.

    A fact is an amount of money, a share, or a number (or a range of numbers) and the word
    behind it, of which the first four letters count: "14 days" and "14-day" are one. The
    numbers of list items, years of dates and bare numbers are none.

    Parameters
    ----------
    texts
        n texts.

    Examples
    --------
    >>> facts = facts_of(["Send it back within 30 days; postage is £4.50.", "Free for 30 days."])
    >>> facts.counts.tolist()
    [2, 1]
    """
    found = _listed(texts)
    return _table(found.select("row", key="unit", number="number"), len(texts))


def contexts_of(texts: Sequence[str]) -> Facts:
    """Find the numbers of texts together with the words of their sentences.

    A fact here is a number with its unit and one word of its sentence, list item or row of a
    table; the unit is the unit and that word. Two texts of which one says "tents: 2 years,
    packs: 5 years" and the other the reverse have the same facts, and no context in common.

    Parameters
    ----------
    texts
        n texts.

    Examples
    --------
    >>> said = contexts_of(["Tents: 2 years. Packs: 5 years.", "Tents: 5 years. Packs: 2 years."])
    >>> [count.tolist() for count in compared_facts(said, np.array([0]), np.array([1]))]
    [[0], [2]]
    """
    text = pl.DataFrame({"line": pl.Series(list(texts), dtype=pl.String)}).with_row_index("text")
    lines = (
        text.with_columns(pl.col("line").str.replace_all(r"([.!?;])\s+", "$1\n").str.split("\n"))
        .explode("line")
        .filter(pl.col("line").str.contains(r"\d"))
        .with_row_index("row")
    )
    word = pl.col("word")
    said = (
        lines.select("row", word=pl.col("line").str.to_lowercase().str.extract_all("[a-z]{3,}"))
        .explode("word")
        .drop_nulls()
        .filter(~word.is_in(list(ENGLISH_STOP_WORDS)))
        .with_columns(word.str.slice(0, _STEM).str.strip_chars_end("s"))
        .unique()
    )
    found = (
        _listed(lines["line"].to_list())
        .join(said, on="row")
        .filter(~word.str.starts_with(pl.col("unit")))
        .join(lines.select("row", "text"), on="row")
        .select(row="text", key=pl.col("unit") + "~" + word, number="number")
        .unique()
    )
    return _table(found, len(texts))


def _table(found: pl.DataFrame, n: int) -> Facts:
    """Return facts from columns row, key (of the unit) and number."""
    fact = found["key"] + " " + found["number"]
    names = fact.unique().sort()
    units = names.str.extract(r"^(\S*)")
    distinct = units.unique().sort()
    if not len(names):
        return Facts(sparse.csr_matrix((n, 0)), sparse.csr_matrix((0, 0)))
    column, at = names.search_sorted(fact).to_numpy(), distinct.search_sorted(units).to_numpy()
    ones = np.ones(len(found), np.float32)
    table = sparse.csr_matrix((ones, (found["row"].to_numpy(), column)), shape=(n, len(names)))
    table.data[:] = 1.0
    of = (np.ones(len(names), np.float32), (np.arange(len(names)), at))
    return Facts(table, sparse.csr_matrix(of, shape=(len(names), len(distinct))))


def _listed(texts: Sequence[str]) -> pl.DataFrame:
    """Return columns row, unit and number of every fact, each once per text."""
    frame = pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)}).with_row_index("row")
    found = (
        frame.select("row", fact=pl.col("text").str.replace_all(_NOISE, " ").str.extract_all(_FACT))
        .explode("fact")
        .drop_nulls()
        .with_columns(number=pl.col("fact").str.extract_all(_NUMBER).list.join("-"))
        .with_columns(
            number=pl.col("number").str.replace_all(",", ""),
            unit=pl.col("fact")
            .str.replace_all(_NUMBER, "")
            .str.extract(_UNITS)
            .str.replace_all(r"\s", "")
            .str.to_lowercase()
            .str.slice(0, _UNIT)
            .str.strip_chars_end("s"),
        )
    )
    return (
        found.filter(pl.col("unit").is_not_null() & ~pl.col("unit").is_in(list(_MONTHS)))
        .select("row", "unit", "number")
        .unique(maintain_order=True)
    )


def compared_facts(facts: Facts, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Return how many facts pairs of texts share, and how many are changed.

    Parameters
    ----------
    facts
        Of n texts.
    left, right : int arrays, shape (p,)

    Returns
    -------
    shared, changed : int64 arrays, shape (p,)
        Changed is a number of one text for which the other has another of the same unit: for
        each unit the lesser count of what only one of them has.

    Examples
    --------
    >>> facts = facts_of(["30 days, £5", "45 days, £5, 10 %"])
    >>> [count.tolist() for count in compared_facts(facts, np.array([0]), np.array([1]))]
    [[1], [1]]
    """
    shared, changed = np.zeros((2, len(left)), np.int64)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        one, other = facts.table[left[part]], facts.table[right[part]]
        both = one.multiply(other).tocsr()
        alone = ((one - both) @ facts.units).minimum((other - both) @ facts.units)
        shared[part] = np.rint(np.asarray(both.sum(axis=1)).ravel())
        changed[part] = np.rint(np.asarray(alone.sum(axis=1)).ravel())
    return shared, changed


def said_changes(old: str, new: str, most: int = 3) -> str:
    r"""Return which numbers changed between two texts, in words.

    For each number that only the old text has, the line of the new one with the same unit
    and the most words in common.

    Examples
    --------
    >>> said_changes("Standard delivery is £4.95.", "It is new.\nStandard delivery is £3.95.")
    '"Standard delivery is £4.95." -> "Standard delivery is £3.95."'
    """
    lines = [[line for line in text.split("\n") if line.strip()] for text in (old, new)]
    listed = [
        [(i, *fact) for i, line in enumerate(side) for fact in sorted(_said(line))]
        for side in lines
    ]
    known = [{fact[1:] for fact in side} for side in listed]
    found: list[tuple[float, str]] = []
    for row, unit, number in listed[0]:
        others = [r for r, u, v in listed[1] if u == unit and (u, v) not in known[0]]
        if (unit, number) in known[1] or not others:
            continue
        best = max(others, key=lambda r: _overlap(lines[0][row], lines[1][r]))
        said = f'"{_short(lines[0][row])}" -> "{_short(lines[1][best])}"'
        found.append((-_overlap(lines[0][row], lines[1][best]), said))
    told = list(dict.fromkeys(said for _, said in sorted(found, key=lambda one: one[0])))
    return "; ".join(told[:most])


def _said(line: str) -> set[tuple[str, str]]:
    """Return unit and number of the facts of one line, as `_listed` does for many texts."""
    out = set()
    for fact in _FACT_RE.findall(_NOISE_RE.sub(" ", line)):
        unit = _UNIT_RE.search(_NUMBER_RE.sub("", fact))
        if unit is not None:
            name = re.sub(r"\s", "", unit[0].lower())[:_UNIT].rstrip("s")
            out.add((name, "-".join(_NUMBER_RE.findall(fact)).replace(",", "")))
    return {fact for fact in out if fact[0] not in _MONTHS}


def _overlap(left: str, right: str) -> float:
    one, other = (set(re.findall(r"[a-z]{3,}", line.lower())) for line in (left, right))
    return len(one & other) / max(len(one | other), 1)


def _short(line: str, most: int = 90) -> str:
    line = re.sub(r"[*_`#]+", "", line).strip(" |-")
    line = re.sub(r"\s*\|\s*", " | ", line)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
