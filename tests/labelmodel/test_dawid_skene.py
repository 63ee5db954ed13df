"""What Dawid-Skene promises beyond the conformance suite."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.labelmodel import DawidSkene, MajorityVote
from llmlabel.votes import VoteMatrix


def matrix(votes, k):
    votes = np.asarray(votes, np.int16)
    return VoteMatrix(votes, [f"lf{j}" for j in range(votes.shape[1])], [f"c{i}" for i in range(k)])


def sample(rng, outcomes, balance, n):
    """Draw votes of independent LFs: outcomes[j, o, y], the last o abstains."""
    gold = rng.choice(len(balance), n, p=balance)
    votes = np.empty((n, len(outcomes)), np.int16)
    for j, table in enumerate(outcomes):
        below = rng.random(n)[:, None] > np.cumsum(table[:, gold], axis=0).T
        drawn = np.minimum(below.sum(axis=1), len(balance))
        votes[:, j] = np.where(drawn == len(balance), -1, drawn)
    return votes, gold


def random_outcomes(rng, m, k):
    """LFs of different coverage in each class, better than chance but for the last."""
    right = rng.uniform(0.6, 0.9, m)[:, None, None]
    spoken = rng.dirichlet(np.ones(k), (m, k)).transpose(0, 2, 1) * (1 - right) + right * np.eye(k)
    spoken[-1] = np.roll(spoken[-1], 1, axis=0)
    speaks = rng.uniform(0.3, 0.9, (m, 1, k))
    return np.concatenate([spoken * speaks, 1 - speaks], axis=1)


def test_planted_parameters_are_recovered():
    rng = np.random.default_rng(0)
    balance = np.array([0.5, 0.3, 0.2])
    outcomes = random_outcomes(rng, 10, 3)
    votes, gold = sample(rng, outcomes, balance, 40_000)
    model = DawidSkene(prior_share=0, majority_weight=0, abstain_weight=1).fit(matrix(votes, 3))
    np.testing.assert_allclose(model.class_balance_, balance, atol=0.01)
    np.testing.assert_allclose(model.outcomes_, outcomes, atol=0.03)
    voted = votes >= 0
    true_accuracy = ((votes == gold[:, None]) & voted).sum(axis=0) / voted.sum(axis=0)
    np.testing.assert_allclose(model.lf_accuracies_, true_accuracy, atol=0.02)
    assert model.lf_accuracies_[-1] < 1 / 3  # worse than chance, and found out


def test_the_defaults_come_near_planted_accuracies_and_rank_them():
    rng = np.random.default_rng(1)
    votes, gold = sample(rng, random_outcomes(rng, 10, 3), [0.5, 0.3, 0.2], 5_000)
    model = DawidSkene().fit(matrix(votes, 3))
    voted = votes >= 0
    true_accuracy = ((votes == gold[:, None]) & voted).sum(axis=0) / voted.sum(axis=0)
    np.testing.assert_allclose(model.lf_accuracies_, true_accuracy, atol=0.06)
    assert np.corrcoef(model.lf_accuracies_, true_accuracy)[0, 1] > 0.97


@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(0, 1))
@settings(max_examples=40)
def test_em_never_lowers_the_bound_of_dawid_and_skenes_own_model(
    seed, majority_weight, prior_share
):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 5))
    votes = rng.integers(-1, k, (200, int(rng.integers(1, 8))))
    votes[0, 0] = 0
    model = DawidSkene(
        abstain_weight=1,
        majority_weight=majority_weight,
        prior_share=prior_share,
        tol=0,
        max_iter=30,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        history = model.fit(matrix(votes, k)).history_
    assert len(history) == model.n_iter_
    assert (np.diff(history) > -1e-12).all()


def test_not_converged_is_said():
    rng = np.random.default_rng(0)
    votes, _ = sample(rng, random_outcomes(rng, 5, 2), [0.5, 0.5], 300)
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 iterations") as caught:
        model = DawidSkene(max_iter=2).fit(matrix(votes, 2))
    assert not model.converged_
    assert caught[0].filename == __file__
    assert DawidSkene().fit(matrix(votes, 2)).converged_


@given(st.integers(0, 2**32 - 1), st.sampled_from(["balance", "uniform"]))
@settings(max_examples=40)
def test_an_explanation_adds_up_to_the_posterior(seed, uncovered):
    rng = np.random.default_rng(seed)
    k, m = int(rng.integers(2, 5)), int(rng.integers(1, 6))
    votes = np.where(rng.random((30, m)) < 0.5, rng.integers(0, k, (30, m)), -1)
    votes[0] = 0
    L = matrix(votes, k)
    model = DawidSkene(uncovered=uncovered).fit(L)
    posterior = np.log(model.predict_proba(L))
    for i in range(len(L)):
        why = model.explain(L.take([i]))
        assert why.lf_names == L.lf_names
        assert why.votes.tolist() == votes[i].tolist()
        np.testing.assert_allclose(why.log_posterior, posterior[i], atol=1e-9)
        total = why.prior + why.contributions.sum(axis=0) - why.log_evidence
        np.testing.assert_allclose(total, posterior[i], atol=1e-9)
        prior, each = why.log_odds("c1", "c0")
        assert prior + each.sum() == pytest.approx(posterior[i, 1] - posterior[i, 0])


@pytest.mark.parametrize(
    "extreme",
    [
        {"prior_precision": 0.999},
        {"prior_precision": 0.001},
        {"prior_votes": 0.001, "prior_share": 0, "majority_weight": 0, "balance_rows": 0.001},
        {"abstain_weight": 0},
        {"majority_weight": 1e6},
    ],
    ids=str,
)
def test_extreme_parameters_stay_finite(extreme):
    rng = np.random.default_rng(0)
    votes, _ = sample(rng, random_outcomes(rng, 8, 3), [0.9, 0.09, 0.01], 400)
    model = DawidSkene(tol=1e-4, **extreme)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.fit(matrix(votes, 3)).predict_proba(matrix(votes, 3))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.isfinite(model.history_).all()
    assert ((model.outcomes_ > 0) & (model.outcomes_ < 1)).all()


def test_an_explanation_speaks_for_what_was_voted():
    rng = np.random.default_rng(0)
    votes, _ = sample(rng, random_outcomes(rng, 6, 3)[:5], [0.4, 0.3, 0.3], 2_000)
    L = matrix(votes, 3)
    row = int(np.argmax((votes >= 0).sum(axis=1)))
    why = DawidSkene().fit(L).explain(L.take([row]))
    for vote, parts in zip(why.votes, why.contributions, strict=True):
        assert parts.sum() == pytest.approx(0)
        assert vote == -1 or parts.argmax() == vote
    with pytest.raises(UnknownNameError, match="unknown class 'c9'"):
        why.log_odds("c9", "c0")
    with pytest.raises(DataError, match="expected the votes of one row, got 2 rows"):
        DawidSkene().fit(L).explain(L.take([0, 1]))


def test_silence_of_a_sampled_llm_says_next_to_nothing():
    """An LLM asked on 300 of 1,287 rows at random beside one-sided rules."""
    rng = np.random.default_rng(3)
    rules = [np.array([[0, 0], [a, b], [1 - a, 1 - b]]) for a, b in [(0.02, 0.3), (0.05, 0.4)]]
    rules += [np.array([[a, b], [0, 0], [1 - a, 1 - b]]) for a, b in [(0.3, 0.03), (0.2, 0.04)]]
    votes, gold = sample(rng, rules, [0.5, 0.5], 1_287)
    llm = np.full(1_287, -1)
    asked = rng.choice(1_287, 300, replace=False)
    llm[asked] = np.where(rng.random(300) < 0.95, gold[asked], 1 - gold[asked])
    L = matrix(np.column_stack([votes, llm]), 2)
    model = DawidSkene().fit(L)
    assert model.lf_accuracies_[4] > 0.88
    silent = L.take(np.flatnonzero(L.covered() & (L.votes[:, 4] < 0))[:50])
    for i in range(len(silent)):
        _, odds = model.explain(silent.take([i])).log_odds("c1", "c0")
        assert abs(odds[4]) < 0.1
        assert np.abs(odds[:4]).max() > 0.5
    covered = L.covered()
    found = model.predict_proba(L)[covered].argmax(axis=1) == gold[covered]
    majority = MajorityVote().fit(L).predict_proba(L)[covered, gold[covered]]
    assert found.mean() >= majority.mean()


def heterogeneous(seed):
    """Votes that break the model: topics, long rows that fire more, near copies, rare classes."""
    rng = np.random.default_rng(seed)
    k, m = int(rng.choice([2, 3, 5])), int(rng.integers(4, 20))
    n, topics = 1_500, 3
    balance = np.maximum(rng.dirichlet(np.full(k, 3)), 0.02)
    gold = rng.choice(k, n, p=balance / balance.sum())
    topic = gold * topics + rng.integers(0, topics, n)
    length = np.exp(0.6 * rng.normal(size=n))
    votes = np.full((n, m), -1)
    for j in range(m):
        fires = np.exp(rng.normal(size=k * topics))[topic] * length
        if rng.random() < 0.5:  # one-sided
            own = int(rng.integers(k))
            rate = np.where(gold == own, rng.uniform(0.1, 0.4), rng.uniform(0.005, 0.05))
            votes[rng.random(n) < np.minimum(rate * fires, 0.95), j] = own
        else:
            right = rng.random(n) < rng.uniform(0.5, 0.9)
            said = np.where(right, gold, (gold + rng.integers(1, k, n)) % k)
            votes[:, j] = np.where(
                rng.random(n) < np.minimum(rng.uniform(0.1, 0.6) * fires, 1), said, -1
            )
    if rng.random() < 0.5:
        copied = rng.random(n) < 0.85
        votes[copied, 0] = votes[copied, 1]
    return matrix(votes, k), gold


def test_better_than_majority_vote_where_the_model_is_wrong():
    """40 draws of LFs that the model does not describe; the ones without priors collapse."""
    gains = {"default": [], "plain": []}
    plain = DawidSkene(
        prior_votes=1, prior_share=0, majority_weight=0, abstain_weight=1, balance_rows=1, tol=1e-4
    )
    for seed in range(40):
        L, gold = heterogeneous(seed)
        covered = L.covered()

        def accuracy(model, L=L, gold=gold, covered=covered):
            found = model.fit(L).predict_proba(L)[covered]
            best = found == found.max(axis=1, keepdims=True)
            return (best / best.sum(axis=1, keepdims=True))[
                np.arange(covered.sum()), gold[covered]
            ].mean()

        majority = accuracy(MajorityVote())
        gains["default"].append(accuracy(DawidSkene()) - majority)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            gains["plain"].append(accuracy(plain) - majority)
    assert np.mean(gains["default"]) > 0.01
    assert np.quantile(gains["default"], 0.05) > -0.05
    assert np.mean(gains["default"]) > np.mean(gains["plain"]) + 0.03


def test_a_rare_class_is_not_lost():
    rng = np.random.default_rng(5)
    rare = [np.array([[0, 0], [a, b], [1 - a, 1 - b]]) for a, b in [(0.004, 0.6), (0.006, 0.5)]]
    common = [np.array([[0.4, 0.02], [0, 0], [0.6, 0.98]])]
    votes, _ = sample(rng, rare + common, [0.98, 0.02], 10_000)
    model = DawidSkene().fit(matrix(votes, 2))
    both = (votes[:, 0] == 1) & (votes[:, 1] == 1)
    assert both.sum() > 20
    found = model.predict_proba(matrix(votes, 2))
    assert found[both, 1].min() > 0.5
    assert model.class_balance_[1] < 0.15
