"""What the models for comparison promise on their own: planted parameters, their sources, errors."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from benchmarks.synthetic import synthetic_set
from llmlabel.errors import ConfigError, DataError, MissingExtraError, UnknownNameError
from llmlabel.labelmodel import (
    GLAD,
    MACE,
    MajorityVote,
    SnorkelStyleModel,
    TripletModel,
    WeightedVote,
)
from llmlabel.labelmodel.moments import vote_moments
from llmlabel.labelmodel.snorkel_style import _Objective
from llmlabel.votes import VoteMatrix


def independent(seed=0, n=20_000, k=2, m=8):
    """LFs that are independent given the class, of different accuracies and coverages."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(k, n, p=np.arange(k, 0, -1) / np.arange(k, 0, -1).sum())
    right = rng.uniform(0.55, 0.95, m)
    votes = np.full((n, m), -1)
    for j in range(m):
        said = np.where(rng.random(n) < right[j], gold, (gold + rng.integers(1, k, n)) % k)
        votes[:, j] = np.where(rng.random(n) < rng.uniform(0.2, 0.9), said, -1)
    return VoteMatrix(votes, [f"lf{j}" for j in range(m)], [f"c{y}" for y in range(k)]), gold


@pytest.mark.parametrize("k", [2, 4])
def test_triplets_find_planted_precisions(k):
    L, gold = independent(k=k)
    found = TripletModel().fit(L).precisions_
    planted = np.array([[(gold[v == c] == c).mean() for c in range(k)] for v in L.votes.T])
    np.testing.assert_allclose(found, planted, atol=0.06 if k == 2 else 0.15)
    assert np.corrcoef(found.ravel(), planted.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("k", [2, 4])
def test_matrix_completion_finds_planted_conditionals(k):
    L, gold = independent(k=k)
    model = SnorkelStyleModel(prior_weight=0.1).fit(L)
    planted = np.array(
        [[[(v[gold == y] == c).mean() for y in range(k)] for c in range(k)] for v in L.votes.T]
    )
    np.testing.assert_allclose(model.conditionals_, planted, atol=0.08)


def test_gradient_of_the_objective():
    L, _ = independent(n=300, m=4, k=3)
    moments = vote_moments(L.votes, np.ones(len(L)), 3, len(L))
    rng = np.random.default_rng(1)
    start, at = rng.random((12, 3)), rng.random(36)
    problem = _Objective(moments, moments.single, np.array([0.5, 0.3, 0.2]), start, 0.7)
    steps = np.eye(36) * 1e-6
    numeric = [(problem(at + h)[0] - problem(at - h)[0]) / 2e-6 for h in steps]
    np.testing.assert_allclose(problem(at)[1], numeric, atol=1e-5)


@pytest.mark.parametrize("model", [TripletModel(), SnorkelStyleModel()])
def test_silent_rows_tell_that_sparse_votes_agree(model):
    """Among rows with votes alone, LFs that rarely vote seem to avoid each other."""
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 2, 20_000)
    votes = np.where(rng.random((20_000, 6)) < 0.9, gold[:, None], 1 - gold[:, None])
    votes[rng.random(votes.shape) > 0.05] = -1
    L = VoteMatrix(votes, list("abcdef"), ["N", "Y"])
    p = model.fit(L).predict_proba(L)[L.covered()]
    assert (p.argmax(axis=1) == gold[L.covered()]).mean() > 0.89
    # one vote of an LF that is right nine times in ten
    assert model.predict_proba(VoteMatrix([[1] + [-1] * 5], L.lf_names, L.classes))[0, 1] > 0.8


