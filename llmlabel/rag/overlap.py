"""What a text of a pair shares with the other: words, and runs of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.ngrams import ngrams
from llmlabel.corpus.segment import Segments, segment
from llmlabel.io.hashing import mix

__all__ = ["repeats_run", "shared_words"]

_ROW: Final = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]


def repeats_run(texts: Sequence[str], others: Sequence[str], n: int) -> npt.NDArray[np.bool_]:
    """Return which texts have `n` words in a row that their other has, too; shape (len(texts),).

    Case and punctuation do not count.

    Examples
    --------
    >>> repeats_run(["so to speak, indeed", "no"], ["To speak indeed!", "no"], 3).tolist()
    [True, False]
    """
    found = []
    for batch in (texts, others):
        parts = segment(list(batch))
        grams, offsets = ngrams(parts.term_hashes, parts.terms.offsets, n, whole=False)
        found.append((grams, np.repeat(np.arange(len(batch)), np.diff(offsets))))
    (grams, row), other = found
    hit = np.isin(_keys(grams, row), _keys(*other))
    return np.bincount(row, hit, len(texts)) > 0


def shared_words(texts: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the share of each text's words that its other has, rare words counting more.

    A word counts by the logarithm of how rare it is among the others' words.

    Examples
    --------
    >>> shared_words(["a tent", "a tent"], ["the tent is here", "a house"]).round(2).tolist()
    [0.5, 0.5]
    """
    asked, told = segment(list(texts)), segment(list(others))
    row = asked.terms.document
    weight = _rarity(asked, told)
    has = np.isin(_keys(asked.term_hashes, row), _keys(told.term_hashes, told.terms.document))
    total = np.bincount(row, weight, len(texts))
    return np.bincount(row, weight * has, len(texts)) / np.maximum(total, 1e-12)


def _rarity(asked: Segments, told: Segments) -> npt.NDArray[np.float64]:
    words, counts = np.unique(told.term_hashes, return_counts=True)
    if not len(words):
        return np.ones(len(asked.term_hashes))
    at = np.minimum(np.searchsorted(words, asked.term_hashes), len(words) - 1)
    often = np.where(words[at] == asked.term_hashes, counts[at], 1)
    return np.asarray(np.log1p(counts.sum() / often), np.float64)


def _keys(hashes: Hashes, rows: npt.NDArray[np.int64]) -> Hashes:
    """Return one number for each hash and row, so that a pair's words meet its own alone."""
    return mix(hashes + rows.astype(np.uint64) * _ROW)
