"""What a linear student says of training rows when it has not seen them."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from llmlabel.distill.contest import Labels
from llmlabel.distill.features import Matrix, row_features
from llmlabel.distill.heldout import labeled_rows, learn
from llmlabel.distill.inputs import unit_embeddings
from llmlabel.distill.linear import LinearStudent
from llmlabel.distill.softmax import Choice, deal_folds

__all__ = ["out_of_fold"]

_FOLDS: Final = 5


def out_of_fold(
    student: LinearStudent,
    labels: Labels,
    rows: npt.NDArray[np.intp],
    *,
    keep: float | Literal["auto"] = 1.0,
    rounds: int = 0,
    seed: int = 0,
) -> Matrix:
    """Return probabilities of training rows, each by a student that has not met the row.

    The rows are dealt to five folds, and for each a student like the given one, with its
    strength of penalty, weights and temperature, learns from all rows but the fold's. Not
    even their texts are left: a student that teaches itself on a row, label or not, is surer
    of it than of rows to come, and surest where it errs.

    Parameters
    ----------
    student
        From `fit_linear`.
    labels
        What it has learned from, n rows.
    rows : array of int, shape (r,)
        Which of them.
    keep, rounds, seed
        As it was fitted.

    Returns
    -------
    array, shape (r, k)

    Examples
    --------
    >>> from llmlabel.distill import fit_linear
    >>> texts = ["free gift", "win a free phone", "see you at lunch", "lunch tomorrow?"] * 5
    >>> targets = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.8, 0.2]] * 5)
    >>> student = fit_linear(texts, targets, ["HAM", "SPAM"])
    >>> labels = Labels(texts, targets, np.ones(20), np.full(20, -1), None)
    >>> out_of_fold(student, labels, np.arange(4)).argmax(axis=1).tolist()
    [1, 1, 0, 0]
    """
    facts = student.facts
    how = Choice(float(facts["C"]), float(facts["embedding_weight"]), None, 0)
    dense = unit_embeddings(labels.texts, labels.embeddings, student.encoder, student.dims)
    features = row_features(labels.texts, dense, student.tfidf)
    rng = np.random.default_rng(seed)
    folds = deal_folds(labels.targets[rows].argmax(axis=1), rng, min(_FOLDS, len(rows)))
    out = np.empty((len(rows), len(student.classes)))
    with threadpool_limits(1):
        for fold in np.unique(folds):
            held = rows[folds == fold]
            left = np.setdiff1d(np.arange(len(labels.texts)), held)
            data, _ = labeled_rows(
                features.take(left),
                labels.targets[left],
                labels.weights[left],
                labels.gold[left],
                keep,
                rounds,
                seed,
            )
            fitted = learn(data, how, gold_weight=float(facts.get("gold_weight", 1.0)))
            logits = features.take(held).dot(fitted.coef) + fitted.intercept
            out[folds == fold] = logits / float(facts.get("temperature", 1.0))
    found: Matrix = softmax(out, axis=1)
    return found
