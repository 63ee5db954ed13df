"""Searches over searches: several as one, a second look at the best, documents by their chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.rag.retrieval import Hits, Searcher, check_k, ranked

__all__ = ["ByDocument", "Fusion", "Hybrid", "Reranked", "Score"]

Score = Callable[[Sequence[tuple[str, str]]], Any]
"""From n pairs of a query and a passage to how well they fit, shape (n,)."""

Fusion = Literal["ranks", "scores"]


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
    >>> from llmlabel.rag.retrieval import BM25
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
    >>> from llmlabel.rag.retrieval import BM25
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
    >>> from llmlabel.rag.retrieval import BM25
    >>> chunks = BM25(["a#0", "a#1", "b#0"], ["gas tent", "gas", "tent pole peg"])
    >>> ByDocument(chunks, {"a#0": "a", "a#1": "a", "b#0": "b"}).search(["gas tent"], 2).ids.tolist()
    [['a', 'b']]
    """

    def __init__(self, searcher: Searcher, document: Mapping[str, str]) -> None:
        self._searcher, self._document = searcher, document

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """See `Searcher`; as deep as it takes to find k documents."""
        depth = check_k(4 * k, len(self._document))
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
