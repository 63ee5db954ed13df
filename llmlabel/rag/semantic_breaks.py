"""Where the meaning of a text turns: neighbouring sentences with distant embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.embed import unit_rows
from llmlabel.rag.boundaries import structure

__all__ = ["Encode", "semantic_breaks"]

Encode = Callable[[Sequence[str]], Any]
"""From n texts to vectors, shape (n, d)."""

_WINDOW: Final = 2  # sentences on each side


def semantic_breaks(texts: Sequence[str], encode: Encode, share: float) -> list[list[int]]:
    """Return the places in each text where the meaning turns.

    The mean vectors of the two sentences before and after each place between sentences are
    compared; breaks are those places, a share of all in the corpus, where they are most
    distant. Tables and code are one sentence.

    Parameters
    ----------
    texts
        n texts, encoded all at once.
    encode
        Sentences to vectors.
    share
        Between 0 and 1.

    Notes
    -----
    After G. Kamradt, "5 levels of text splitting" (2023), who takes the percentile of each
    text; that of the corpus leaves a text of one subject whole.

    Examples
    --------
    >>> colour = {"r": [1, 0], "b": [0, 1]}
    >>> semantic_breaks(["Red. Red. Blue. Blue."], lambda s: [colour[x[0].lower()] for x in s], 0.3)
    [[10]]
    """
    places = [_sentences(text) for text in texts]
    sentences = [
        text[a:b].strip()
        for text, starts in zip(texts, places, strict=True)
        for a, b in zip([0, *starts], [*starts, len(text)], strict=True)
    ]
    if not any(places):
        return [[] for _ in texts]
    vectors = unit_rows(np.asarray(encode(sentences), np.float32))
    ends = np.cumsum([len(starts) + 1 for starts in places])
    distances = [_distances(v) for v in np.split(vectors, ends[:-1])]
    limit = float(np.quantile(np.concatenate(distances), 1 - share))
    return [
        [place for place, d in zip(starts, found.tolist(), strict=True) if d > 0 and d >= limit]
        for starts, found in zip(places, distances, strict=True)
    ]


def _sentences(text: str) -> list[int]:
    """Return where sentences begin but for the first; a heading belongs to what follows."""
    found = structure(text)
    first = len(text) - len(text.lstrip())
    whole = iter([*found.whole, (len(text) + 1, len(text) + 1)])
    span = next(whole)
    kept = []
    for place, level in zip(found.places, found.levels, strict=True):
        while span[1] <= place:
            span = next(whole)
        if place > first and level != 1 and not span[0] < place < span[1]:
            kept.append(place)
    return kept


def _distances(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return one less the cosine of the means before and after each place, shape (n - 1,)."""
    n = len(vectors)
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, 0, np.float64)])
    at = np.arange(1, n)
    before = unit_rows(sums[at] - sums[np.maximum(at - _WINDOW, 0)])
    after = unit_rows(sums[np.minimum(at + _WINDOW, n)] - sums[at])
    distances: npt.NDArray[np.float64] = 1 - np.einsum("nd,nd->n", before, after, dtype=np.float64)
    return distances
