"""What a row's text says: a linear classifier that learns from the votes' probabilities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from llmlabel.errors import DataError
from llmlabel.labelmodel.patterns import Array, hash_words
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray

__all__ = ["TextModel", "check_features", "fit_text", "text_terms"]

_FOLDS: Final = 5
_LEAST: Final = 0.05  # of a class's probability for a row to be an example of it
_FLOOR: Final = 1e-6

Features = Any  # a dense array or a scipy sparse matrix, shape (n, d)


@dataclass(frozen=True, eq=False)
class TextModel:
    """One classifier per fold of rows, learned from the other folds.

    The fold is a hash of the row's features, so that no row's own vote comes back to it
    in `log_odds`, neither in the fit nor when it is predicted later.

    Parameters
    ----------
    weights : array, shape (folds, d + 1, k)
        Coefficients and, last, the intercepts.
    balance : array, shape (k,)
        The class shares among what was learned from.
    trust : float
        0 to 1: what the log-odds count beside votes; see `text_trust`.
    """

    weights: Array
    balance: Array
    trust: float = 1.0

    def log_probabilities(self, features: Features) -> Array:
        """Return each row's log probabilities by its text alone, shape (n, k)."""
        fold = folds(features)
        out = np.empty((features.shape[0], self.weights.shape[2]))
        for f, weights in enumerate(self.weights):
            at = np.flatnonzero(fold == f)
            scores = features[at] @ weights[:-1] + weights[-1]
            scores = np.asarray(scores)
            scores -= scores.max(axis=1, keepdims=True)
            out[at] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return out

    def log_odds(self, features: Features) -> Array:
        """Return what the text adds to each class: its log probabilities less the balance's."""
        return np.asarray(self.log_probabilities(features) - np.log(self.balance))


def fit_text(features: Features, posterior: Array, weights: Array, strength: float) -> TextModel:
    """Learn to tell the class from the features of rows with class probabilities.

    Parameters
    ----------
    features : array or sparse matrix, shape (n, d)
    posterior : array, shape (n, k)
    weights : array, shape (n,)
        0 for rows to leave out, which are those without votes.
    strength
        Inverse of the L2 penalty, scikit-learn's C.
    """
    balance = np.maximum(weights @ posterior / weights.sum(), _FLOOR)
    balance /= balance.sum()
    fold = folds(features)
    found = []
    for f in range(_FOLDS):
        row, label = np.nonzero((posterior >= _LEAST) & ((weights > 0) & (fold != f))[:, None])
        found.append(
            _fit_fold(features[row], label, posterior[row, label] * weights[row], balance, strength)
        )
    return TextModel(np.stack(found), balance)


def text_terms(
    model: TextModel | None, features: Features | None, votes: IntArray, weight: float
) -> Array | None:
    """Return what each row's text adds to its classes; without votes its log probabilities.

    Raises
    ------
    DataError
        Features for a model that was fitted without, or others than it was fitted with.
    """
    if features is None:
        return None
    if model is None:
        raise DataError("features were given to a model fitted without features")
    found = check_features(features, len(votes))
    width = model.weights.shape[1] - 1
    if found.shape[1] != width:
        raise DataError(f"features: expected {width} columns as in fit, got {found.shape[1]}")
    alone = model.log_probabilities(found)
    silent = ~(votes != ABSTAIN).any(axis=1)
    odds = weight * model.trust * (alone - np.log(model.balance))
    return np.where(silent[:, None], alone, odds)


def folds(features: Features) -> npt.NDArray[np.intp]:
    """Return each row's fold, a hash of its features, shape (n,)."""
    if bool(sp.issparse(features)):
        rows: Any = sp.csr_array(features)
        bits = np.asarray(rows.data, np.float64).view(np.uint64)
        each = hash_words(np.column_stack([rows.indices.astype(np.uint64), bits]))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])
        hashes = hash_words((sums[rows.indptr[1:]] - sums[rows.indptr[:-1]])[:, None])
    else:
        dense = np.ascontiguousarray(features, np.float64)
        hashes = hash_words(dense.view(np.uint64))
    return (hashes % np.uint64(_FOLDS)).astype(np.intp)


def check_features(features: Features, n: int) -> Features:
    """Return features of n rows as a float array or a CSR array.

    Raises
    ------
    DataError
        Another number of rows, or values that are no finite numbers.
    """
    sparse = bool(sp.issparse(features))
    found: Any = sp.csr_array(features) if sparse else np.asarray(features)
    if found.ndim != 2 or found.shape[0] != n:
        raise DataError(f"features: expected one row per row of votes, ({n}, d), got {found.shape}")
    values = found.data if sparse else found
    if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise DataError("features: expected finite numbers")
    return found.astype(np.float64)


def _fit_fold(
    features: Features, label: npt.NDArray[np.intp], weights: Array, balance: Array, strength: float
) -> Array:
    k = len(balance)
    out = np.zeros((features.shape[1] + 1, k))
    out[-1] = np.log(balance)  # of classes that are not seen, and where only one is
    seen = np.unique(label)
    if len(seen) < 2:
        return out
    model = LogisticRegression(C=strength, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are close enough
        model.fit(features, label, sample_weight=weights)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(seen) == 2:
        coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
        intercepts = np.array([-intercepts[0], intercepts[0]]) / 2
    out[:-1, seen] = coefficients.T
    # Unseen classes keep their small share beside the others.
    shift = np.log(balance[seen]).mean() - intercepts.mean()
    out[-1, seen] = intercepts + shift
    return out
