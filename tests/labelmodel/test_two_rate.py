"""What the two-rate model promises beyond the conformance suite."""

from __future__ import annotations

import time
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel import FellBackWarning, MajorityVote, TwoRateModel
from llmlabel.votes import VoteMatrix


def matrix(votes, k, confidences=None):
    votes = np.asarray(votes, np.int16)
    names = [f"lf{j}" for j in range(votes.shape[1])]
    return VoteMatrix(votes, names, [f"c{i}" for i in range(k)], confidences)


def planted(seed, n=3_000, k=3, accuracies=(0.9, 0.8, 0.7, 0.6, 0.75), coverage=0.5, balance=None):
    """Independent LFs of some accuracies, all of one coverage."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(k, n, p=balance)
    votes = np.full((n, len(accuracies)), -1)
    for j, accuracy in enumerate(accuracies):
        said = np.where(rng.random(n) < accuracy, gold, (gold + rng.integers(1, k, n)) % k)
        votes[:, j] = np.where(rng.random(n) < coverage, said, -1)
    return votes, gold


def accuracy(probabilities, gold):
    best = probabilities >= probabilities.max(axis=1, keepdims=True) - 1e-9
    return (best / best.sum(axis=1, keepdims=True))[np.arange(len(gold)), gold].mean()


def calibration_error(probabilities, gold):
    """Expected calibration error in 15 bins of confidence."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    bins = np.minimum((sure * 15).astype(int), 14)
    return sum(abs((right - sure)[bins == b].sum()) for b in range(15)) / len(gold)


