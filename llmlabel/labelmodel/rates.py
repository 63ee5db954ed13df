"""The two rates of each labeling function and vote: how they are learned and what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.voterows import Index, VoteChunk
from llmlabel.votes import FloatArray

__all__ = [
    "Counts",
    "Prior",
    "Rates",
    "Scorer",
    "alike",
    "count",
    "learn_rates",
    "log_odds_of",
    "softmax",
]

_RATE: Final = (1e-9, 0.999)  # a rate of 0 or 1 would make rows impossible
_SILENCE: Final = 1e-3  # the least probability of saying nothing


@dataclass(frozen=True)
class Counts:
    """Expected counts over rows whose classes are known with some probability.

    Parameters
    ----------
    votes : array, shape (m, k)
        How often LF j voted v.
    right : array, shape (m, k)
        How often it did where the class is v.
    classes : array, shape (k,)
        How often each class occurs.
    """

    votes: Array
    right: Array
    classes: Array

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.votes + other.votes, self.right + other.right, self.classes + other.classes
        )

    def scaled(self, factor: float) -> Counts:
        """Return the counts of rows that count so many times."""
        return Counts(self.votes * factor, self.right * factor, self.classes * factor)


@dataclass(frozen=True)
class Prior:
    """What is believed of every LF beforehand; see `TwoRateModel` for each."""

    precision: float
    votes: float
    share: float
    anchor: float
    balance: float


@dataclass(frozen=True)
class Rates:
    """How often LF j votes v on rows of that class and of the others, shapes (m, k).

    ``balance`` is the class balance that rows are scored with, shape (k,), and
    ``marginal`` how often LF j votes v on any row.
    """

    inside: Array
    outside: Array
    marginal: Array
    balance: Array

    def log_ratio(self, lf: Index, label: Index, certainty: Array | None) -> Array:
        """Return what each vote adds to the log-odds of the class it names, shape (v,)."""
        if certainty is None:
            return np.asarray(np.log(self.inside / self.outside)[lf, label])
        other = (1 - certainty) * self.marginal[lf, label]
        named = certainty * self.inside[lf, label] + other
        return np.asarray(np.log(named / (certainty * self.outside[lf, label] + other)))

    def log_silence(self) -> Array:
        """Return the log probability of each LF's abstention on a row of each class, (m, k)."""
        voting = self.outside.sum(axis=1, keepdims=True) - self.outside + self.inside
        return np.asarray(np.log(np.clip(1 - voting, _SILENCE, 1)))


@dataclass(frozen=True)
class Scorer:
    """The log pool of the model and the majority vote: a row's score is a sum over its votes.

    Parameters
    ----------
    rates
    abstain_weight, majority_weight
        See `TwoRateModel`.
    majority_odds
        What each vote adds to its class in the majority vote's part.
    scale
        Multiplies all: one over the temperature.
    offsets : array, shape (k,), or None
        Added to each class's score after that.
    """

    rates: Rates
    abstain_weight: float
    majority_weight: float
    majority_odds: float
    scale: float = 1.0
    offsets: Array | None = None

    def vote_terms(self, chunk: VoteChunk, shares: FloatArray | Array | None) -> Array:
        """Return what each vote adds to the class it names, shape (v,)."""
        ratio = self.rates.log_ratio(chunk.lf, chunk.label, chunk.certainty)
        counted = 1.0 if chunk.certainty is None else chunk.certainty
        own = ratio if shares is None else ratio * shares
        pool = self.majority_weight
        return np.asarray(self.scale * ((1 - pool) * own + pool * self.majority_odds * counted))

    def silence_terms(self) -> Array:
        """Return what each LF's abstention adds to each class, shape (m, k)."""
        weight = self.scale * (1 - self.majority_weight) * self.abstain_weight
        return weight * self.rates.log_silence()

    def saying_terms(self) -> Array:
        """Return what each LF adds to each class, silent or voting hard, shape (k, m, k + 1)."""
        silence, pool = self.silence_terms(), self.majority_weight
        m, k = silence.shape
        own = np.log(self.rates.inside / self.rates.outside)
        terms = np.zeros((k, m, k + 1))
        terms[:, :, 0] = silence.T
        label = np.arange(k)
        named = self.scale * ((1 - pool) * own + pool * self.majority_odds)
        terms[label, :, label + 1] = named.T
        return terms

    def prior_terms(self) -> Array:
        """Return what each class has before any vote, shape (k,)."""
        prior = self.scale * (1 - self.majority_weight) * np.log(self.rates.balance)
        return np.asarray(prior if self.offsets is None else prior + self.offsets)

    def majority_only(self) -> Scorer:
        """Return the majority vote: the same with nothing of the model left in it."""
        return replace(self, majority_weight=1.0, offsets=None)

    def scores(self, chunk: VoteChunk, shares: FloatArray | Array | None) -> Array:
        """Return each row's unnormalised log posterior, shape (u, k)."""
        silence = self.silence_terms()
        m, k = silence.shape
        cells = chunk.row.astype(np.int64) * k + chunk.label
        u = len(chunk.weights)
        named = np.bincount(cells, self.vote_terms(chunk, shares), minlength=u * k)
        spoke = sp.csr_array((np.ones(len(cells)), chunk.lf, chunk.starts), shape=(u, m))
        always = self.prior_terms() + silence.sum(axis=0)
        return np.asarray(named.reshape(u, k) + (always - spoke @ silence))


