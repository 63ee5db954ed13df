"""Search passages: by words (BM25), by vectors, by both, and with a second look at the best."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from llmlabel.embed import HasEncode, embed
from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.extras import need_packages
from llmlabel.lf.neighbours import top_k

__all__ = [
    "BM25",
    "ByDocument",
    "Dense",
    "Fusion",
    "Hits",
    "Hybrid",
    "Reranked",
    "Searcher",
    "ranked",
]

Ids = npt.NDArray[np.object_]
Scores = npt.NDArray[np.float32]
Score = Callable[[Sequence[tuple[str, str]]], Any]
"""From n pairs of a query and a passage to how well they fit, shape (n,)."""

Fusion = Literal["ranks", "scores"]

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
        depth = _check_k(k, len(self._ids))
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
        depth = _check_k(k, len(self._ids))
        if not len(queries):
            return _nothing(0, k)
        at, cosines = top_k(self._encode(queries), self._vectors, depth)
        return _padded(self._ids[at], cosines, k)


class Hybrid:
    """Several searches as one, by reciprocal rank fusion or by their scores.

    Parameters
    ----------
    searchers
        At least two, over the same ids.
    fusion : {"ranks", "scores"}
        ``ranks`` adds ``weight / (constant + rank)``; ``scores`` adds the scores, each
        search's scaled from 0 (the least that it found for the query) to 1 (the best).
    depth
        How many of each are fused.
    constant
        How little the first places stand out.
    weights
        Of the searchers; by default all alike.

    Raises
    ------
    ConfigError
        Fewer than two searchers, weights that do not fit, or an unknown fusion.

    Notes
    -----
    G. Cormack, C. Clarke, S. Büttcher (2009), Reciprocal rank fusion outperforms Condorcet
    and individual rank learning methods. S. Bruch, S. Gai, A. Ingber (2023), An analysis of
    fusion functions for hybrid retrieval: scores lose less than ranks do, but a search whose
    scores cannot be compared between passages spoils them.

    Examples
    --------
    >>> one, other = BM25(["a", "b"], ["tent", "gas"]), BM25(["a", "b"], ["tent", "tent gas"])
    >>> Hybrid([one, other]).search(["tent gas"], 2).ids.tolist()
    [['b', 'a']]
    """

    def __init__(
        self,
        searchers: Sequence[Searcher],
        *,
        fusion: Fusion = "ranks",
        depth: int = 100,
        constant: float = 60,
        weights: Sequence[float] | None = None,
    ) -> None:
        given = [1.0] * len(searchers) if weights is None else [float(w) for w in weights]
        if len(searchers) < 2:
            raise ConfigError(f"hybrid: expected at least two searchers, got {len(searchers)}")
        if len(given) != len(searchers) or min(given) < 0 or not sum(given):
            raise ConfigError(
                f"weights: expected {len(searchers)} numbers of at least 0, got {given}"
            )
        if fusion not in get_args(Fusion):
            raise UnknownNameError("fusion", fusion, get_args(Fusion))
        self._searchers, self._fusion = tuple(searchers), fusion
        self._depth, self._constant, self._weights = depth, constant, given

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `Searcher`; scores are the sums."""
        depth = max(k, self._depth)
        found = [searcher.search(queries, depth) for searcher in self._searchers]
        points = [self._points(hits) * w for hits, w in zip(found, self._weights, strict=True)]
        rows = []
        for row in range(len(queries)):
            sums: dict[str, float] = {}
            for hits, own in zip(found, points, strict=True):
                for id_, point in zip(hits.ids[row].tolist(), own[row].tolist(), strict=True):
                    if id_:
                        sums[id_] = sums.get(id_, 0.0) + point
            rows.append(sums)
        return ranked(rows, k)

    def _points(self, hits: Hits) -> npt.NDArray[np.float64]:
        q, depth = hits.ids.shape
        if self._fusion == "ranks":
            ranks = 1 / (self._constant + 1 + np.arange(depth))
            return np.broadcast_to(ranks, (q, depth))
        scores = hits.scores.astype(np.float64)
        found = np.isfinite(scores)
        least = np.where(found, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
        spread = (
            np.where(found, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True) - least
        )
        # Where all are alike, or there is one alone, each is the best.
        scaled = np.divide(scores - least, spread, out=np.ones_like(scores), where=spread > 0)
        return np.where(found, scaled, 0.0)


class Reranked:
    """The best of a search, in the order of a slower and better score.

    Parameters
    ----------
    searcher
        Finds the candidates.
    texts
        Of the ids.
    score
        Pairs of query and passage to how well they fit: ``CrossEncoder.predict`` of
        sentence-transformers (see `llmlabel.rag.load_cross_encoder`), or another.
    depth
        How many candidates are scored.

    Examples
    --------
    >>> texts = {"a": "tent", "b": "a tent and gas"}
    >>> found = BM25(list(texts), list(texts.values()))
    >>> Reranked(found, texts, lambda pairs: [len(p) for _, p in pairs]).search(["tent"], 1).ids
    array([['b']], dtype=object)
    """

    def __init__(
        self, searcher: Searcher, texts: Mapping[str, str], score: Score, *, depth: int = 50
    ) -> None:
        self._searcher, self._texts, self._score, self._depth = searcher, texts, score, depth

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `Searcher`; scores are the second ones."""
        ids = self._searcher.search(queries, max(k, self._depth)).ids
        places = [(row, id_) for row in range(len(queries)) for id_ in ids[row].tolist() if id_]
        pairs = [(queries[row], self._texts[id_]) for row, id_ in places]
        scores = np.asarray(self._score(pairs) if pairs else [], np.float64).reshape(-1)
        if len(scores) != len(pairs):
            raise ConfigError(f"rerank: expected {len(pairs)} scores, got {len(scores)}")
        rows: list[dict[str, float]] = [{} for _ in queries]
        for (row, id_), score in zip(places, scores.tolist(), strict=True):
            rows[row][id_] = score
        return ranked(rows, k)


class ByDocument:
    """Documents by their chunks: the best chunk of a document counts.

    Parameters
    ----------
    searcher
        Finds chunks.
    document
        The document of each chunk.

    Examples
    --------
    >>> chunks = BM25(["a#0", "a#1", "b#0"], ["gas tent", "gas", "tent pole peg"])
    >>> ByDocument(chunks, {"a#0": "a", "a#1": "a", "b#0": "b"}).search(["gas tent"], 2).ids.tolist()
    [['a', 'b']]
    """

    def __init__(self, searcher: Searcher, document: Mapping[str, str]) -> None:
        self._searcher, self._document = searcher, document

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `Searcher`; as deep as it takes to find k documents."""
        depth = _check_k(4 * k, len(self._document))
        while True:
            found = self._searcher.search(queries, depth)
            rows = [self._best(*row) for row in zip(*map(np.ndarray.tolist, found), strict=True)]
            few = any(len(r) < k and i[-1] for r, i in zip(rows, found.ids, strict=True))
            if not few or depth >= len(self._document):
                return ranked(rows, k)
            depth = min(2 * depth, len(self._document))

    def _best(self, ids: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        best: dict[str, float] = {}
        for id_, score in zip(ids, scores, strict=True):
            if id_:
                best.setdefault(self._document[id_], score)
        return best


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


def _check_k(k: int, n: int) -> int:
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