def test_lf_accuracies_are_found_within_their_intervals():
    votes, gold = planted(0, n=5_000)
    model = TwoRateModel().fit(matrix(votes, 3))
    voted = votes >= 0
    true = ((votes == gold[:, None]) & voted).sum(axis=0) / voted.sum(axis=0)
    assert np.corrcoef(model.lf_accuracies_, true)[0, 1] > 0.97
    low, high = model.lf_accuracy_intervals_.T
    assert ((low < true) & (true < high)).all()
    assert ((low < model.lf_accuracies_) & (model.lf_accuracies_ < high)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_estimated_accuracy_holds_the_true_one(seed):
    L = matrix(*[planted(seed, k=2)[0], 2])
    gold = planted(seed, k=2)[1]
    model = TwoRateModel().fit(L)
    true = accuracy(model.predict_proba(L)[L.covered()], gold[L.covered()])
    assert model.estimated_accuracy_.low < true < model.estimated_accuracy_.high
    assert model.estimated_accuracy_.value == pytest.approx(true, abs=0.08)


def test_a_rare_class_of_one_in_a_hundred():
    """Fixed shares of the prior would give every vote for the rare class a precision of .7."""
    votes, gold = planted(1, n=8_000, k=2, accuracies=[0.9] * 5, balance=[0.99, 0.01])
    L = matrix(votes, 2)
    covered = L.covered()
    ours = accuracy(TwoRateModel().fit(L).predict_proba(L)[covered], gold[covered])
    assert ours > accuracy(MajorityVote().fit(L).predict_proba(L)[covered], gold[covered]) + 0.02
    assert TwoRateModel().fit(L).class_balance_[1] < 0.1


def test_worse_than_chance_is_found_out():
    votes, _ = planted(2, k=2, accuracies=(0.85, 0.85, 0.8, 0.8, 0.3))
    model = TwoRateModel().fit(matrix(votes, 2))
    assert model.lf_accuracies_.argmin() == 4
    assert model.lf_accuracies_[4] < 0.55 < model.lf_accuracies_[:4].min()


def test_copies_share_their_weight():
    votes, gold = planted(3, k=2, accuracies=(0.6, 0.8, 0.8, 0.8), coverage=0.9)
    rng = np.random.default_rng(0)
    copies = np.where(rng.random((len(votes), 4)) < 0.97, votes[:, :1], -1)
    L = matrix(np.column_stack([votes, copies]), 2)
    covered = L.covered()
    found = TwoRateModel().fit(L)
    pairs = found.dependence_[np.ix_([0, 4, 5], [0, 4, 5])]
    assert pairs[~np.eye(3, dtype=bool)].min() > 0.5
    assert found.dependence_[1, 2] < pairs[0, 1] / 2
    ours = accuracy(found.predict_proba(L)[covered], gold[covered])
    alone = accuracy(TwoRateModel(dependence=0).fit(L).predict_proba(L)[covered], gold[covered])
    assert ours > alone


def test_declared_groups_need_no_proof():
    votes, _ = planted(4, n=150, k=2, accuracies=(0.8, 0.8, 0.8, 0.8), coverage=0.9)
    votes[::3, 1] = votes[::3, 0]  # too little to be found in 150 rows
    L = matrix(votes, 2)
    found = TwoRateModel().fit(L).dependence_
    by_name = TwoRateModel(groups={"lf0": "call-1", "lf1": "call-1"}).fit(L).dependence_
    assert by_name[0, 1] > found[0, 1]
    in_order = TwoRateModel(groups=["call-1", "call-1", None, None]).fit(L).dependence_
    np.testing.assert_array_equal(by_name, in_order)
    with pytest.raises(UnknownNameError, match="groups: unknown labeling function 'lf9'"):
        TwoRateModel(groups={"lf9": 1}).fit(L)
    with pytest.raises(ConfigError, match="groups: expected one for each of 4 LFs, got 1"):
        TwoRateModel(groups=[1]).fit(L)


def test_confidence_one_and_none_are_hard_votes():
    votes, _ = planted(5, n=400)
    plain = TwoRateModel().fit(matrix(votes, 3)).predict_proba(matrix(votes, 3))
    mixed = np.where(np.arange(votes.size).reshape(votes.shape) % 2, 1.0, np.nan)
    for confidences in (np.ones(votes.shape), np.full(votes.shape, np.nan), mixed):
        L = matrix(votes, 3, confidences)
        np.testing.assert_allclose(TwoRateModel().fit(L).predict_proba(L), plain, atol=1e-9)


def test_a_vote_at_chance_speaks_for_no_class_and_more_confidence_for_it():
    votes, _ = planted(6, n=400, k=2)
    model = TwoRateModel().fit(matrix(votes, 2))
    row = [[1, -1, -1, -1, -1]]
    odds = []
    for c in (0.5, 0.7, 0.9, 1.0):
        why = model.explain(matrix(row, 2, np.full((1, 5), c)))
        odds.append(why.log_odds("c1", "c0")[1][0])
    assert odds[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(odds) > 0).all()


def test_honest_confidences_help():
    votes, gold = planted(7, k=2, accuracies=(0.75, 0.75, 0.75), coverage=1.0)
    rng = np.random.default_rng(0)
    sure = rng.random(votes.shape) < 0.5
    wrong = rng.random(votes.shape) < np.where(sure, 0.05, 0.45)
    votes = np.where(wrong, 1 - gold[:, None], gold[:, None])
    L = matrix(votes, 2, np.where(sure, 0.95, 0.55))
    soft = accuracy(TwoRateModel().fit(L).predict_proba(L), gold)
    hard = accuracy(TwoRateModel().fit(matrix(votes, 2)).predict_proba(matrix(votes, 2)), gold)
    assert soft > hard + 0.03


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_an_explanation_adds_up_to_the_posterior(seed):
    rng = np.random.default_rng(seed)
    k, m, n = int(rng.integers(2, 5)), int(rng.integers(1, 6)), 40
    votes = np.where(rng.random((n, m)) < 0.5, rng.integers(0, k, (n, m)), -1)
    votes[0] = 0
    L = matrix(votes, k, rng.random((n, m)) if seed % 2 else None)
    gold = np.where(rng.random(n) < 0.3, rng.integers(0, k, n), -1)
    features = rng.normal(size=(n, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FellBackWarning)
        model = TwoRateModel().fit(L, gold=gold, features=features)
    posterior = model.predict_proba(L)
    with_text = model.predict_proba(L, features=features)
    for i in range(len(L)):
        for text, expected in ((None, posterior[i]), (features[[i]], with_text[i])):
            why = model.explain(L.take([i]), features=text)
            total = why.prior + why.contributions.sum(axis=0) - why.log_evidence
            np.testing.assert_allclose(np.exp(total), expected, atol=1e-12)
            np.testing.assert_allclose(why.log_posterior, total, atol=1e-9)


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_partial_fit_over_shards_is_fit(shards):
    votes, gold = planted(8, n=1_000)
    known = np.where(np.arange(1_000) % 20 == 0, gold, -1)
    L = matrix(votes, 3)
    weights = np.random.default_rng(0).random(1_000)
    whole = TwoRateModel().fit(L, sample_weight=weights, gold=known)
    parts = TwoRateModel()
    for at in np.array_split(np.arange(1_000), shards):
        parts.partial_fit(L.take(at), sample_weight=weights[at], gold=known[at])
    np.testing.assert_allclose(parts.predict_proba(L), whole.predict_proba(L), atol=1e-6)
    np.testing.assert_allclose(parts.lf_accuracies_, whole.lf_accuracies_, atol=1e-6)
    with pytest.raises(DataError, match="is missing from the votes"):
        parts.partial_fit(L.select(["lf0"]))
    assert parts.lf_names_ == L.lf_names


def test_a_sample_of_the_patterns_stands_for_all():
    votes, _ = planted(9, n=20_000, k=3, accuracies=np.linspace(0.5, 0.9, 12))
    L = matrix(votes, 3)
    all_rows = TwoRateModel().fit(L)
    some = TwoRateModel(max_patterns=4_000).fit(L)
    np.testing.assert_allclose(some.lf_accuracies_, all_rows.lf_accuracies_, atol=0.04)
    np.testing.assert_allclose(some.class_balance_, all_rows.class_balance_, atol=0.02)


def test_a_hundred_gold_rows_calibrate():
    """LFs that share their errors: too sure of themselves until gold says how sure to be."""
    errors = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        gold = rng.integers(0, 2, 3_000)
        skill = np.where(rng.random(3_000) < 0.25, 0.4, 0.85)[:, None]
        votes = np.where(rng.random((3_000, 8)) < skill, gold[:, None], 1 - gold[:, None])
        L = matrix(votes, 2)
        known = np.where(np.arange(3_000) < 100, gold, -1)
        for labels in (None, known):
            found = TwoRateModel().fit(L, gold=labels).predict_proba(L)
            errors.append(calibration_error(found[100:], gold[100:]))
    without, with_gold = np.reshape(errors, (-1, 2)).mean(axis=0)
    assert with_gold < 0.05 < without


def test_gold_rows_correct_what_the_votes_get_wrong():
    votes, gold = planted(11, k=2, accuracies=(0.9, 0.4, 0.4, 0.4), coverage=1.0)
    L = matrix(votes, 2)
    known = np.full(len(gold), -1)
    known[:200] = gold[:200]
    rest = slice(200, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FellBackWarning)
        before = accuracy(TwoRateModel().fit(L).predict_proba(L)[rest], gold[rest])
        after = accuracy(TwoRateModel().fit(L, gold=known).predict_proba(L)[rest], gold[rest])
    assert after > before + 0.1


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([0], r"gold: expected one label per row, shape \(2,\)"),
        ([0, 3], "row 1: gold: expected -1 to 2, got 3"),
        ([0.5, 1.0], "gold: expected class indices, -1 where unknown, got float64"),
    ],
)
def test_wrong_gold(gold, message):
    with pytest.raises(DataError, match=message):
        TwoRateModel().fit(matrix([[0, 1], [1, 1]], 3), gold=gold)


