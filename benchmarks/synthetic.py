"""Synthetic vote matrices with planted parameters: varied, seeded, nothing like any real set.

A set is drawn from its seed alone: first which *traits* it has, then its parameters, then
gold classes, topics and votes. Set i is the same whatever else was drawn.

Base of every set: n rows log-uniform in 300..5,000; m labeling functions in 3..40; k classes,
2 in half of the sets, else 3..10; a class balance from a Dirichlet of concentration 5; per LF
a coverage from Beta(1.2, 1.8), clipped to [.02, 1], and an accuracy of
1/k + (1 - 1/k) u, u from Beta(3, 2.5): always better than chance; errors fall on the other
classes by Dirichlet weights. Given class (and topic) LFs are independent unless a trait
says otherwise.

Traits (sets cycle through none, each alone, and mixtures of 2 to 4):

``imbalance``
    One class holds 80..99 % of the rows: up to 1:99.
``one_sided``
    Most LFs vote for one class only, as a keyword list does: LF j fires on class v_j with
    its coverage, and elsewhere as often as gives it a precision better than the class share.
``copies``
    One or two groups of 2 to 6 LFs repeat the outcome (the silence too) of the first of their
    group with probability .7..1 row by row.
``topics``
    2 to 5 hidden topics, each with its own tilt of the balance; an LF covers each topic at a
    rate of its own and loses up to 60 % of its edge over chance on some of them.
``worse_than_chance``
    10..30 % of the LFs (at least one, always a minority) are right less often than chance.
``sparse``
    Coverages of .01..0.1: most rows have no vote or one.
``skills_by_class``
    An LF's accuracy differs by class: some are good at one class and poor at another.
``silence_by_class``
    An LF speaks up to 5 times as often on some classes as on others.
``biased``
    Errors fall on one class only: the same for all LFs of the set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.votes import VoteMatrix, vote_dtype

__all__ = ["TRAITS", "Planted", "SyntheticSet", "big_votes", "synthetic_set", "synthetic_sets"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TRAITS: Final = (
    "imbalance",
    "one_sided",
    "copies",
    "topics",
    "worse_than_chance",
    "sparse",
    "skills_by_class",
    "silence_by_class",
    "biased",
)


@dataclass(frozen=True, eq=False)
class Planted:
    """What a set was drawn from.

    Parameters
    ----------
    traits
        Those of `TRAITS` that the set has.
    balance : array, shape (t, k)
        The share of each class within each topic.
    topics : array, shape (t,)
        The share of each topic.
    rates : array, shape (t, m, k, k + 1)
        ``rates[t, j, y, o]``: how probably LF j has the outcome o (a class, or last the
        abstention) on a row of topic t and class y, before copying.
    copies : array of int, shape (m,)
        The LF whose outcome LF j repeats, or j itself.
    copied : array, shape (m,)
        How often it does.
    """

    traits: tuple[str, ...]
    balance: Floats
    topics: Floats
    rates: Floats
    copies: Ints
    copied: Floats

    @property
    def class_balance(self) -> Floats:
        """The share of each class over all topics, shape (k,)."""
        return np.asarray(self.topics @ self.balance)

    @property
    def outcomes(self) -> Floats:
        """P(outcome of LF j | class y) over topics and copying, shape (m, k, k + 1)."""
        joint = self.topics[:, None] * self.balance
        given = joint / joint.sum(axis=0)
        own = np.einsum("ty,tjyo->jyo", given, self.rates)
        share = self.copied[:, None, None]
        return np.asarray((1 - share) * own + share * own[self.copies])

    @property
    def accuracies(self) -> Floats:
        """How often each LF is right where it votes, shape (m,)."""
        votes = self.outcomes[:, :, :-1] * self.class_balance[:, None]
        return np.asarray(votes.trace(axis1=1, axis2=2) / votes.sum(axis=(1, 2)))

    @property
    def coverages(self) -> Floats:
        """How often each LF votes, shape (m,)."""
        return np.asarray(1 - self.outcomes[:, :, -1] @ self.class_balance)


@dataclass(frozen=True, eq=False)
class SyntheticSet:
    """Votes, gold classes and topics of n rows, and what they were drawn from."""

    name: str
    L: VoteMatrix
    gold: Ints
    topic: Ints
    planted: Planted


def synthetic_sets(count: int = 300, *, first: int = 0) -> Iterator[SyntheticSet]:
    """Yield `count` sets, of seeds first, first + 1, ..."""
    for seed in range(first, first + count):
        yield synthetic_set(seed)


def synthetic_set(seed: int, *, traits: tuple[str, ...] | None = None) -> SyntheticSet:
    """Return the set of a seed; with the given traits instead of the seed's own, if any.

    Examples
    --------
    >>> first = synthetic_set(3)
    >>> first.L == synthetic_set(3).L, first.planted.traits
    (True, ('copies',))
    >>> first.gold.shape == (len(first.L),)
    True
    """
    rng = np.random.default_rng([20_261_125, seed])
    drawn = _traits(rng, seed)
    has = drawn if traits is None else traits
    n = int(np.exp(rng.uniform(np.log(300), np.log(5000))))
    m = int(rng.integers(3, 41))
    k = 2 if rng.random() < 0.5 else int(rng.integers(3, 11))
    topics, balance = _balances(rng, k, has)
    rates = _rates(rng, m, topics, balance, has)
    copies, copied = _copies(rng, m, has)
    planted = Planted(has, balance, topics, rates, copies, copied)
    topic, gold, votes = _draw(rng, planted, n)
    while not (votes >= 0).any():  # tiny and sparse: draw again until something is said
        topic, gold, votes = _draw(rng, planted, n)
    L = VoteMatrix(votes, [f"lf{j}" for j in range(m)], [f"c{y}" for y in range(k)])
    return SyntheticSet(f"synthetic-{seed}", L, gold, topic, planted)


def big_votes(
    n: int, m: int, k: int = 2, *, coverage: float = 0.3, seed: int = 0
) -> tuple[npt.NDArray[np.signedinteger], Ints]:
    """Return votes, shape (n, m), of independent LFs (accuracy .6 to .9), and gold classes.

    Coverages spread around `coverage`, from half to one and a half of it.
    """
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, k, n)
    votes = np.full((n, m), -1, vote_dtype(k))
    for j in range(m):
        spoke = rng.random(n, np.float32) < min(1.0, coverage * rng.uniform(0.5, 1.5))
        wrong = rng.random(n, np.float32) >= rng.uniform(0.6, 0.9)
        said = (gold + np.where(wrong, rng.integers(1, k, n), 0)) % k
        votes[spoke, j] = said[spoke]
    return votes, gold


def _traits(rng: np.random.Generator, seed: int) -> tuple[str, ...]:
    """Cycle through no trait, each trait alone, and as many mixtures."""
    place = seed % (2 * len(TRAITS) + 1)
    if place == 0:
        return ()
    if place <= len(TRAITS):
        return (TRAITS[place - 1],)
    chosen = rng.choice(len(TRAITS), int(rng.integers(2, 5)), replace=False)
    return tuple(TRAITS[i] for i in sorted(chosen))


def _balances(rng: np.random.Generator, k: int, traits: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Return the share of each topic, and of each class within it."""
    share = rng.dirichlet(np.full(k, 5.0))
    if "imbalance" in traits:
        rare = 1 - rng.uniform(0.8, 0.99)
        share = rare * share / share[1:].sum()
        share[0] = 1 - rare
        share = rng.permutation(share)
    count = int(rng.integers(2, 6)) if "topics" in traits else 1
    topics = rng.dirichlet(np.full(count, 3.0))
    tilted = share * np.exp(rng.normal(0, 0.5 if count > 1 else 0.0, (count, k)))
    return topics, tilted / tilted.sum(axis=1, keepdims=True)


