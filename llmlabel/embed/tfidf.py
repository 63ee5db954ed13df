"""TF-IDF over words and characters, saved as arrays and plain JSON.

Words (1-2 grams) carry the meaning; character n-grams (2-5, within words) carry
spelling, inflection, other scripts and obfuscated spam. Each block's rows have
length one, so both weigh the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from llmlabel.errors import DataError

__all__ = ["Tfidf", "fit_tfidf", "load_tfidf"]

_MAX_FEATURES: Final = 50_000
_FEW_TEXTS: Final = 200  # below, an n-gram seen once is kept: there are too few to be choosy
_BLOCKS: Final[tuple[Mapping[str, Any], ...]] = (
    {"analyzer": "word", "ngram_range": (1, 2), "min_df": 2},
    {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 3},
)


@dataclass(frozen=True, eq=False)
class Tfidf:
    """Fitted TF-IDF blocks; see `fit_tfidf`."""

    vectorizers: tuple[Any, ...]

    @property
    def n_features(self) -> int:
        """Columns of all blocks together."""
        return sum(len(v.idf_) for v in self.vectorizers)

    def transform(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return the TF-IDF rows of texts, shape (n, n_features)."""
        rows: sp.csr_matrix = sp.hstack([v.transform(texts) for v in self.vectorizers], "csr")
        return rows

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return what belongs into an npz file."""
        return {f"idf_{i}": v.idf_ for i, v in enumerate(self.vectorizers)}

    def config(self) -> list[dict[str, Any]]:
        """Return what belongs into a JSON file: the blocks and their terms in column order."""
        return [
            {
                "analyzer": v.analyzer,
                "ngram_range": list(v.ngram_range),
                "terms": v.get_feature_names_out().tolist(),
            }
            for v in self.vectorizers
        ]


def fit_tfidf(texts: Sequence[str]) -> Tfidf:
    """Learn terms and their document frequencies.

    Parameters
    ----------
    texts
        The texts to learn from.

    Raises
    ------
    DataError
        None of the texts holds anything to learn from.

    Examples
    --------
    >>> tfidf = fit_tfidf(["free gift", "free call", "hello"])
    >>> tfidf.transform(["a free lunch"]).shape == (1, tfidf.n_features)
    True
    """
    fitted = [v for block in _BLOCKS if (v := _fit_block(texts, block)) is not None]
    if not fitted:
        raise DataError(f"none of the {len(texts)} texts holds a word or letter to learn from")
    return Tfidf(tuple(fitted))


def load_tfidf(
    config: Sequence[Mapping[str, Any]], arrays: Mapping[str, npt.NDArray[np.float64]]
) -> Tfidf:
    """Rebuild what `Tfidf.config` and `Tfidf.arrays` returned."""
    return Tfidf(tuple(_load_block(block, arrays[f"idf_{i}"]) for i, block in enumerate(config)))


def _fit_block(texts: Sequence[str], block: Mapping[str, Any]) -> Any:
    least = block["min_df"] if len(texts) >= _FEW_TEXTS else 1
    for min_df in sorted({least, 1}, reverse=True):
        vectorizer = _vectorizer(**{**block, "min_df": min_df}, max_features=_MAX_FEATURES)
        try:
            return vectorizer.fit(texts)
        except ValueError:  # scikit-learn's word for "no terms left"
            continue
    return None


def _load_block(block: Mapping[str, Any], idf: npt.NDArray[np.float64]) -> Any:
    vectorizer = _vectorizer(
        analyzer=block["analyzer"],
        ngram_range=tuple(block["ngram_range"]),
        vocabulary={term: i for i, term in enumerate(block["terms"])},
    )
    vectorizer.idf_ = idf
    return vectorizer


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes 0.6 s to import

    return TfidfVectorizer(sublinear_tf=True, **options)