def alike(m: int, k: int, precision: float) -> Rates:
    """Return rates that make every LF's votes right with this probability: a majority vote."""
    inside, outside = np.full((m, k), precision), np.full((m, k), (1 - precision) / (k - 1))
    return Rates(inside, outside, np.full((m, k), 1 / k), np.full(k, 1 / k))


def softmax(scores: Array) -> Array:
    """Return each column's exponentials, normalised; scores have the shape (k, u)."""
    if len(scores) == 2:
        out = np.empty(scores.shape)
        expit(scores[1] - scores[0], out=out[1])
        np.subtract(1, out[1], out=out[0])
        return out
    powers = np.exp(scores - scores.max(axis=0))
    powers /= powers.sum(axis=0)
    return np.asarray(powers)


def count(chunk: VoteChunk, posterior: Array, m: int) -> Counts:
    """Count votes and classes of some rows with class probabilities, shape (u, k)."""
    k = posterior.shape[1]
    weighted = posterior * chunk.weights[:, None]
    sure = 1.0 if chunk.certainty is None else chunk.certainty
    cells = chunk.lf.astype(np.int64) * k + chunk.label
    votes = np.asarray(
        np.bincount(cells, chunk.weights[chunk.row] * sure, minlength=m * k), np.float64
    )
    named = weighted[chunk.row, chunk.label]
    right = np.asarray(np.bincount(cells, named * sure, minlength=m * k), np.float64)
    return Counts(votes.reshape(m, k), right.reshape(m, k), weighted.sum(axis=0))


def log_odds_of(precision: float, k: int) -> float:
    """Return what a vote of some precision adds to its class where the k are alike."""
    return math.log(precision * (k - 1) / (1 - precision))


def learn_rates(counts: Counts, balance: Array, prior: Prior) -> Rates:
    """Return the most probable rates (M-step), given the balance of the step before."""
    k = len(balance)
    rows = counts.classes.sum()
    marginal = (counts.votes + _RATE[0]) / rows
    worth = prior.votes + prior.share * counts.votes.sum(axis=1, keepdims=True)
    share = prior.anchor * balance + (1 - prior.anchor) / k
    inside = (counts.right + worth * prior.precision) / (counts.classes + worth * share / marginal)
    outside = (counts.votes - counts.right + worth * (1 - prior.precision)) / (
        rows - counts.classes + worth * (1 - share) / marginal
    )
    found = (counts.classes + prior.balance * rows / k) / (rows * (1 + prior.balance))
    return Rates(
        np.clip(np.maximum(inside, outside), *_RATE), np.clip(outside, *_RATE), marginal, found
    )
