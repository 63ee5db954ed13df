"""Labeling functions by nearness of meaning: examples or class descriptions as prototypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.embed import HasEncode, encode_unit
from llmlabel.errors import ConfigError
from llmlabel.lf.core import LF, Batch, Feature, Votes
from llmlabel.lf.neighbours import Search, approximate_search
from llmlabel.schema import ABSTAIN

__all__ = ["EMBEDDING", "embedding_feature", "nearest"]

EMBEDDING = "embedding"
"""Name of the feature column that holds a row's unit vector."""

Matrix = npt.NDArray[np.float32]

_SEEN = 32  # neighbours that an approximate search looks at for each row


def embedding_feature(encoder: HasEncode, column: str = "text") -> Feature:
    """Return the feature that embeds a text column, to be shared by LFs."""

    def compute(batch: Batch) -> Matrix:
        return encode_unit(encoder, list(batch[column]))

    return Feature(EMBEDDING if column == "text" else f"{EMBEDDING}.{column}", compute)


def nearest(
    name: str,
    prototypes: Mapping[str, Sequence[str]],
    encoder: HasEncode,
    *,
    threshold: float | Callable[[Callable[[Matrix], Matrix]], float] = 0.4,
    margin: float = 0.05,
    column: str = "text",
    feature: Feature | None = None,
    approximate: bool = False,
) -> LF:
    """Vote for the class whose nearest prototype is near enough and clearly nearer.

    Each class's similarity to a row is the cosine of its nearest prototype. The
    LF votes for the best class where that reaches `threshold` and exceeds the
    second-best class by `margin`; else it abstains.

    Parameters
    ----------
    name
        The LF's name.
    prototypes
        ``{class: texts}``: examples of the class, or its description. A class
        without prototypes is never voted for.
    encoder
        Anything with ``.encode(texts) -> array (n, d)``.
    threshold
        Least cosine similarity, -1 to 1; or a function that finds it at the first vote. It
        is given a function from vectors to their similarity to each class, see
        `threshold_from_gold` and `threshold_from_distribution`.
    margin
        Least lead over the second-best class.
    column
        The text column.
    feature
        Where the rows' vectors come from; by default `embedding_feature`.
    approximate
        Look only at each row's 32 nearest prototypes, found by `approximate_search`: for
        tens of thousands of examples. A class without one among them counts as near as
        the 32nd.

    Raises
    ------
    MissingExtraError
        `approximate`, and usearch is not installed.
    ConfigError
        No prototypes, an empty text, a threshold outside [-1, 1].

    Examples
    --------
    >>> class Letters:
    ...     def encode(self, texts):
    ...         return [[t.count("a"), t.count("b")] for t in texts]
    >>> lf = nearest("near", {"A": ["aaa"], "B": ["bb", "bbb"]}, Letters(), threshold=0.8)
    >>> lf({"text": ["aa", "bbbbb", "ab"]})[0].tolist()
    [0, 1, -1]
    """
    labels, texts, owner = _flatten(name, prototypes)
    fixed = threshold if not callable(threshold) else 0.0
    if not -1 <= fixed <= 1 or margin < 0:
        raise ConfigError(
            f"LF {name!r}: expected a threshold in [-1, 1] and a margin of at least 0, "
            f"got {fixed} and {margin}"
        )
    rows = feature or embedding_feature(encoder, column)
    anchors = _Anchors(encoder, texts, owner, len(labels), approximate)
    by_classes = anchors.by_class
    found: list[float] = [] if callable(threshold) else [threshold]

    def vote(batch: Batch) -> Votes:
        vectors = np.asarray(batch[rows.name], np.float32)
        if not len(vectors):
            return np.empty(0, np.int16)
        if callable(threshold) and not found:
            found.append(threshold(by_classes))
        by_class = by_classes(vectors)
        best = by_class.argmax(axis=1)
        top = by_class[np.arange(len(best)), best]
        lead = top - _second(by_class)
        return np.where((top >= found[0]) & (lead >= margin), best, ABSTAIN).astype(np.int16)

    def why(row: Mapping[str, Any]) -> str:
        at, similarity = anchors.nearest(np.asarray(row[rows.name], np.float32))
        return f'{similarity:.2f} similar to "{texts[at]}" ({labels[owner[at]]})'

    spec = {
        "lf": "nearest",
        "name": name,
        "prototypes": {label: list(given) for label, given in prototypes.items()},
        "threshold": threshold,
        "margin": margin,
        "approximate": approximate,
    }
    return LF(
        name,
        vote,
        labels=labels,
        kind="nearest",
        columns=(column,),
        features=(rows,),
        why=why,
        # A recipe says no column: its vectors are those of the step embed.
        spec=None if callable(threshold) or feature is not None or column != "text" else spec,
    )


class _Anchors:
    """The prototypes' vectors: embedded at the first vote, not when the LF is declared."""

    def __init__(
        self,
        encoder: HasEncode,
        texts: Sequence[str],
        owner: npt.NDArray[np.intp],
        k: int,
        approximate: bool,
    ) -> None:
        self.encoder, self.texts, self.owner, self.k = encoder, texts, owner, k
        self.approximate = approximate
        self._vectors: Matrix | None = None
        self._search: Search | None = None

    @property
    def vectors(self) -> Matrix:
        if self._vectors is None:
            self._vectors = encode_unit(self.encoder, self.texts)
        return self._vectors

    def by_class(self, vectors: Matrix) -> Matrix:
        """Return the similarity to the nearest prototype of each class, shape (n, k)."""
        if not self.approximate:
            return _class_best(vectors @ self.vectors.T, self.owner, self.k)
        if self._search is None:
            self._search = approximate_search(self.vectors)
        at, cosines = self._search(vectors, min(_SEEN, len(self.texts)))
        best = np.repeat(cosines[:, -1:], self.k, axis=1)  # none of an unseen class is nearer
        rows = np.arange(len(at))[:, None]
        np.maximum.at(best, (rows, self.owner[at]), cosines)
        return best

    def nearest(self, vector: Matrix) -> tuple[int, float]:
        """Return the nearest prototype and its similarity."""
        similarities = self.vectors @ vector
        at = int(similarities.argmax())
        return at, float(similarities[at])


def _flatten(
    name: str, prototypes: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], list[str], npt.NDArray[np.intp]]:
    labels = tuple(label for label, texts in prototypes.items() if texts)
    for label, texts in prototypes.items():
        if isinstance(texts, str) or not all(isinstance(t, str) and t.strip() for t in texts):
            raise ConfigError(
                f"LF {name!r}: expected a list of texts for the class {label!r}, got {texts!r}"
            )
    if not labels:
        raise ConfigError(f"LF {name!r}: expected prototypes for at least one class")
    once = [list(dict.fromkeys(prototypes[label])) for label in labels]
    texts = [t for given in once for t in given]
    owner = np.repeat(np.arange(len(labels)), [len(given) for given in once])
    return labels, texts, owner


def _class_best(similarities: Matrix, owner: npt.NDArray[np.intp], k: int) -> Matrix:
    """(n, prototypes) to (n, k): the nearest prototype of each class."""
    starts = np.searchsorted(owner, np.arange(k))  # owner is sorted by construction
    best: Matrix = np.maximum.reduceat(similarities, starts, axis=1)
    return best


def _second(by_class: Matrix) -> Matrix:
    """Return the second-largest entry of each row; -1, the least cosine, for one class."""
    if by_class.shape[1] == 1:
        return np.full(len(by_class), -1, np.float32)
    second: Matrix = np.partition(by_class, -2, axis=1)[:, -2]
    return second
