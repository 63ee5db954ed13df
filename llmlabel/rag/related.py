"""Pairs of documents on one topic: how alike they are, and whether their facts agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from llmlabel.corpus.lsh import THRESHOLD, near_pairs
from llmlabel.corpus.minhash import estimated_jaccard
from llmlabel.corpus.semantic import semantic_pairs
from llmlabel.corpus.sketches import sketch
from llmlabel.errors import DataError
from llmlabel.lf.neighbours import top_k
from llmlabel.rag.facts import compared_facts, contexts_of, facts_of

__all__ = ["Related", "related"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

EXACT_TO: Final = 20_000
"""Rows up to which all are compared with all, in blocks; above, an index is asked."""
_PAIRS: Final = 50_000  # compared at a time
_FEATURES: Final = 1 << 18


@dataclass(frozen=True, eq=False)
class Related:
    """Pairs of n documents that may be about the same, each once.

    Parameters
    ----------
    left, right : int64 arrays, shape (p,)
        Rows; left is the lesser.
    cosine : float32 array, shape (p,)
        Of the embeddings; NaN where there are none.
    lexical : float32 array, shape (p,)
        Cosine of the TF-IDF vectors of the texts.
    title : float32 array, shape (p,)
        Cosine of the titles; NaN where there are none.
    minhash : float32 array, shape (p,)
        Estimated Jaccard similarity of runs of words.
    shared, changed : int64 arrays, shape (p,)
        Facts in common, and facts that differ (`facts.compared_facts`).
    agreed, denied : int64 arrays, shape (p,)
        Words beside which both have the same numbers, and beside which they have others
        (`facts.contexts_of`).
    """

    left: Ints
    right: Ints
    cosine: Floats
    lexical: Floats
    title: Floats
    minhash: Floats
    shared: Ints
    changed: Ints
    agreed: Ints
    denied: Ints

    def __len__(self) -> int:
        return len(self.left)

    @property
    def topic(self) -> Floats:
        """The mean of the cosines of embeddings, words and titles, of those there are."""
        found = np.stack([self.cosine, self.lexical, self.title])
        return np.asarray(np.nanmean(found, axis=0), np.float32)

    @property
    def agreement(self) -> Floats:
        """The share of comparable words beside which numbers agree; 1 where there are none."""
        compared = self.agreed + self.denied
        return np.where(compared > 0, self.agreed / np.maximum(compared, 1), 1.0).astype(np.float32)


def related(
    texts: Sequence[str],
    vectors: npt.NDArray[Any] | None = None,
    *,
    titles: Sequence[str] | None = None,
    title_vectors: npt.NDArray[Any] | None = None,
    neighbours: int = 16,
    least: float = 0.5,
) -> Related:
    """Find pairs of documents that may be about the same, and compare them.

    Candidates are each document's nearest neighbours by embedding and its near duplicates by
    MinHash.

    Parameters
    ----------
    texts
        n documents or passages.
    vectors : array, shape (n, d), optional
        Unit vectors of the texts (`llmlabel.embed.embed`); a zero row has no neighbours.
        None leaves the near duplicates by MinHash.
    titles
        Of the n documents.
    title_vectors : array, shape (n, d), optional
        Unit vectors of the titles; by default titles are compared by their words.
    neighbours
        How many of each.
    least
        The least cosine of neighbours.

    Returns
    -------
    Related. Memory: beside the vectors some 3 kB per text, most of it TF-IDF and MinHash.

    Examples
    --------
    >>> texts = ["Send it back within 30 days.", "Send it back within 45 days.", "We like tea."]
    >>> pairs = related(texts, np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), least=0.7)
    >>> pairs.left.tolist(), pairs.right.tolist(), pairs.shared.tolist(), pairs.changed.tolist()
    ([0], [1], [0], [1])
    """
    n = len(texts)
    for name, given in (("vectors", vectors), ("titles", titles), ("title_vectors", title_vectors)):
        if given is not None and len(given) != n:
            raise DataError(f"{n} texts, but {len(given)} {name}")
    table = sketch(texts).minhash
    near = near_pairs(table, THRESHOLD)
    left, right = near.left, near.right
    if vectors is not None:
        found = _neighbours(np.asarray(vectors), neighbours, least)
        left, right = np.concatenate([left, found[0]]), np.concatenate([right, found[1]])
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, once = np.unique(low * max(n, 1) + high, return_index=True)
    left, right = low[once], high[once]
    none = np.full(len(left), np.nan, np.float32)
    lexical, by_words = _lexical(texts, titles, left, right)
    return Related(
        left,
        right,
        none if vectors is None else _products(vectors, left, right),
        lexical,
        by_words if title_vectors is None else _products(title_vectors, left, right),
        _blocks(lambda a, b: estimated_jaccard(table[a], table[b]), left, right),
        *compared_facts(facts_of(texts), left, right),
        *compared_facts(contexts_of(texts), left, right),
    )


def _neighbours(vectors: npt.NDArray[Any], neighbours: int, least: float) -> tuple[Ints, Ints]:
    rows = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
    if len(rows) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if len(rows) > EXACT_TO:
        pairs = semantic_pairs(vectors[rows], least, neighbours=neighbours)
        return rows[pairs.left], rows[pairs.right]
    count = min(neighbours + 1, len(rows))
    at, cosines = top_k(vectors[rows], vectors[rows], count)
    left, right = np.repeat(np.arange(len(rows)), count), at.ravel().astype(np.int64)
    good = (cosines.ravel() >= least) & (left != right)
    return rows[left[good]], rows[right[good]]


def _products(vectors: npt.NDArray[Any], left: Ints, right: Ints) -> Floats:
    return _blocks(
        lambda a, b: np.einsum(
            "nd,nd->n", np.asarray(vectors[a], np.float32), np.asarray(vectors[b], np.float32)
        ),
        left,
        right,
    )


def _lexical(
    texts: Sequence[str], titles: Sequence[str] | None, left: Ints, right: Ints
) -> tuple[Floats, Floats]:
    """Return the cosines of TF-IDF vectors of texts, and of titles (NaN without)."""
    count = HashingVectorizer(
        n_features=_FEATURES, alternate_sign=False, norm=None, stop_words="english"
    )
    if not len(left):
        return np.empty(0, np.float32), np.empty(0, np.float32)
    weigh = TfidfTransformer(sublinear_tf=True)
    # Only what is compared is weighed, but how rare a word is all texts say.
    table = weigh.fit_transform(count.transform(texts).astype(np.float32))
    lexical = _sparse_products(table, left, right)
    if titles is None:
        return lexical, np.full(len(left), np.nan, np.float32)
    return lexical, _sparse_products(weigh.transform(count.transform(titles)), left, right)


def _sparse_products(table: Any, left: Ints, right: Ints) -> Floats:
    return _blocks(
        lambda a, b: np.asarray(table[a].multiply(table[b]).sum(axis=1)).ravel(), left, right
    )


def _blocks(product: Any, left: Ints, right: Ints) -> Floats:
    out = np.empty(len(left), np.float32)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        out[part] = product(left[part], right[part])
    return out
