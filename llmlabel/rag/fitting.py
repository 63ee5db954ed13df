"""Chunks measured by themselves: none has more tokens than it may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.rag.cutting import Text, cut, halves
from llmlabel.rag.tokenizers import Tokenizer

__all__ = ["Piece", "fit"]

Ints = npt.NDArray[np.int64]
Piece = tuple[int, int]

_ATTEMPTS: Final = 4


def fit(
    texts: Sequence[Text],
    pieces_of: Callable[[int, int], list[Piece]],
    size: int,
    tokenizer: Tokenizer,
    ids: Sequence[str],
) -> tuple[list[int], list[Piece], Ints]:
    """Cut texts so that each piece by itself has at most `size` tokens.

    A piece may have more tokens than it had in its text: byte-pair encodings take a word
    at the start of a text otherwise than one after a space. Such texts are cut anew with
    fewer tokens; what still does not fit is cut by itself.

    Parameters
    ----------
    texts
        n texts.
    pieces_of
        From a row and a number of tokens to the pieces of that text.
    size
        Tokens that a piece has at most.
    tokenizer
        Measures the pieces.
    ids
        Names of the texts, for errors.

    Returns
    -------
    For each piece its row, its range and its tokens, shape (m,).

    Raises
    ------
    DataError
        One character alone has more tokens.
    """
    sizes = dict.fromkeys(range(len(texts)), size)
    pieces: dict[int, list[Piece]] = {}
    counts: dict[int, Ints] = {}
    pending = list(sizes)
    for _ in range(_ATTEMPTS):
        for row in pending:
            pieces[row] = pieces_of(row, sizes[row])
        counts.update(zip(pending, _counts(texts, pieces, pending, tokenizer), strict=True))
        pending = [row for row in pending if counts[row].size and counts[row].max() > size]
        for row in pending:
            sizes[row] = max(1, sizes[row] - int(counts[row].max()) + size)
    for row in pending:
        pieces[row], counts[row] = _split(texts[row], pieces[row], size, tokenizer, ids[row])
    rows = [row for row in range(len(texts)) for _ in pieces[row]]
    all_counts = [np.empty(0, np.int64), *(counts[row] for row in range(len(texts)))]
    return rows, [p for row in range(len(texts)) for p in pieces[row]], np.concatenate(all_counts)


def _counts(
    texts: Sequence[Text],
    pieces: dict[int, list[Piece]],
    rows: Sequence[int],
    tokenizer: Tokenizer,
) -> list[Ints]:
    flat = tokenizer.counts([texts[row].text[a:b] for row in rows for a, b in pieces[row]])
    ends = np.cumsum([len(pieces[row]) for row in rows], dtype=np.int64)
    return np.split(flat, ends[:-1]) if rows else []


def _split(
    found: Text, pieces: Sequence[Piece], size: int, tokenizer: Tokenizer, id_: str
) -> tuple[list[Piece], Ints]:
    """Cut the pieces that are too large, until none is."""
    pieces = list(pieces)
    while True:
        counts = tokenizer.counts([found.text[a:b] for a, b in pieces])
        if counts.max() <= size:
            return pieces, counts
        smaller: list[Piece] = []
        for piece, count in zip(pieces, counts, strict=True):
            smaller += [piece] if count <= size else _smaller(found, piece, size, tokenizer, id_)
        pieces = smaller


def _smaller(found: Text, piece: Piece, size: int, tokenizer: Tokenizer, id_: str) -> list[Piece]:
    start, end = piece
    starts = tokenizer.starts([found.text[start:end]])[0] + start
    parts = cut(Text(found.text, starts, found.boundaries), size, 0, start, end)
    if len(parts) < 2:
        parts = halves(found, piece)
    if len(parts) < 2:
        raise DataError(
            f"the character {found.text[start:end]!r} alone has more than {size} tokens; "
            "expected a larger size",
            row=id_,
        )
    return parts