def _rates(
    rng: np.random.Generator,
    m: int,
    topics: Floats,
    balance: Floats,
    traits: tuple[str, ...],
) -> Floats:
    """Return P(outcome | topic, class) of each LF, shape (t, m, k, k + 1)."""
    count, k = balance.shape
    coverage = np.clip(rng.beta(1.2, 1.8, m), 0.02, 1)
    if "sparse" in traits:
        coverage = np.exp(rng.uniform(np.log(0.01), np.log(0.1), m))
    spoke = np.repeat(coverage[None, :, None], count, 0).repeat(k, 2)  # (t, m, k)
    if "silence_by_class" in traits:
        spoke = spoke * np.exp(rng.uniform(-math.log(5) / 2, math.log(5) / 2, (m, k)))
    edge = np.repeat(rng.beta(3, 2.5, m)[None, :, None], count, 0).repeat(k, 2)
    if "skills_by_class" in traits:
        edge = np.clip(edge + rng.normal(0, 0.25, (m, k)), 0, 1)
    if "topics" in traits:
        spoke = spoke * rng.uniform(0.05, 1.8, (count, m, 1))
        lost = rng.uniform(0, 0.6, (count, m, 1)) * (rng.random((count, m, 1)) < 0.5)
        edge = edge * (1 - lost)
    right = 1 / k + (1 - 1 / k) * edge
    if "worse_than_chance" in traits:
        bad = rng.choice(m, max(1, int(m * rng.uniform(0.1, 0.3))), replace=False)
        right[:, bad] = rng.uniform(0.4, 0.95, (len(bad), 1)) / k
    said = right[..., None] * np.eye(k) + (1 - right[..., None]) * _errors(rng, m, k, traits)
    rates = np.clip(spoke, 0, 1)[..., None] * said
    if "one_sided" in traits:
        sided = rng.random(m) < rng.uniform(0.6, 1)
        rates[:, sided] = _one_sided(rng, coverage[sided], topics @ balance, count)
    return np.concatenate([rates, 1 - rates.sum(axis=-1, keepdims=True)], axis=-1)