@pytest.mark.parametrize(
    "model", [WeightedVote(), TripletModel(), SnorkelStyleModel()], ids=lambda m: type(m).__name__
)
def test_contributions_add_up_to_the_posterior(model):
    made = synthetic_set(12)
    model.fit(made.L)
    for i in range(20):
        row = made.L.take([i])
        why = model.explain(row)
        total = why.prior + why.contributions.sum(axis=0) - why.log_evidence
        np.testing.assert_allclose(np.exp(total), model.predict_proba(row)[0], atol=1e-9)
        assert (why.contributions[row.votes[0] < 0] == 0).all()
    with pytest.raises(DataError, match="expected the votes of one row, got 2 rows"):
        model.explain(made.L.take([0, 1]))


def test_learned_weights_are_log_odds_of_accuracies():
    L, gold = independent()
    model = WeightedVote().fit(L)
    right = np.array([(gold[v >= 0] == v[v >= 0]).mean() for v in L.votes.T])
    np.testing.assert_allclose(model.weights_, np.log(right / (1 - right)), atol=0.3)


def test_equal_weights_are_majority_vote():
    made = synthetic_set(3)
    even = WeightedVote(weights=dict.fromkeys(made.L.lf_names, 1.0)).fit(made.L)
    found, covered = even.predict_proba(made.L), made.L.covered()
    most = np.isclose(found, found.max(axis=1, keepdims=True))[covered]
    majority = MajorityVote().fit(made.L).predict_proba(made.L)[covered] > 0
    np.testing.assert_array_equal(most, majority)


def test_wrong_weights_are_said():
    L = VoteMatrix([[0, 1]], ["links", "words"], ["HAM", "SPAM"])
    with pytest.raises(UnknownNameError, match="unknown labeling function 'link', did you mean"):
        WeightedVote(weights={"link": 1.0, "words": 1.0}).fit(L)
    with pytest.raises(ConfigError, match="weights: labeling function 'words' has none"):
        WeightedVote(weights={"links": 1.0}).fit(L)
    with pytest.raises(ConfigError, match="weights: words: expected a finite number, got nan"):
        WeightedVote(weights={"links": 1.0, "words": float("nan")}).fit(L)


@pytest.mark.parametrize("name", ["MACE", "GLAD"])
def test_crowd_kit_agrees(name):
    """Our reading of crowd-kit's parameters gives its own labels back."""
    models = pytest.importorskip("crowdkit.aggregation.classification")
    made = synthetic_set(0)
    L = made.L.take(np.arange(300))
    ours = {"MACE": MACE(n_iter=10), "GLAD": GLAD(n_iter=5)}[name].fit(L)
    theirs = {"MACE": models.MACE(n_restarts=1, n_iter=10), "GLAD": models.GLAD(n_iter=5)}[name]
    worker, task = np.nonzero(L.votes.T >= 0)
    label = L.votes[task, worker]
    order = np.lexsort((task, label, worker))
    pandas = pytest.importorskip("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit's own use of pandas
        found = theirs.fit_predict_proba(
            pandas.DataFrame({"task": task[order], "worker": worker[order], "label": label[order]})
        ).sort_index(axis=1)
    mine = ours.predict_proba(L)[found.index]
    same = mine.argmax(axis=1) == found.to_numpy().argmax(axis=1)
    assert same.mean() > 0.97


def test_crowd_models_need_whole_weights():
    pytest.importorskip("crowdkit", reason="needs crowd-kit, the extra 'crowd'")
    L = VoteMatrix([[0], [1]], ["a"], ["N", "Y"])
    with pytest.raises(DataError, match="row 1: MACE repeats rows.*whole number, got 0.5"):
        MACE().fit(L, sample_weight=[1, 0.5])


def test_without_crowd_kit(monkeypatch):
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation.classification.mace", None)
    with pytest.raises(MissingExtraError, match="MACE needs the package 'crowd-kit'") as caught:
        MACE().fit(VoteMatrix([[0], [1]], ["a"], ["N", "Y"]))
    assert caught.value.hint == "pip install 'llmlabel[crowd]'"


def test_importing_models_loads_no_crowd_kit():
    code = "import sys, llmlabel.labelmodel; sys.exit(any('crowdkit' in m for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
