"""What each labeling function is worth: what changes when it is dropped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve

from llmlabel.analysis.diagnostics import Array
from llmlabel.errors import DataError
from llmlabel.labelmodel import FellBackWarning, TwoRateModel
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix

__all__ = ["Effects", "effects"]

_ROWS: Final = 20_000  # more change nothing that can be told apart
_RIDGE: Final = 1.0


@dataclass(frozen=True, eq=False)
class Effects:
    """What dropping each labeling function changes, arrays of shape (m,).

    Parameters
    ----------
    lf_names
        The labeling functions.
    relabeled
        The share of the covered rows that get another label, or none any more.
    alone
        The share of the covered rows on which no other one votes.
    label_model
        By how much the label model's accuracy on gold rows falls without it, in shares;
        negative where it gets better. None without gold.
    student
        The same for a quick student. None without gold or features.
    label_model_accuracy, student_accuracy
        With all of them.
    rows
        How many rows this rests on.
    """

    lf_names: tuple[str, ...]
    relabeled: Array
    alone: Array
    label_model: Array | None
    student: Array | None
    label_model_accuracy: float | None
    student_accuracy: float | None
    rows: int


def effects(
    L: VoteMatrix,
    gold: npt.ArrayLike | None = None,
    features: npt.ArrayLike | None = None,
    *,
    make_model: Callable[[], Any] = TwoRateModel,
    seed: int = 0,
) -> Effects:
    """Drop each labeling function in turn; learn label model and quick student again.

    The quick student is a ridge regression of the label model's probabilities on the
    features, solved exactly. Each row is predicted by a student that was trained on the
    other half of the rows.

    Parameters
    ----------
    L
        Votes of m labeling functions on n rows; of more than 20,000 rows, a sample.
    gold : array of int, shape (n,), optional
        Gold classes, -1 where a row has none: they measure and teach nothing.
    features : array, shape (n, d), optional
        Embeddings of the rows.
    make_model
        Makes a label model.

    Examples
    --------
    >>> L = VoteMatrix([[0, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, 0]] * 9,
    ...                ["good", "better", "wrong"], ["A", "B"])
    >>> found = effects(L, gold=[0, 1, 0, 1] * 9)
    >>> found.label_model_accuracy, found.alone.tolist()
    (1.0, [0.0, 0.0, 0.0])
    """
    truth = None if gold is None else np.asarray(gold)
    if truth is not None and truth.shape != (len(L),):
        raise DataError(f"gold: expected {len(L)} classes, got shape {truth.shape}")
    X = None if features is None else np.asarray(features)
    if X is not None and X.shape[:1] != (len(L),):
        raise DataError(f"features: expected {len(L)} rows, got shape {X.shape}")
    rows = np.arange(len(L))
    if len(L) > _ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _ROWS, replace=False))
        L = L.take(rows)
    truth = None if truth is None else truth[rows]
    student = None if X is None or truth is None else _Student(X[rows], seed)
    covered = L.covered()
    share = max(int(covered.sum()), 1)
    base = _labels(L, make_model)
    known = None if truth is None else truth != ABSTAIN
    whole = _accuracy(base, truth, known)
    taught = None if student is None else _accuracy(student.predict(base, covered), truth, known)
    relabeled, alone, drop, lost = (np.zeros(L.shape[1]) for _ in range(4))
    for j, name in enumerate(L.lf_names):
        rest = L.select([n for n in L.lf_names if n != name])
        left = rest.covered()
        alone[j] = (covered & ~left).sum() / share
        found = _labels(rest, make_model) if left.any() else np.full_like(base, 1 / base.shape[1])
        changed = found.argmax(axis=1) != base.argmax(axis=1)
        relabeled[j] = (covered & (changed | ~left)).sum() / share
        if whole is not None:
            drop[j] = whole - (_accuracy(found, truth, known) or 0.0)
        if student is not None and taught is not None:
            said = student.predict(found, left)
            lost[j] = taught - (_accuracy(said, truth, known) or 0.0)
    return Effects(
        L.lf_names,
        relabeled,
        alone,
        None if whole is None else drop,
        None if taught is None else lost,
        whole,
        taught,
        len(L),
    )


def _labels(L: VoteMatrix, make_model: Callable[[], Any]) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FellBackWarning)
        return np.asarray(make_model().fit(L).predict_proba(L))


def _accuracy(
    found: Array, truth: npt.NDArray[Any] | None, known: npt.NDArray[np.bool_] | None
) -> float | None:
    """Return the share of gold rows that are right, ties counted by expectation."""
    if truth is None or known is None or not known.any():
        return None
    best = found[known] >= found[known].max(axis=1, keepdims=True) - 1e-9
    return float((best[np.arange(len(best)), truth[known]] / best.sum(axis=1)).mean())


class _Student:
    """Ridge regression on two halves of the rows, each predicting the other.

    The rows' products are summed once; what a few rows less change is taken off.
    """

    def __init__(self, X: npt.NDArray[Any], seed: int) -> None:
        ones = np.ones((len(X), 1))
        self._X = np.concatenate([np.asarray(X, np.float64), ones], axis=1)
        self._fold = np.random.default_rng(seed).permutation(len(X)) % 2
        self._of: npt.NDArray[np.bool_] | None = None
        self._grams: list[Array] = []

    def predict(self, targets: Array, weights: npt.NDArray[np.bool_]) -> Array:
        """Train on the rows with weight; return scores for all, shape (n, k)."""
        if self._of is None:
            self._of = weights
            own = (self._X[weights & (self._fold == fold)] for fold in (0, 1))
            self._grams = [x.T @ x + _RIDGE * np.eye(x.shape[1]) for x in own]
        out = np.zeros(targets.shape)
        for fold in (0, 1):
            gone = self._X[self._of & ~weights & (self._fold == fold)]
            come = self._X[weights & ~self._of & (self._fold == fold)]
            gram = self._grams[fold] - gone.T @ gone + come.T @ come
            at = weights & (self._fold == fold)
            learned = solve(gram, self._X[at].T @ targets[at], assume_a="pos")
            out[self._fold != fold] = self._X[self._fold != fold] @ learned
        return out
