"""What all label models share: checking votes, distinct rows, rows without votes."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel.patterns import Array, find_patterns
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["LabelModel", "check_weights", "nothing_to_learn", "require_votes"]

_PREDICT_CHUNK: Final = 1 << 18  # patterns scored at a time
_UNCOVERED: Final = ("balance", "uniform")


class LabelModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The base of every label model; scikit-learn's conventions with a `VoteMatrix` as X.

    A model implements ``_fit(votes, weights)``, which learns ``class_balance_`` and
    whatever else it needs from distinct rows with at least one vote, and
    ``_proba(votes)``, which gives such rows their probabilities. Confidences of votes
    are not used here.

    Attributes
    ----------
    classes_ : array of str, shape (k,)
        Class names; column c of `predict_proba` is ``classes_[c]``.
    lf_names_ : tuple of str
        The labeling functions, in the order of the votes' columns.
    class_balance_ : array, shape (k,)
        The learned share of each class.
    """

    uncovered: str
    classes_: npt.NDArray[np.str_]
    lf_names_: tuple[str, ...]
    class_balance_: Array

    # What each number among the parameters must satisfy: its bounds, both allowed.
    _bounds: ClassVar[dict[str, tuple[float, float]]] = {}

    def _fit(self, votes: IntArray, weights: Array) -> None:
        raise NotImplementedError

    def _proba(self, votes: IntArray) -> Array:
        raise NotImplementedError

    def fit(self, L: VoteMatrix, *, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Learn from votes alone.

        Parameters
        ----------
        L
            The votes of m labeling functions on n rows.
        sample_weight : array, shape (n,), optional
            How often each row counts, 1 by default.

        Raises
        ------
        ConfigError
            A parameter outside its range.
        DataError
            Fewer than two classes, no vote on any row, or weights that are no weights.
        """
        self.check_parameters()
        votes = require_votes(L)
        if len(L.classes) < 2:
            raise DataError(f"expected at least two classes, got {', '.join(L.classes) or 'none'}")
        weights = check_weights(sample_weight, len(L))
        patterns = find_patterns(votes, weights)
        voting = (patterns.votes != ABSTAIN).any(axis=1) & (patterns.weights > 0)
        if not voting.any():
            raise nothing_to_learn(len(L))
        self.classes_ = np.array(L.classes, np.str_)
        self.lf_names_ = L.lf_names
        self._fit(patterns.votes[voting], patterns.weights[voting])
        return self

    def predict_proba(self, L: VoteMatrix) -> Array:
        """Return class probabilities, shape (n, k), each row summing to one.

        A row without votes gets the learned class balance, or the uniform
        distribution where ``uncovered="uniform"``; `covered` says which rows those are.

        Raises
        ------
        DataError, UnknownNameError
            Other labeling functions or classes than those of `fit`.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        patterns = find_patterns(self._require_known(L))
        found = np.empty((len(patterns.votes), len(self.classes_)))
        for start in range(0, len(found), _PREDICT_CHUNK):
            part = patterns.votes[start : start + _PREDICT_CHUNK]
            found[start : start + _PREDICT_CHUNK] = self._proba(part)
        found[~(patterns.votes != ABSTAIN).any(axis=1)] = self._prior()
        return np.asarray(found[patterns.inverse])

    def covered(self, L: VoteMatrix) -> npt.NDArray[np.bool_]:
        """Return which rows have at least one vote, shape (n,); the others get the prior."""
        self._require_known(L)
        return L.covered()

    def _prior(self) -> Array:
        k = len(self.classes_)
        return self.class_balance_ if self.uncovered == "balance" else np.full(k, 1 / k)

    def _require_known(self, L: VoteMatrix) -> IntArray:
        """Return the votes where they have the labeling functions and classes of `fit`."""
        check_is_fitted(self, "class_balance_")
        votes = require_votes(L)
        _require_same("labeling function", L.lf_names, self.lf_names_)
        _require_same("class", L.classes, tuple(str(c) for c in self.classes_))
        return votes

    def check_parameters(self) -> None:
        """Raise where a parameter is outside its bounds; `fit` does so first."""
        values: dict[str, Any] = self.get_params(deep=False)
        me = type(self).__name__
        if self.uncovered not in _UNCOVERED:
            raise UnknownNameError(
                "value of 'uncovered'", str(self.uncovered), _UNCOVERED, where=me
            )
        for name, (low, high) in self._bounds.items():
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise ConfigError(f"{me}: {name}: expected a number, got {value!r}")
            if not low <= value <= high:
                raise ConfigError(f"{me}: {name}: expected {low:g} to {high:g}, got {value!r}")


def nothing_to_learn(n: int) -> DataError:
    """Return the error of votes that are all silent."""
    return DataError(
        f"no labeling function votes on any of the {n} rows; nothing to learn from",
        hint="look at the coverage of each labeling function: llmlabel analyze",
    )


def require_votes(L: VoteMatrix) -> IntArray:
    """Return the votes of what must be a vote matrix."""
    if not isinstance(L, VoteMatrix):
        raise DataError(
            f"expected a VoteMatrix, got {type(L).__name__}",
            hint="VoteMatrix(votes, lf_names, classes) wraps a plain array",
        )
    return L.votes


def _require_same(what: str, given: tuple[str, ...], fitted: tuple[str, ...]) -> None:
    for name in given:
        if name not in fitted:
            raise UnknownNameError(what, name, fitted, where="the model was not fitted with it")
    missing = [name for name in fitted if name not in given]
    if missing:
        raise DataError(f"the {what} {missing[0]!r} of the fitted model is missing from the votes")
    if given != fitted:
        at = next(i for i, (a, b) in enumerate(zip(given, fitted, strict=True)) if a != b)
        raise DataError(
            f"{what} {at} is {given[at]!r}; the model was fitted with {fitted[at]!r} there",
            hint="L.select(model.lf_names_) puts labeling functions in the fitted order",
        )


def check_weights(weights: npt.ArrayLike | None, n: int) -> Array | None:
    """Return weights of n rows as floats of at least 0, or None."""
    if weights is None:
        return None
    found = np.asarray(weights, np.float64)
    if found.shape != (n,):
        raise DataError(
            f"sample_weight: expected one weight per row, shape ({n},), got {found.shape}"
        )
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"sample_weight: expected a weight of at least 0, got {found[row]}", row=row
        )
    return found
