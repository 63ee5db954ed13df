"""The two blocks of a linear student's features: a dense one and a sparse one.

With an L2 penalty a linear model sees its features through their inner products
alone, so a block's scale is a statement about trust: multiplying the embeddings
by sqrt(w) counts their similarity w times. Unit embeddings and unit TF-IDF rows
are of one size to start with; w is chosen from the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import cholesky, solve_triangular

from llmlabel.embed import HashedTfidf, Tfidf

__all__ = ["DenseRows", "Features", "Matrix", "coordinates", "from_coordinates", "row_features"]

Matrix = npt.NDArray[np.float64]

_JITTER = 1e-10  # twins make the Gram matrix singular


@dataclass(frozen=True, eq=False)
class DenseRows:
    """A matrix X of shape (n, width)."""

    X: Matrix

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.X.shape[1])

    def dot(self, coef: Matrix) -> Matrix:
        """Return X @ coef.T, shape (n, k)."""
        return self.X @ coef.T

    def back(self, weights: Matrix) -> Matrix:
        """Return weights.T @ X, shape (k, width)."""
        return weights.T @ self.X


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of features.

    Parameters
    ----------
    dense : array, shape (n, d)
        Unit embeddings; d may be 0.
    sparse : csr matrix, shape (n, f)
        TF-IDF rows; f may be 0.
    """

    dense: Matrix
    sparse: sp.csr_matrix

    @property
    def width(self) -> int:
        """Columns of both blocks."""
        return int(self.dense.shape[1] + self.sparse.shape[1])

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: npt.NDArray[np.intp]) -> Features:
        """Return some of the rows."""
        return Features(self.dense[rows], self.sparse[rows])

    def weighted(self, embedding_weight: float) -> Features:
        """Return the features with the embeddings counting `embedding_weight` times."""
        return Features(self.dense * np.sqrt(embedding_weight), self.sparse)

    def gram(self, embedding_weight: float) -> Matrix:
        """Return the inner products of all rows of `weighted`, shape (n, n)."""
        dense, sparse = self._grams
        products: Matrix = embedding_weight * dense + sparse
        return products

    @cached_property
    def _grams(self) -> tuple[Matrix, Matrix]:
        return self.dense @ self.dense.T, (self.sparse @ self.sparse.T).toarray()

    def dot(self, coef: Matrix) -> Matrix:
        """Return the features times coefficients of shape (k, d + f): shape (n, k)."""
        d = self.dense.shape[1]
        product: Matrix = self.dense @ coef[:, :d].T + self.sparse @ coef[:, d:].T
        return product

    def back(self, weights: Matrix) -> Matrix:
        """Return row weights of shape (n, k) times the features: shape (k, d + f)."""
        return np.hstack([weights.T @ self.dense, (self.sparse.T @ weights).T])


def coordinates(
    gram: Matrix, train: npt.NDArray[np.intp], other: npt.NDArray[np.intp]
) -> tuple[Matrix, Matrix]:
    """Return rows in the coordinates that the training rows span.

    A linear model with an L2 penalty has its solution in the span of its
    training rows, so for fewer rows than features it can be fitted in n
    coordinates with the same inner products (the kernel trick): with ``K = L L^T``
    the rows of L. The result is the same, dense and many times faster.

    Parameters
    ----------
    gram : array, shape (n, n)
        Inner products.
    train, other
        The rows to fit on, and others.

    Returns
    -------
    arrays of shape (len(train), len(train)) and (len(other), len(train))
    """
    lower = _factor(gram[np.ix_(train, train)])
    cross = solve_triangular(lower, gram[np.ix_(train, other)], lower=True)
    return lower, cross.T


def from_coordinates(features: Features, lower: Matrix, coef: Matrix) -> Matrix:
    """Return coefficients of `coordinates`, shape (k, n), as those of the features."""
    return features.back(solve_triangular(lower, coef.T, lower=True, trans="T"))


def _factor(gram: Matrix) -> Matrix:
    jitter = _JITTER * max(float(np.trace(gram)) / len(gram), 1.0)
    lower: Matrix = cholesky(gram + jitter * np.eye(len(gram)), lower=True)
    return lower


def row_features(
    texts: Sequence[str], dense: Matrix, tfidf: Tfidf | HashedTfidf | None
) -> Features:
    """Return texts' features: their embeddings, and their TF-IDF rows where there is one."""
    sparse = sp.csr_matrix((len(texts), 0)) if tfidf is None else tfidf.transform(texts)
    return Features(dense, sparse)
