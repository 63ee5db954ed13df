"""Checks of what a student is trained on and asked about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llmlabel.distill.features import Matrix
from llmlabel.embed import HasEncode, embed, unit_rows
from llmlabel.errors import ConfigError, DataError
from llmlabel.schema import ABSTAIN

__all__ = ["check_targets", "known_classes", "unit_embeddings", "with_gold"]


def check_targets(
    texts: Sequence[str],
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    weights: npt.ArrayLike | None,
    *,
    exclusive: bool = True,
) -> tuple[Matrix, Matrix]:
    """Return targets of shape (n, k) and row weights of shape (n,), or say what is wrong.

    Parameters
    ----------
    exclusive
        Whether a row has one class, so that its probabilities sum to one.
    """
    targets = np.asarray(probabilities, np.float64)
    shape = (len(texts), len(classes))
    if not texts or len(classes) < 2:
        raise DataError(
            f"expected at least one text and two classes, got {shape[0]} and {shape[1]}"
        )
    if targets.shape != shape:
        raise DataError(
            f"probabilities: expected the shape {shape} (texts, classes), got {targets.shape}"
        )
    wrong = ~(np.isfinite(targets).all(axis=1) & (targets >= 0).all(axis=1))
    if exclusive:
        wrong |= ~np.isclose(targets.sum(axis=1), 1, atol=1e-3)
    else:
        wrong |= (targets > 1).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        sum_to_one = " that sum to one" if exclusive else ""
        raise DataError(f"expected probabilities{sum_to_one}, got {targets[row].tolist()}", row=row)
    row_weights = np.ones(len(texts)) if weights is None else np.asarray(weights, np.float64)
    if row_weights.shape != shape[:1]:
        raise DataError(f"weights: expected the shape {shape[:1]}, got {row_weights.shape}")
    if not (np.isfinite(row_weights).all() and (row_weights >= 0).all() and row_weights.any()):
        raise DataError("weights: expected finite numbers, none negative, one positive")
    return targets, row_weights


def known_classes(gold: npt.ArrayLike | None, shape: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Return the known class of each of n rows, -1 where there is none, or say what is wrong."""
    n, k = shape
    if gold is None:
        return np.full(n, ABSTAIN)
    known = np.asarray(gold, np.intp)
    if known.shape != (n,):
        raise DataError(f"gold: expected the shape ({n},), got {known.shape}")
    wrong = (known < ABSTAIN) | (known >= k)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"gold: expected -1 or a class below {k}, got {known[row]}", row=row)
    return known


def with_gold(
    targets: Matrix, weights: Matrix, known: npt.NDArray[np.intp]
) -> tuple[Matrix, Matrix]:
    """Return targets and weights in which rows of a known class are certain and count."""
    rows = np.flatnonzero(known != ABSTAIN)
    targets, weights = targets.copy(), weights.copy()
    targets[rows] = np.eye(targets.shape[1])[known[rows]]
    weights[rows] = 1.0
    return targets, weights


def unit_embeddings(
    texts: Sequence[str],
    given: npt.ArrayLike | None,
    encoder: HasEncode | None,
    dims: int | None,
) -> Matrix:
    """Return unit embeddings of shape (n, dims); dims None takes what there is."""
    if dims == 0 or (dims is None and given is None and encoder is None):
        return np.empty((len(texts), 0))
    if given is not None:
        vectors = np.asarray(given)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise DataError(
                f"embeddings: expected the shape ({len(texts)}, {dims or 'd'}), got {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            raise DataError("embeddings: expected finite numbers")
        vectors = unit_rows(vectors)
    elif encoder is not None:
        vectors = embed(texts, encoder)
    else:
        raise ConfigError(
            "this student was trained on given embeddings and has no encoder: give embeddings, or "
            "load it with encoder="
        )
    if dims is not None and vectors.shape[1] != dims:
        raise ConfigError(f"embeddings: expected {dims} numbers a row, got {vectors.shape[1]}")
    return vectors.astype(np.float64)
