"""Hard votes of few classes as table indices: eight LFs are one number, scored in one look-up.

Row for row, a million rows of a hundred LFs are a hundred million votes to look at in each
step. With v + 1 for vote v and 0 for silence, the votes of as many LFs as fit a table of
8,192 entries are the digits of one code; what they say together is tabulated once per step
and looked up per row, and how often each of them said what is counted per code.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.labelmodel.patterns import Array, hash_words
from llmlabel.votes import IntArray, vote_dtype

__all__ = [
    "CodedRows",
    "Codes",
    "Layout",
    "coded_rows",
    "encode",
    "encoded",
    "layout_of",
    "silent_rows",
]

Codes = npt.NDArray[np.uint16]

Index = npt.NDArray[np.int32]
Keys = npt.NDArray[np.uint64]
Encoded = tuple[Codes, Keys]

_TABLE: Final = 1 << 13  # entries: with its neighbours it stays in the CPU's cache
_MOST_CLASSES: Final = 10  # beyond, most entries are never seen and single votes are cheaper
_MANY: Final = 1 << 16  # rows from which the codes are remembered
_CHUNK: Final = 1 << 14
_PER_WORD: Final = 4


@dataclass(frozen=True)
class Layout:
    """How the votes of m LFs for k classes are put into codes, `per` LFs each."""

    m: int
    k: int
    per: int

    @property
    def base(self) -> int:
        """The number of things that an LF can say."""
        return self.k + 1

    @property
    def starts(self) -> range:
        """The first LF of each code."""
        return range(0, self.m, self.per)

    def width(self, start: int) -> int:
        """Return how many LFs the code has that begins with LF `start`."""
        return min(self.per, self.m - start)

    def tables(self, terms: Array) -> Iterator[Array]:
        """Yield per code what its LFs say together, shape (c, base ** width).

        Parameters
        ----------
        terms : array, shape (c, m, base)
            What each LF adds to c scores with each thing it can say.
        """
        for start in self.starts:
            table = terms[:, start]
            for j in range(start + 1, start + self.width(start)):
                table = (terms[:, j, :, None] + table[:, None, :]).reshape(len(terms), -1)
            yield table

    @property
    def columns(self) -> int:
        """The number of codes of a row, padded to whole words."""
        return -(-len(self.starts) // _PER_WORD) * _PER_WORD

    def decode(self, codes: Codes) -> IntArray:
        """Return the votes of codes, shape (u, m)."""
        digits = np.arange(self.base**self.per) // self.base ** np.arange(self.per)[:, None]
        said = (digits % self.base - 1).T.astype(vote_dtype(self.k))
        out: IntArray = np.empty((len(codes), self.m), said.dtype)
        for i, start in enumerate(self.starts):
            width = self.width(start)
            out[:, start : start + width] = said[codes[:, i], :width]
        return out

    def counts(self, codes: Codes, weights: Array) -> Array:
        """Return how much weight each LF's each saying has, shape (m, base)."""
        found = []
        for i, start in enumerate(self.starts):
            width = self.width(start)
            seen = np.bincount(codes[:, i], weights, minlength=self.base**width)
            found.append(_digits(np.asarray(seen, np.float64), self.base, width))
        return np.concatenate(found)


def layout_of(m: int, k: int) -> Layout | None:
    """Return the layout for m LFs and k classes; None where single votes are cheaper.

    Examples
    --------
    >>> layout_of(20, 2).per, layout_of(20, 9).per, layout_of(20, 100)
    (8, 3, None)
    """
    if k > _MOST_CLASSES:
        return None
    per = 1
    while (k + 1) ** (per + 1) <= _TABLE:
        per += 1
    return Layout(m, k, per)


