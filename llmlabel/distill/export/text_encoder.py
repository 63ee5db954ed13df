"""The sentence-transformers model in the folder `encoder` as a scikit-learn transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin

FOLDER = Path(__file__).with_name("encoder")


class TextEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns texts into unit vectors."""

    def fit(self, X: Any, y: Any = None) -> TextEncoder:  # noqa: ARG002
        """Learn nothing."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Return that there is nothing to fit."""
        return True

    def transform(self, X: Any) -> Any:
        """Return vectors, shape (n, d)."""
        if not hasattr(self, "_model"):
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(str(FOLDER))
        return self._model.encode(list(X), normalize_embeddings=True, show_progress_bar=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: the model is loaded where the pipeline is."""
        return {}
