"""Weak labels made better before and while a student learns: a cut and self-training."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from llmlabel.distill.features import Features, Matrix
from llmlabel.distill.softmax import Coefficients, fit_softmax
from llmlabel.lf import top_k

__all__ = [
    "anchored",
    "certainty",
    "cut_statistic",
    "self_train",
    "share_kept",
    "sharpened",
]

_NEIGHBOURS: Final = 20
_ANCHORS: Final = 10_000  # of more rows, so many are looked at as neighbours
_MOST: Final = 10_000  # rows that a round learns from
_LEAST_WEIGHT: Final = 1e-6
_KEPT: Final = (0.7, 1.0)
_ANCHOR: Final = 4  # measured on five sets' validation rows (docs/log.md)


def cut_statistic(
    vectors: Matrix, labels: npt.NDArray[np.intp], *, keep: float, seed: int = 0
) -> npt.NDArray[np.bool_]:
    r"""Return which rows to learn from: of each label, those whose neighbours agree most.

    With the cosines :math:`s_{ij}` of row i to its 20 nearest others, and labels dealt out
    by chance with their shares :math:`\pi`, the disagreeing cosines
    :math:`J_i = \sum_j s_{ij} [y_j \ne y_i]` have the mean :math:`(1 - \pi_{y_i}) \sum_j s_{ij}`
    and the variance :math:`\pi_{y_i} (1 - \pi_{y_i}) \sum_j s_{ij}^2`; rows are ranked by how
    many standard deviations they are below. Per label, so that rare ones stay.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Unit vectors.
    labels : array of int, shape (n,)
    keep
        The share of each label's rows that stays.
    seed
        Of the sample of neighbours, where rows are many.

    Notes
    -----
    H. Lang, A. Vijayaraghavan and D. Sontag (2022), Training Subset Selection for Weak
    Supervision; F. Muhlenbach, S. Lallich and D. Zighed (2004).

    Examples
    --------
    >>> vectors = np.repeat(np.eye(2), 30, axis=0)
    >>> labels = np.repeat([0, 1], 30)
    >>> labels[0] = 1
    >>> bool(cut_statistic(vectors, labels, keep=0.9)[0])
    False
    """
    n = len(labels)
    if keep >= 1 or n <= _NEIGHBOURS + 1:
        return np.ones(n, np.bool_)
    pool = np.arange(n)
    if n > _ANCHORS:
        pool = np.sort(np.random.default_rng(seed).choice(n, _ANCHORS, replace=False))
    at, cosine = top_k(vectors, vectors[pool], min(_NEIGHBOURS + 1, len(pool)))
    near = pool[at]
    weight = np.where(near == np.arange(n)[:, None], 0.0, np.maximum(cosine, 0.0))
    share = np.bincount(labels) / n
    own = share[labels]
    disagree = (weight * (labels[near] != labels[:, None])).sum(axis=1)
    spread = np.sqrt(own * (1 - own) * (weight**2).sum(axis=1))
    score = (disagree - (1 - own) * weight.sum(axis=1)) / np.maximum(spread, 1e-12)
    chosen = np.zeros(n, np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, int(np.ceil(keep * len(members))))
        chosen[members[np.argsort(score[members], kind="stable")[:count]]] = True
    return chosen


def sharpened(probabilities: Matrix) -> tuple[Matrix, Matrix]:
    r"""Return sharper targets, no class more at home than another, and what each counts.

    .. math:: q_{ic} \propto p_{ic}^2 / \sum_j p_{jc}, \qquad w_i = 1 - H(q_i) / \log k

    Notes
    -----
    J. Xie, R. Girshick and A. Farhadi (2016), Unsupervised Deep Embedding for Clustering,
    equation 3; the weight as in Y. Yu et al. (2021), COSINE, equation 6.

    Examples
    --------
    >>> q, w = sharpened(np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]]))
    >>> q.round(2).tolist(), w.round(2).tolist()
    ([[0.99, 0.01], [0.5, 0.5], [0.01, 0.99]], [0.9, 0.0, 0.9])
    """
    squared = probabilities**2 / np.maximum(probabilities.sum(axis=0), 1e-12)
    targets = squared / squared.sum(axis=1, keepdims=True)
    return targets, certainty(targets)


def share_kept(probabilities: Matrix) -> float:
    """Return the share of rows whose label is right, if the labels' probabilities are: what to keep.

    Between .7 and 1.

    Parameters
    ----------
    probabilities : array, shape (n, k)

    Examples
    --------
    >>> share_kept(np.array([[0.9, 0.1], [0.2, 0.8]]))
    0.85
    """
    return float(np.clip(probabilities.max(axis=1).mean(), *_KEPT))


def anchored(probabilities: Matrix, targets: Matrix, certainty: Matrix) -> tuple[Matrix, Matrix]:
    r"""Return what a student learns next: of sure rows their label, of others its own answers.

    .. math:: t_i = c_i^4 p_i + (1 - c_i^4) q_i, \qquad w_i = c_i^4 + (1 - c_i^4) w(q_i)

    with the label's probabilities p, their certainty :math:`c = 1 - H / \log k` and the
    sharpened answers q and weights w(q). Where labels are nearly certain, self-training
    would only make the student bolder; where they are not, its own answers are better.

    Parameters
    ----------
    probabilities : array, shape (n, k)
        The student's answers.
    targets : array, shape (n, k)
        The labels.
    certainty : array, shape (n,)
        0 to 1; 0 for rows without a label.
    """
    q, w = sharpened(probabilities)
    anchor = certainty**_ANCHOR
    mixed = anchor[:, None] * targets + (1 - anchor[:, None]) * q
    return mixed, np.maximum(anchor + (1 - anchor) * w, _LEAST_WEIGHT)


def certainty(targets: Matrix) -> Matrix:
    """Return 1 - H / log k of each row: 1 for a certain one, 0 for an even one, shape (n,)."""
    entropy = -(targets * np.log(np.maximum(targets, 1e-300))).sum(axis=1)
    sure: Matrix = np.clip(1 - entropy / np.log(targets.shape[1]), 0.0, 1.0)
    return sure


def self_train(
    features: Features,
    fitted: Coefficients,
    C: float,
    embedding_weight: float,
    *,
    targets: Matrix,
    certain: Matrix,
    importance: Matrix,
    rounds: int,
    seed: int,
) -> Coefficients:
    """Let a student learn from its own sharpened answers on all rows, some rounds long.

    Parameters
    ----------
    features
        All rows, those without a label too; of more than 10,000, a sample.
    fitted
        The student that learned from the labels.
    C, embedding_weight
        As it learned.
    targets, certain
        The labels, and how certain each is: see `anchored`.
    importance : array, shape (n,)
        How often a row counts; those above 1 are in every sample.
    rounds
        How often.
    """
    if len(features) > _MOST:
        rank = np.random.default_rng(seed).random(len(features)) - (importance > 1)
        rows = np.sort(np.argsort(rank, kind="stable")[:_MOST])
        features, targets = features.take(rows), targets[rows]
        certain, importance = certain[rows], importance[rows]
    for _ in range(rounds):
        logits = features.dot(fitted.coef) + fitted.intercept
        mixed, weights = anchored(softmax(logits, axis=1), targets, certain)
        if not (weights > _LEAST_WEIGHT).any():
            return fitted
        fitted = fit_softmax(features, mixed, weights * importance, C, embedding_weight)
    return fitted