def _errors(rng: np.random.Generator, m: int, k: int, traits: tuple[str, ...]) -> Floats:
    """Return where the wrong votes of each class go, shape (m, k, k), nothing on the diagonal."""
    weights = rng.dirichlet(np.full(k, 1.0), (m, k)) + 0.02
    if "biased" in traits:
        weights[:, :, int(rng.integers(k))] += 5
    weights[:, np.eye(k, dtype=bool)] = 0
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _one_sided(rng: np.random.Generator, coverage: Floats, share: Floats, count: int) -> Floats:
    """Return P(votes v | topic, class) of LFs with one class each, shape (t, m', k, k)."""
    m, k = len(coverage), len(share)
    side = rng.integers(0, k, m)
    precision = share[side] + (1 - share[side]) * rng.beta(3, 2.5, m)
    fires = np.clip(coverage, 0.02, 0.9)
    # P(fires | other class) from P(fires | its class), its precision and its share.
    elsewhere = fires * share[side] / (1 - share[side]) * (1 - precision) / precision
    rates = np.zeros((count, m, k, k))
    at = np.arange(m)
    rates[:, at, :, side] = np.minimum(elsewhere, fires)[:, None, None]
    rates[:, at, side, side] = fires
    return rates


def _copies(rng: np.random.Generator, m: int, traits: tuple[str, ...]) -> tuple[Ints, Floats]:
    """Return whom each LF copies, and how often."""
    source, often = np.arange(m), np.zeros(m)
    if "copies" not in traits:
        return source, often
    free = rng.permutation(m)
    for _ in range(int(rng.integers(1, 3))):
        group, free = np.split(free, [min(len(free), int(rng.integers(2, 7)))])
        if len(group) > 1:
            source[group[1:]] = group[0]
            often[group[1:]] = rng.uniform(0.7, 1, len(group) - 1)
    return source, often


def _draw(rng: np.random.Generator, planted: Planted, n: int) -> tuple[Ints, Ints, Ints]:
    """Return topics, gold classes and votes of n rows."""
    _, m, k, _ = planted.rates.shape
    topic = rng.choice(len(planted.topics), n, p=planted.topics)
    gold = (rng.random((n, 1)) > planted.balance.cumsum(axis=1)[topic]).sum(axis=1)
    gold = np.minimum(gold, k - 1)
    steps = planted.rates.cumsum(axis=-1)[..., :-1]
    outcome = np.empty((n, m), np.int64)
    for j in range(m):
        outcome[:, j] = (rng.random((n, 1)) > steps[topic, j, gold]).sum(axis=1)
    repeats = rng.random((n, m)) < planted.copied
    votes = np.where(repeats, outcome[:, planted.copies], outcome)
    return topic, gold, np.where(votes == k, -1, votes)
