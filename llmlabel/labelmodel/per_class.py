"""Multi-label tasks: one label model per class, each row may have any number of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.patterns import Array
from llmlabel.votes import VoteMatrix

__all__ = ["PRESENCE", "OneModelPerClass"]

PRESENCE: Final = ("ABSENT", "PRESENT")


class OneModelPerClass(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Binary relevance: each class is a question of its own, present or absent [1]_.

    Votes come per class: for each class a `VoteMatrix` of the same rows with the classes
    ``("ABSENT", "PRESENT")``. An LF that never speaks about a class can be left out of
    its matrix; one that only ever says PRESENT needs others that say ABSENT sometimes,
    since votes that never disagree say nothing about each other. Classes are taken to be
    independent given the votes.

    Parameters
    ----------
    model
        A label model, cloned for every class.

    Attributes
    ----------
    classes_ : array of str, shape (k,)
        Class names, in the order of the votes given to `fit`.
    models_ : dict
        The fitted model of each class.

    References
    ----------
    .. [1] G. Tsoumakas and I. Katakis, "Multi-label classification: an overview",
       International Journal of Data Warehousing and Mining 3(3), 2007, 1-13.

    Examples
    --------
    >>> from llmlabel.labelmodel import MajorityVote
    >>> from llmlabel.votes import VoteMatrix
    >>> sport = VoteMatrix([[1, 1], [0, 1], [0, 0]], ["a", "b"], PRESENCE)
    >>> money = VoteMatrix([[1], [1], [0]], ["c"], PRESENCE)
    >>> model = OneModelPerClass(MajorityVote()).fit({"sport": sport, "money": money})
    >>> model.predict_proba({"sport": sport, "money": money}).tolist()
    [[1.0, 1.0], [0.5, 1.0], [0.0, 0.0]]
    """

    classes_: npt.NDArray[np.str_]
    models_: dict[str, LabelModel]

    def __init__(self, model: LabelModel) -> None:
        self.model = model

    def fit(self, votes: Mapping[str, VoteMatrix]) -> Self:
        """Learn each class from its own votes.

        Parameters
        ----------
        votes
            For each class, the votes on the same n rows whether it is there.

        Raises
        ------
        ConfigError
            No class.
        DataError
            Matrices of other classes than ABSENT and PRESENT or with different numbers
            of rows; a class without any vote (named).
        """
        if not votes:
            raise ConfigError("OneModelPerClass: expected the votes of at least one class")
        _check_rows(votes)
        self.models_ = {}
        for name, L in votes.items():
            try:
                self.models_[name] = clone(self.model).fit(L)
            except DataError as error:
                raise DataError(f"class {name!r}: {error.message}", hint=error.hint) from error
        self.classes_ = np.array(list(votes), np.str_)
        return self

    def predict_proba(self, votes: Mapping[str, VoteMatrix]) -> Array:
        """Return how probably each class is there, shape (n, k); rows do not sum to one.

        Raises
        ------
        UnknownNameError
            A class that `fit` did not see.
        DataError
            A class of `fit` that is missing; wrong matrices.
        """
        check_is_fitted(self, "classes_")
        for name in votes:
            if name not in self.models_:
                raise UnknownNameError("class", name, self.models_, where="OneModelPerClass")
        for name in self.models_:
            if name not in votes:
                raise DataError(f"the votes of class {name!r} of the fitted model are missing")
        _check_rows(votes)
        columns = [model.predict_proba(votes[name])[:, 1] for name, model in self.models_.items()]
        return np.stack(columns, axis=1)

    def covered(self, votes: Mapping[str, VoteMatrix]) -> npt.NDArray[np.bool_]:
        """Return which rows have at least one vote on each class, shape (n, k)."""
        check_is_fitted(self, "classes_")
        return np.stack(
            [model.covered(votes[name]) for name, model in self.models_.items()], axis=1
        )


def _check_rows(votes: Mapping[str, VoteMatrix]) -> None:
    counts = {name: len(L) for name, L in votes.items()}
    first = next(iter(counts))
    for name, L in votes.items():
        if L.classes != PRESENCE:
            raise DataError(
                f"class {name!r}: expected votes of the classes {', '.join(PRESENCE)}, "
                f"got {', '.join(L.classes) or 'none'}"
            )
        if counts[name] != counts[first]:
            raise DataError(
                f"class {name!r} has votes on {counts[name]} rows, {first!r} on {counts[first]}"
            )
