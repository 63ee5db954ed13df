"""Triplet model: accuracies in closed form from how three labeling functions agree."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from llmlabel.labelmodel.moments import MomentModel, Moments, majority_balance, vote_moments
from llmlabel.labelmodel.patterns import Array
from llmlabel.votes import IntArray

__all__ = ["TripletModel"]


class TripletModel(MomentModel):
    r"""Each vote's precision from the covariances of triplets of votes, one class against the rest.

    For a class c of share :math:`\pi`, let :math:`u_a` be 1 where LF j casts the vote a,
    which is either *c* or *another class*. Votes of two LFs that are independent given
    whether the row is of class c have the covariance

    .. math:: C_{ab} = g_a g_b, \qquad
              g_a = \sqrt{\pi (1 - \pi)}\, (P(u_a | y = c) - P(u_a | y \ne c))

    so that any three give :math:`g_a^2 = C_{ab} C_{ad} / C_{bd}` [1]_. A single ratio is
    worthless where two votes hardly overlap; here all of them are solved at once by least
    squares, with the noise of the covariances, :math:`\sigma_{bd}^2 = q_b (1 - q_b) q_d
    (1 - q_d) / N`, in the denominator:

    .. math:: g_a^2 = \frac{\sum_{bd} C_{ab} C_{ad} C_{bd}}{\sum_{bd} (C_{bd}^2 + \sigma_{bd}^2)}

    The sign is known: LFs are taken to be better than chance. A vote for c that a share
    :math:`q_a` of the rows have has the precision :math:`r = \pi + g_a \sqrt{\pi (1 - \pi)} /
    q_a`, is shrunk with `prior_votes` votes of `prior_precision`, and adds

    .. math:: \log \frac{r}{1 - r} - \log \frac{\pi}{1 - \pi}

    to its class. Unlike FlyingSquid [1]_ this takes the covariances of votes and silences,
    not the mean products of votes that are both there: nothing has to be symmetric, and
    votes for one class only need no partner on the other side. Only k passes over the
    pairs are made, and no iteration.

    Parameters
    ----------
    prior_precision
        How often a vote is right in the prior.
    prior_votes
        The votes that the prior of each LF and class is worth.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the mean of the covered rows' probabilities, or
        1/k for each class.

    Attributes
    ----------
    precisions_ : array, shape (m, k)
        How often LF j is believed to be right where it votes c.

    References
    ----------
    .. [1] D. Fu, M. Chen, F. Sala, S. Hooper, K. Fatahalian and C. Ré, "Fast and three-rious:
       speeding up weak supervision with triplet methods", ICML 2020, arXiv:2002.11955.

    Examples
    --------
    >>> from llmlabel.votes import VoteMatrix
    >>> L = VoteMatrix(
    ...     [[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0]],
    ...     ["a", "b", "c"], ["HAM", "SPAM"],
    ... )
    >>> model = TripletModel(prior_votes=1).fit(L)
    >>> bool(model.precisions_[0, 1] > model.precisions_[2, 1])
    True
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "prior_precision": (1e-3, 1 - 1e-3),
        "prior_votes": (1e-3, math.inf),  # without a prior one vote could be infinitely sure
    }

    precisions_: Array

    def __init__(
        self,
        *,
        prior_precision: float = 0.7,
        prior_votes: float = 50.0,
        uncovered: str = "balance",
    ) -> None:
        self.prior_precision = prior_precision
        self.prior_votes = prior_votes
        self.uncovered = uncovered

    def _learn(self, votes: IntArray, weights: Array) -> tuple[Array, Array]:
        k, m = len(self.classes_), votes.shape[1]
        moments = vote_moments(votes, weights, k, self.rows_)
        balance = majority_balance(votes, weights, k)
        cast = moments.single.reshape(m, k)
        spread = np.sqrt(balance * (1 - balance))
        edges = np.stack([_class_edges(moments, c, k) for c in range(k)], axis=1)
        found = balance + edges * spread / np.maximum(cast, 1e-12)  # no vote: the prior is all
        seen = cast * moments.rows
        lift = self._prior_lift()
        prior = balance * lift / (balance * lift + 1 - balance)
        worth = self.prior_votes
        self.precisions_ = (seen * np.clip(found, 0, 1) + worth * prior) / (seen + worth)
        scores = np.zeros((m, k, k))
        of = np.arange(k)
        odds = np.log(self.precisions_ / (1 - self.precisions_))
        scores[:, of, of] = odds - np.log(balance / (1 - balance))
        return np.log(balance), scores


def _class_edges(moments: Moments, c: int, k: int) -> Array:
    """Return g of each LF's votes for class c against the rest, shape (m,)."""
    m = len(moments.single) // k
    pairs = moments.pairs.reshape(m, k, m, k)
    single = moments.single.reshape(m, k)
    rest = np.arange(k) != c

    def both(first: Array, second: Array) -> Array:
        """Sum pairs over the votes of each side."""
        return np.asarray(np.einsum("jvlw,v,w->jl", pairs, first, second, optimize=True))

    this, others = (~rest).astype(float), rest.astype(float)
    joint = np.block(
        [[both(this, this), both(this, others)], [both(others, this), both(others, others)]]
    )
    share = np.concatenate([single @ this, single @ others])
    apart = np.tile(~np.eye(m, dtype=bool), (2, 2))
    covariance = np.where(apart, joint - np.outer(share, share), 0.0)
    variance = share * (1 - share)
    noise = np.where(apart, np.outer(variance, variance), 0.0) / moments.rows
    return np.asarray(_triplet_edges(covariance, noise)[:m])


def _triplet_edges(covariance: Array, noise: Array) -> Array:
    """Solve C_ab C_ad = g_a^2 C_bd for all b, d of two other LFs by least squares."""
    half = len(covariance) // 2
    products = np.einsum("ab,bd,ad->a", covariance, covariance, covariance, optimize=True)
    power = covariance**2 + noise
    of_vote = power.sum(axis=1)
    of_lf = of_vote[:half] + of_vote[half:]  # pairs with one end at the LF itself
    total = power.sum() - 2 * np.tile(of_lf, 2)
    solved = np.maximum(products, 0) / np.maximum(total, 1e-30)
    return np.asarray(np.sqrt(solved))
