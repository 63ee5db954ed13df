"""Synthetic sets hold what their docstring promises."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.synthetic import TRAITS, big_votes, synthetic_set, synthetic_sets


@pytest.fixture(scope="module")
def sets():
    return list(synthetic_sets(57))


def test_a_seed_is_a_set_whatever_else_is_drawn(sets):
    again = synthetic_set(20)
    assert again.L == sets[20].L
    assert again.gold.tobytes() == sets[20].gold.tobytes()
    assert sets[1].L != sets[2].L


def test_every_trait_occurs_alone_and_mixed(sets):
    traits = [s.planted.traits for s in sets]
    assert {t[0] for t in traits if len(t) == 1} == set(TRAITS)
    assert () in traits
    assert any(len(t) > 1 for t in traits)


@pytest.mark.parametrize("seed", range(19))
def test_votes_follow_the_planted_rates(seed):
    made = synthetic_set(seed)
    planted, votes = made.planted, made.L.votes
    rates = planted.rates.sum(axis=-1)
    np.testing.assert_allclose(rates, 1, atol=1e-12)
    assert (planted.rates >= -1e-12).all()
    n = len(votes)
    spread = np.sqrt(planted.coverages * (1 - planted.coverages) / n)
    assert (np.abs(made.L.coverage() - planted.coverages) <= 5 * spread + 1e-3).all()
    right = ((votes == made.gold[:, None]) & (votes >= 0)).sum(axis=0)
    voted = (votes >= 0).sum(axis=0)
    wide = np.sqrt(planted.accuracies * (1 - planted.accuracies) * voted)
    assert (np.abs(right - planted.accuracies * voted) <= 5 * wide + 3).all()
    counts = np.bincount(made.gold, minlength=len(planted.class_balance))
    np.testing.assert_allclose(counts / n, planted.class_balance, atol=5 * 0.5 / np.sqrt(n))


def test_traits_do_what_they_say():
    rare = synthetic_set(0, traits=("imbalance",)).planted.class_balance
    assert 0.8 <= rare.max() <= 0.99
    copied = synthetic_set(0, traits=("copies",))
    followers = np.flatnonzero(copied.planted.copied)
    assert len(followers)
    same = copied.L.votes[:, followers] == copied.L.votes[:, copied.planted.copies[followers]]
    assert (same.mean(axis=0) > 0.65).all()
    chance = synthetic_set(0, traits=("worse_than_chance",)).planted
    below = (
        chance.outcomes[:, :, :-1].trace(axis1=1, axis2=2) / (1 - chance.outcomes[..., -1]).sum(1)
    ) < 1 / chance.rates.shape[2]
    assert 1 <= below.sum() <= 0.3 * len(below) + 1
    sided = synthetic_set(0, traits=("one_sided",)).planted.rates[0, :, :, :-1]
    assert ((sided.sum(axis=1) > 0).sum(axis=1) == 1).mean() > 0.4


def test_big_votes():
    votes, gold = big_votes(20_000, 10, 3, coverage=0.3, seed=1)
    assert votes.dtype == np.int8
    assert 0.2 < (votes >= 0).mean() < 0.4
    right = np.array(
        [(votes[votes[:, j] >= 0, j] == gold[votes[:, j] >= 0]).mean() for j in range(10)]
    )
    assert ((right > 0.58) & (right < 0.92)).all()