def features_of(gold, rng, strength=1.5, d=20):
    centres = rng.normal(size=(gold.max() + 1, d))
    return strength * centres[gold] / np.sqrt(d) * 2 + rng.normal(size=(len(gold), d))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_text_helps_and_speaks_for_rows_without_votes(form):
    votes, gold = planted(12, n=2_000, coverage=0.2)
    L = matrix(votes, 3)
    features = form(features_of(gold, np.random.default_rng(0)))
    model = TwoRateModel().fit(L, features=features)
    covered = L.covered()
    alone = model.predict_proba(L)
    with_text = model.predict_proba(L, features=features)
    np.testing.assert_allclose(with_text.sum(axis=1), 1)
    assert accuracy(with_text[covered], gold[covered]) > accuracy(alone[covered], gold[covered])
    assert accuracy(with_text[~covered], gold[~covered]) > 0.6
    one = model.predict_proba(L.take([5]), features=features[[5]])
    np.testing.assert_allclose(one[0], with_text[5], atol=1e-9)


def test_text_that_says_nothing_does_next_to_no_harm():
    votes, gold = planted(13, n=2_000)
    L = matrix(votes, 3)
    noise = np.random.default_rng(0).normal(size=(2_000, 20))
    model = TwoRateModel().fit(L, features=noise)
    covered = L.covered()
    alone = accuracy(model.predict_proba(L)[covered], gold[covered])
    assert accuracy(model.predict_proba(L, features=noise)[covered], gold[covered]) > alone - 0.01


def test_wrong_features():
    L = matrix([[0, 1], [1, 1]], 3)
    with pytest.raises(DataError, match=r"expected one row per row of votes, \(2, d\), got \(1, 2"):
        TwoRateModel().fit(L, features=np.zeros((1, 2)))
    with pytest.raises(DataError, match="features: expected finite numbers"):
        TwoRateModel().fit(L, features=np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="a model fitted without features"):
        TwoRateModel().fit(L).predict_proba(L, features=np.zeros((2, 2)))
    fitted = TwoRateModel().fit(L, features=np.eye(2))
    with pytest.raises(DataError, match="features: expected 2 columns as in fit, got 3"):
        fitted.predict_proba(L, features=np.zeros((2, 3)))