def encode(votes: IntArray, layout: Layout) -> Encoded:
    """Return the codes of votes, shape (n, layout.columns), and a key of each row, shape (n,).

    Examples
    --------
    >>> layout = layout_of(3, 2)
    >>> codes, _ = encode(np.array([[-1, 0, 1], [-1, -1, -1]], np.int8), layout)
    >>> codes.tolist(), layout.decode(codes).tolist()
    ([[21, 0, 0, 0], [0, 0, 0, 0]], [[-1, 0, 1], [-1, -1, -1]])
    """
    n, m = votes.shape
    count = len(layout.starts)
    place = np.zeros((m, count), np.float32)
    lf = np.arange(m)
    place[lf, lf // layout.per] = float(layout.base) ** (lf % layout.per)
    silence = place.sum(axis=0)
    codes = np.zeros((n, layout.columns), np.uint16)
    step = min(_CHUNK, n)
    # Zeros: BLAS reads beyond short blocks, and what lies there may not be a number.
    part, found = np.zeros((step, m), np.float32), np.zeros((step, count), np.float32)
    for start in range(0, n, _CHUNK):
        at = slice(start, min(start + _CHUNK, n))
        size = at.stop - start
        np.copyto(part[:size], votes[at])
        # BLAS, and exact: whole numbers below 2^24.
        np.matmul(part[:size], place, out=found[:size])
        np.add(found[:size], silence, out=codes[at, :count], casting="unsafe")
    return codes, row_keys(codes)


def row_keys(codes: Codes) -> Keys:
    """Return 64 bits of each row: its codes as they are where they fit in, else a hash."""
    words = codes.view(np.uint64)
    if words.shape[1] == 1:
        return words[:, 0]
    keys = np.empty(len(words), np.uint64)
    for start in range(0, len(words), _CHUNK):
        keys[start : start + _CHUNK] = hash_words(words[start : start + _CHUNK])
    return keys


def encoded(votes: IntArray, layout: Layout) -> Encoded:
    """Return what `encode` returns; what it last did is remembered while its votes live.

    Most often the rows of a fit are those that are predicted next.
    """
    global _last
    known, made, found, _ = _last
    if known is not None and known() is votes and made == layout:
        return cast("Encoded", found)
    found = encode(votes, layout)
    if len(votes) < _MANY:
        return found
    _last = (weakref.ref(votes, _forget), layout, found, None)
    return found


def _remember(votes: IntArray, index: Index, codes: Codes) -> None:
    global _last
    known, layout, found, _ = _last
    if known is not None and known() is votes:
        _last = (known, layout, found, (codes, index))


def _forget(dead: object) -> None:
    global _last
    if _last[0] is dead:
        _last = _NOTHING


_NOTHING: Final[Any] = (None, None, None, None)
_last: Any = _NOTHING


@dataclass(frozen=True)
class CodedRows:
    """Rows as codes, in any order; one of each kind has the weight of all, and others none.

    Parameters
    ----------
    keys : array of uint64, shape (u,)
    codes : array of uint16, shape (u, layout.columns)
    weights : array, shape (u,)
        How often each row counts: not at all where it has no vote.
    layout
    """

    keys: Keys
    codes: Codes
    weights: Array
    layout: Layout

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, k)."""
        return self.layout.m, self.layout.k

    @property
    def hashes(self) -> Keys:
        """What rows are drawn by: a random order that depends on the votes alone."""
        return self.keys if self.codes.shape[1] > _PER_WORD else hash_words(self.keys[:, None])

    def take(self, rows: npt.NDArray[np.intp], weights: Array) -> CodedRows:
        """Return some rows with new weights."""
        return CodedRows(self.keys[rows], self.codes[rows], weights, self.layout)

    def joined(self, other: CodedRows) -> CodedRows:
        """Return the rows of both, each once, with the sum of its weights."""
        keys = np.concatenate([self.keys, other.keys])
        codes = np.concatenate([self.codes, other.codes])
        weights = np.concatenate([self.weights, other.weights])
        return _sorted(keys, codes, weights, self.layout)


def coded_rows(
    votes: IntArray, layout: Layout, weights: Array | None = None
) -> tuple[CodedRows, npt.NDArray[np.bool_]]:
    """Return rows with the weight of all that are like them, and which have votes, shape (n,).

    Rows are told apart by 64 bits: exactly where their codes fit in them (32 LFs of two
    classes), else by a hash. Two rows among a million share one with a probability of
    3e-8, and would then be counted as one.

    Examples
    --------
    >>> votes = np.array([[0, 1], [1, 1], [0, 1], [-1, -1]], np.int8)
    >>> rows, covered = coded_rows(votes, layout_of(2, 2))
    >>> sorted(rows.weights[rows.weights > 0].tolist()), covered.tolist()
    ([1.0, 2.0], [True, True, True, False])
    """
    codes, keys = encoded(votes, layout)
    if _seldom_repeat(keys):
        return _sorted(keys, codes, weights, layout), ~silent_rows(keys, layout)
    index, distinct = _numbered(keys)
    own = _codes_of(index, distinct, codes, layout)
    _remember(votes, index, own)
    totals = np.bincount(index, weights, minlength=len(distinct)).astype(np.float64)
    return _voting(distinct, own, totals, layout), ~silent_rows(keys, layout)


def repeated(votes: IntArray, layout: Layout) -> tuple[IntArray, Index] | None:
    """Return distinct rows and which of them each row is, where that was found out just before.

    None where rows seldom repeat, too.
    """
    known, made, _, numbered = _last
    if known is None or known() is not votes or made != layout or numbered is None:
        return None
    codes, index = numbered
    return layout.decode(codes), index


def silent_rows(keys: Keys, layout: Layout) -> npt.NDArray[np.bool_]:
    """Return which rows have no vote, by their keys."""
    return np.asarray(keys == np.uint64(_silence(layout)))


def _silence(layout: Layout) -> int:
    return int(row_keys(np.zeros((1, layout.columns), np.uint16))[0])


def _numbered(keys: Keys) -> tuple[Index, Keys]:
    """Return which distinct key each row has, and the distinct keys."""
    found = pa.array(keys).dictionary_encode()  # a hash table: five times as fast as sorting
    return found.indices.to_numpy(), found.dictionary.to_numpy()


def _codes_of(index: Index, distinct: Keys, codes: Codes, layout: Layout) -> Codes:
    if layout.columns == _PER_WORD:
        return np.ascontiguousarray(distinct).view(np.uint16).reshape(-1, _PER_WORD)
    some = np.empty(len(distinct), np.int32)
    some[index] = np.arange(len(index), dtype=np.int32)
    return codes[some]


def _seldom_repeat(keys: Keys) -> bool:
    some = keys[: 1 << 13]
    return 2 * len(np.unique(some)) > len(some)


def _sorted(keys: Keys, codes: Codes, weights: Array | None, layout: Layout) -> CodedRows:
    """Return all rows, one of each kind with the weight of all: nothing is copied."""
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    totals = np.zeros(len(keys))
    if weights is None:
        totals[order[first]] = np.diff(np.append(first, len(keys)))
    else:
        totals[order[first]] = np.add.reduceat(weights[order], first)
    totals[silent_rows(keys, layout)] = 0
    return CodedRows(keys, codes, totals, layout)


def _voting(keys: Keys, codes: Codes, totals: Array, layout: Layout) -> CodedRows:
    weights = np.where(silent_rows(keys, layout), 0, totals)
    return CodedRows(keys, codes, weights, layout)


def _digits(seen: Array, base: int, width: int) -> Array:
    """Return the counts of each digit of codes, lowest first, shape (width, base)."""
    if width == 1:
        return seen[None]
    low = width // 2
    halves = seen.reshape(-1, base**low)
    return np.concatenate(
        [
            _digits(halves.sum(axis=0), base, low),
            _digits(halves.sum(axis=1), base, width - low),
        ]
    )
