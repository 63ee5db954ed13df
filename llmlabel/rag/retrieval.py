"""Search passages by words (BM25) or by vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from llmlabel.embed import HasEncode, embed
from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.extras import need_packages
from llmlabel.lf.neighbours import top_k

__all__ = [
    "BM25",
    "Dense",
    "Hits",
    "Searcher",
    "check_k",
    "ranked",
]

Ids = npt.NDArray[np.object_]
Scores = npt.NDArray[np.float32]

_STEMMERS: Final[Mapping[str, str]] = {
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "pt": "portuguese",
    "sv": "swedish",
}


class Hits(NamedTuple):
    """What was found for q queries, best first; where fewer than k were, ``""`` and -inf.

    Parameters
    ----------
    ids : object array of str, shape (q, k)
    scores : float32 array, shape (q, k)
    """

    ids: Ids
    scores: Scores


class Searcher(Protocol):
    """Finds passages."""

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """Return the best k for each query."""


class BM25:
    """Search by words.

    Parameters
    ----------
    ids, texts
        n passages.
    language
        Its stop words are left out and its words stemmed; None: neither.
    k1, b
        How soon repeats stop counting, and how much length does.

    Raises
    ------
    MissingExtraError
        bm25s or PyStemmer is not installed (``llmlabel[rag]``).
    UnknownNameError
        Another language.
    DataError
        No passages, or not as many ids as texts.

    Notes
    -----
    S. Robertson, H. Zaragoza (2009), The probabilistic relevance framework: BM25 and beyond;
    Lucene's variant, by bm25s. Words are runs of letters and digits: scripts without spaces
    need a search by vectors.

    Examples
    --------
    >>> BM25(["a", "b"], ["Tents leak.", "Stoves burn."]).search(["a leaking tent"], 2).ids.tolist()
    [['a', '']]
    """

    def __init__(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        *,
        language: str | None = "en",
        k1: float = 1.2,
        b: float = 0.75,
    ) -> None:
        need_packages("BM25", "bm25s", "Stemmer", extra="rag")
        import bm25s

        if language is not None and language not in _STEMMERS:
            raise UnknownNameError("language", language, _STEMMERS)
        self._ids = _check_ids(ids, len(texts))
        self.language = language
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells of each step
        self._index = bm25s.BM25(k1=k1, b=b)
        tokens = self._words(texts)
        # It takes no corpus without a word.
        self._empty = not any(tokens)
        if not self._empty:
            self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `Searcher`; passages that share no word with a query are not found."""
        depth = check_k(k, len(self._ids))
        if self._empty or not len(queries):
            return _nothing(len(queries), k)
        vocabulary = self._index.vocab_dict
        words = [[w for w in query if w in vocabulary] for query in self._words(queries)]
        out = _nothing(len(queries), k)
        asked = [row for row, known in enumerate(words) if known]
        if asked:
            at, scores = self._index.retrieve(
                [words[row] for row in asked], k=depth, show_progress=False
            )
            out.ids[asked, :depth] = np.where(scores > 0, self._ids[at], "")
            out.scores[asked, :depth] = np.where(scores > 0, scores, -np.inf)
        return out

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        import bm25s
        import Stemmer

        language = self.language
        found: list[list[str]] = bm25s.tokenize(
            list(texts),
            token_pattern=r"\w+",  # noqa: S106
            stopwords=language or [],
            stemmer=None if language is None else Stemmer.Stemmer(_STEMMERS[language]),
            return_ids=False,
            show_progress=False,
        )
        return found


class Dense:
    """Search by the cosine of vectors, exactly.

    Parameters
    ----------
    ids : n ids
    vectors : array, shape (n, d)
        Unit vectors of the passages; may be a memory map.
    encode
        Queries to unit vectors, shape (q, d).

    Raises
    ------
    DataError
        No passages, or not as many ids as vectors.

    Examples
    --------
    >>> found = Dense(["a", "b"], np.eye(2), lambda queries: np.array([[0.6, 0.8]])).search(["?"], 2)
    >>> found.ids.tolist(), found.scores.round(1).tolist()
    ([['b', 'a']], [[0.800000011920929, 0.6000000238418579]])
    """

    def __init__(
        self, ids: Sequence[str], vectors: npt.NDArray[Any], encode: Callable[[Sequence[str]], Any]
    ) -> None:
        self._ids = _check_ids(ids, len(vectors))
        self._vectors = vectors
        self._encode = encode

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        texts: Sequence[str],
        encoder: HasEncode,
        cache_dir: str | Path | None = None,
    ) -> Dense:
        """Embed passages, and later queries, with one encoder (see `llmlabel.embed.embed`)."""
        vectors = embed(texts, encoder, cache_dir)
        return cls(ids, vectors, lambda queries: embed(queries, encoder, cache_dir))

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `Searcher`."""
        depth = check_k(k, len(self._ids))
        if not len(queries):
            return _nothing(0, k)
        at, cosines = top_k(self._encode(queries), self._vectors, depth)
        return _padded(self._ids[at], cosines, k)


def ranked(rows: Sequence[Mapping[str, float]], k: int) -> Hits:
    """Return the best k of each row's ids by their scores; ties stay in order.

    Examples
    --------
    >>> ranked([{"a": 1.0, "b": 2.0}], 3).ids.tolist()
    [['b', 'a', '']]
    """
    ids = np.full((len(rows), k), "", object)
    scores = np.full((len(rows), k), -np.inf, np.float32)
    for row, found in enumerate(rows):
        best = sorted(found, key=lambda i: -found[i])[:k]
        ids[row, : len(best)] = best
        scores[row, : len(best)] = [found[i] for i in best]
    return Hits(ids, scores)


def _check_ids(ids: Sequence[str], n: int) -> Ids:
    if not n or len(ids) != n:
        raise DataError(f"expected an id for each of at least one passage, got {len(ids)} for {n}")
    array = np.empty(n, object)
    array[:] = list(ids)
    return array


def check_k(k: int, n: int) -> int:
    """Return how many of n passages to look for, or say that it is none."""
    if k < 1:
        raise ConfigError(f"k: expected at least 1, got {k}")
    return min(k, n)


def _nothing(q: int, k: int) -> Hits:
    return Hits(np.full((q, k), "", object), np.full((q, k), -np.inf, np.float32))


def _padded(ids: npt.NDArray[Any], scores: npt.NDArray[Any], k: int) -> Hits:
    out = _nothing(len(ids), k)
    out.ids[:, : ids.shape[1]] = ids
    out.scores[:, : ids.shape[1]] = scores
    return out
