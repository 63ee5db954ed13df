"""A sentence-transformers model as a scikit-learn transformer; a file of an exported model."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin


class TextEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns texts into unit vectors."""

    def __init__(self, name: str) -> None:
        self.name = name

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

            self._model = SentenceTransformer(self.name)
        return self._model.encode(list(X), normalize_embeddings=True, show_progress_bar=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the name alone; the model is loaded where the pipeline is."""
        return {"name": self.name}