def test_a_model_that_foretells_worse_returns_the_majority_vote_and_says_so():
    votes, _ = planted(14, k=2, accuracies=[0.8] * 5, balance=[0.7, 0.3])
    L = matrix(votes, 2)
    # A prior that no data can move, by which votes say nothing: the balance decides.
    wrong = TwoRateModel(prior_precision=0.3, prior_votes=1e9, majority_weight=0, abstain_weight=0)
    with pytest.warns(FellBackWarning, match="using the majority vote instead") as caught:
        model = wrong.fit(L)
    assert caught[0].filename == __file__
    assert model.fell_back_
    assert model.fit_report_.gain < 0
    covered = L.covered()
    majority = MajorityVote().fit(L).predict_proba(L)[covered]
    ours = model.predict_proba(L)[covered]
    tied = np.isclose(majority.max(axis=1), 0.5)
    np.testing.assert_array_equal(ours.argmax(axis=1)[~tied], majority.argmax(axis=1)[~tied])
    np.testing.assert_allclose(ours[tied], 0.5)
    right = TwoRateModel().fit(L)
    assert not right.fell_back_
    assert right.fit_report_.trusted


def test_scale_and_memory():
    rng = np.random.default_rng(0)
    n, m, k = 200_000, 40, 5
    votes = np.where(rng.random((n, m)) < 0.2, rng.integers(0, k, (n, m)), -1)
    L = matrix(votes, k)
    del votes
    tracemalloc.start()
    start = time.process_time()
    model = TwoRateModel(fall_back=False).fit(L)
    model.predict_proba(L)
    assert time.process_time() - start < 30
    assert tracemalloc.get_traced_memory()[1] < 2 * n * m + 200e6
    tracemalloc.stop()


@pytest.mark.parametrize(("m", "k"), [(300, 56), (10, 1_500)])
def test_many_labeling_functions_and_many_classes(m, k):
    rng = np.random.default_rng(0)
    gold = rng.integers(0, k, 3_000)
    said = np.where(rng.random((3_000, m)) < 0.7, gold[:, None], rng.integers(0, k, (3_000, m)))
    L = matrix(np.where(rng.random((3_000, m)) < 0.3, said, -1), k)
    covered = L.covered()
    found = TwoRateModel().fit(L).predict_proba(L)
    majority = MajorityVote().fit(L).predict_proba(L)
    assert (
        accuracy(found[covered], gold[covered]) > accuracy(majority[covered], gold[covered]) - 0.005
    )


@pytest.mark.parametrize("name", ["prior_votes", "abstain_weight", "majority_weight", "max_iter"])
def test_parameters_out_of_range(name):
    with pytest.raises(ConfigError, match=f"TwoRateModel: {name}: expected .* to .*, got -1"):
        TwoRateModel(**{name: -1}).fit(matrix([[0]], 2))


def test_shards_with_and_without_confidences_are_one_model():
    votes, _ = planted(7, n=600)
    sure = np.where(votes >= 0, np.random.default_rng(0).uniform(0.5, 1, votes.shape), np.nan)
    first, second = matrix(votes[:300], 3), matrix(votes[300:], 3, sure[300:])
    shards = TwoRateModel().partial_fit(first).partial_fit(second)
    mixed = np.concatenate([np.full((300, votes.shape[1]), np.nan), sure[300:]])
    whole = TwoRateModel().fit(matrix(votes, 3, mixed))
    L = matrix(votes, 3, sure)
    np.testing.assert_allclose(shards.predict_proba(L), whole.predict_proba(L), atol=1e-6)


def test_many_rows_that_repeat_are_predicted_once_each_and_alike(monkeypatch):
    from llmlabel.labelmodel import coded

    votes, _ = planted(8, n=400, k=2)
    plain = TwoRateModel().fit(matrix(votes, 2)).predict_proba(matrix(votes, 2))
    monkeypatch.setattr(coded, "_MANY", 10)
    L = matrix(votes, 2)
    model = TwoRateModel().fit(L)
    assert coded.repeated(L.votes, coded.layout_of(*votes.shape[1:], 2)) is not None
    np.testing.assert_allclose(model.predict_proba(L), plain, atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(L.take(range(100))), plain[:100], atol=1e-12)
