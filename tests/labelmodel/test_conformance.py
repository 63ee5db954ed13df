"""What every label model promises. A new model joins MODELS, nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from llmlabel import registry
from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel import (
    GLAD,
    MACE,
    DawidSkene,
    MajorityVote,
    SnorkelStyleModel,
    TripletModel,
    TwoRateModel,
    WeightedVote,
)
from llmlabel.votes import VoteMatrix

MODELS = {
    "majority_vote": MajorityVote(),
    "majority_vote_uniform": MajorityVote(uncovered="uniform"),
    "dawid_skene": DawidSkene(max_iter=2000),
    "dawid_skene_uniform": DawidSkene(uncovered="uniform", max_iter=2000),
    # What Dawid and Skene wrote, with as good as no prior.
    "dawid_skene_1979": DawidSkene(
        prior_votes=1,
        prior_share=0,
        majority_weight=0,
        abstain_weight=1,
        balance_rows=1,
        max_iter=2000,
    ),
    "two_rate": TwoRateModel(),
    "two_rate_uniform": TwoRateModel(uncovered="uniform"),
    "weighted_vote": WeightedVote(),
    "snorkel_style": SnorkelStyleModel(),
    "triplet": TripletModel(),
    "mace": MACE(n_iter=4),
    "glad": GLAD(n_iter=2, m_step_iter=3),
}
SLOW = {"mace", "glad"}  # crowd-kit's: a data frame per step
CLOSE = {"rtol": 0, "atol": 1e-4}  # EM stops within tol of its end, on other last bits


@pytest.fixture(params=MODELS)
def model(request):
    if request.param in SLOW:
        pytest.importorskip("crowdkit", reason="needs crowd-kit, the extra 'crowd'")
    return clone(MODELS[request.param])


def each_model(*strategies):
    """Check every model on drawn arguments: few times where a fit takes long."""

    def decorate(body):
        @pytest.mark.parametrize("name", MODELS)
        def run(name):
            if name in SLOW:
                pytest.importorskip("crowdkit", reason="needs crowd-kit, the extra 'crowd'")

            @settings(max_examples=4 if name in SLOW else 100)
            @given(st.tuples(*strategies))
            def check(drawn):
                body(clone(MODELS[name]), *drawn)

            check()

        run.__name__ = body.__name__
        return run

    return decorate


def matrix(votes, k=3, names=None, classes=None):
    votes = np.asarray(votes, np.int16)
    names = names or [f"lf{j}" for j in range(votes.shape[1])]
    return VoteMatrix(votes, names, classes or [f"c{i}" for i in range(k)])


@st.composite
def voting(draw, min_rows=1):
    """Matrices with at least one vote."""
    k = draw(st.integers(2, 4))
    shape = draw(st.integers(min_rows, 12)), draw(st.integers(1, 5))
    votes = draw(arrays(np.int16, shape, elements=st.integers(-1, k - 1)))
    if (votes < 0).all():
        votes[0, 0] = draw(st.integers(0, k - 1))
    return matrix(votes, k)


def planted(
    rng, n=4000, k=3, accuracies=(0.9, 0.8, 0.7, 0.6, 0.75), coverage=(1, 0.6, 0.8, 0.5, 0.3)
):
    """Votes of conditionally independent LFs whose errors fall on all other classes alike."""
    balance = np.arange(1, k + 1) / np.arange(1, k + 1).sum()
    gold = rng.choice(k, n, p=balance)
    votes = np.full((n, len(accuracies)), -1)
    for j, (a, c) in enumerate(zip(accuracies, coverage, strict=True)):
        said = np.where(rng.random(n) < a, gold, (gold + rng.integers(1, k, n)) % k)
        votes[:, j] = np.where(rng.random(n) < c, said, -1)
    return matrix(votes, k), gold, balance


@each_model(voting())
def test_rows_are_distributions(model, L):
    found = clone(model).fit(L).predict_proba(L)
    assert found.shape == (len(L), len(L.classes))
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@each_model(voting(), st.randoms(use_true_random=False))
def test_permuted_rows_permute_the_answer_to_the_last_bit(model, L, random):
    order = random.sample(range(len(L)), len(L))
    there, here = clone(model).fit(L.take(order)), clone(model).fit(L)
    assert there.predict_proba(L.take(order)).tobytes() == here.predict_proba(L)[order].tobytes()


@each_model(voting(), st.randoms(use_true_random=False))
def test_permuted_labeling_functions_change_nothing(model, L, random):
    order = random.sample(L.lf_names, len(L.lf_names))
    there, here = clone(model).fit(L.select(order)), clone(model).fit(L)
    np.testing.assert_allclose(there.predict_proba(L.select(order)), here.predict_proba(L), **CLOSE)


@each_model(voting(), st.randoms(use_true_random=False))
def test_permuted_classes_permute_the_columns(model, L, random):
    k = len(L.classes)
    order = np.array(random.sample(range(k), k))  # new class i is old class order[i]
    moved = np.append(np.argsort(order), -1)[L.votes]
    there = matrix(moved, classes=[L.classes[i] for i in order])
    found = clone(model).fit(there).predict_proba(there)
    np.testing.assert_allclose(found, clone(model).fit(L).predict_proba(L)[:, order], **CLOSE)


@each_model(voting())
def test_a_row_without_votes_gets_the_prior(model, L):
    fitted = clone(model).fit(L)
    k = len(L.classes)
    silent = matrix(np.full((2, L.shape[1]), -1), k)
    prior = fitted.class_balance_ if model.uncovered == "balance" else np.full(k, 1 / k)
    np.testing.assert_array_equal(fitted.predict_proba(silent), np.tile(prior, (2, 1)))
    assert not fitted.covered(silent).any()
    assert fitted.covered(L).tolist() == L.covered().tolist()


@each_model(voting(), st.integers(0, 4))
def test_a_silent_labeling_function_stays_finite_and_may_speak_later(model, L, at):
    votes = np.insert(L.votes, min(at, L.shape[1]), -1, axis=1)
    k = len(L.classes)
    fitted = clone(model).fit(matrix(votes, k))
    for name, value in vars(fitted).items():
        if name.endswith("_") and isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert np.isfinite(value).all(), name
    speaks = np.full((k, votes.shape[1]), -1)
    speaks[:, min(at, L.shape[1])] = range(k)
    assert np.isfinite(fitted.predict_proba(matrix(speaks, k))).all()


@each_model(voting(), voting())
def test_votes_never_seen_in_fit(model, L, other):
    if L.shape[1] != other.shape[1] or L.classes != other.classes:
        other = matrix(np.roll(L.votes, 1, axis=1), len(L.classes))
    fitted = clone(model).fit(L)
    whole = fitted.predict_proba(other)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-12)
    alone = [fitted.predict_proba(other.take([i]))[0] for i in range(len(other))]
    np.testing.assert_array_equal(whole, alone)


@each_model(voting(), st.data())
def test_repeated_rows_are_weighted_rows(model, L, data):
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(L), max_size=len(L))))
    if not L.covered()[times > 0].any():
        times[np.argmax(L.covered())] = 2
    repeated = clone(model).fit(L.take(np.repeat(np.arange(len(L)), times)))
    weighted = clone(model).fit(L, sample_weight=times)
    np.testing.assert_allclose(weighted.predict_proba(L), repeated.predict_proba(L), atol=1e-12)


def test_same_votes_same_bytes(model):
    L, _, _ = planted(np.random.default_rng(0), n=500)
    first, second = clone(model).fit(L), clone(model).fit(L)
    for name, value in vars(first).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(second, name).tobytes(), name
    assert first.predict_proba(L).tobytes() == second.predict_proba(L).tobytes()
    assert first.fit(L).predict_proba(L).tobytes() == second.predict_proba(L).tobytes()


def test_good_votes_give_good_labels(model):
    L, gold, balance = planted(np.random.default_rng(1))
    fitted = model.fit(L)
    right = fitted.predict_proba(L).argmax(axis=1) == gold
    assert right.mean() > 0.85
    # MACE holds classes for equally frequent, and their shares for habits of its LFs.
    near = 0.1 if isinstance(model, MACE) else 0.05
    np.testing.assert_allclose(fitted.class_balance_, balance, atol=near)


def test_constructor_stores_and_fit_leaves_parameters_alone(model):
    assert vars(model) == model.get_params()
    before = model.get_params()
    model.fit(matrix([[0, 1], [1, 1]]))
    assert model.get_params() == before
    assert vars(clone(model)) == before
    assert model.set_params(uncovered="uniform").uncovered == "uniform"


def test_fit_returns_self_and_learns_names(model):
    L = matrix([[0, 1], [1, 1]], classes=["A", "B"], names=["x", "y"])
    assert model.fit(L) is model
    assert model.classes_.tolist() == ["A", "B"]
    assert model.lf_names_ == ("x", "y")
    assert model.class_balance_.sum() == pytest.approx(1)


def test_predict_before_fit(model):
    with pytest.raises(NotFittedError):
        model.predict_proba(matrix([[0]]))


def test_other_labeling_functions_or_classes_than_fitted(model):
    L = matrix([[0, 1], [1, 1]], classes=["HAM", "SPAM"], names=["links", "words"])
    model.fit(L)
    with pytest.raises(
        UnknownNameError, match="unknown labeling function 'link', did you mean 'links'"
    ):
        model.predict_proba(matrix([[0, 1]], classes=["HAM", "SPAM"], names=["link", "words"]))
    with pytest.raises(UnknownNameError, match="unknown class 'SPAN', did you mean 'SPAM'"):
        model.predict_proba(matrix([[0, 1]], classes=["HAM", "SPAN"], names=["links", "words"]))
    with pytest.raises(DataError, match="labeling function 'words' of the fitted model is missing"):
        model.predict_proba(L.select(["links"]))
    with pytest.raises(DataError, match="labeling function 0 is 'words'.*'links' there") as caught:
        model.predict_proba(L.select(["words", "links"]))
    assert "L.select(model.lf_names_)" in caught.value.hint
    with pytest.raises(DataError, match="class 0 is 'SPAM'"):
        model.predict_proba(matrix([[0, 1]], classes=["SPAM", "HAM"], names=["links", "words"]))


@pytest.mark.parametrize("votes", [np.zeros((0, 2)), np.full((3, 2), -1), np.zeros((4, 0))])
def test_nothing_to_learn_from(model, votes):
    with pytest.raises(
        DataError, match=f"no labeling function votes on any of the {len(votes)} rows"
    ):
        model.fit(matrix(votes))


def test_no_rows_to_predict(model):
    found = model.fit(matrix([[0, 1]])).predict_proba(matrix(np.zeros((0, 2))))
    assert found.shape == (0, 3)


def test_one_labeling_function_is_believed(model):
    L = matrix([[0]] * 5 + [[1]] * 4 + [[2]] * 6)
    found = model.fit(L).predict_proba(L)
    assert (found.argmax(axis=1) == L.votes[:, 0]).all()


def test_one_class_seen(model):
    L = matrix([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    found = model.fit(L).predict_proba(L)
    assert (found[:3].argmax(axis=1) == 1).all()
    np.testing.assert_allclose(found[:, 0], found[:, 2])


def test_one_class_to_choose_from(model):
    with pytest.raises(DataError, match="expected at least two classes, got c0"):
        model.fit(matrix([[0], [-1]], k=1))


def test_what_is_no_vote_matrix(model):
    with pytest.raises(DataError, match="expected a VoteMatrix, got ndarray") as caught:
        model.fit(np.zeros((2, 2), int))
    assert "VoteMatrix(votes, lf_names, classes)" in caught.value.hint


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"one weight per row, shape \(2,\)"),
        ([1.0, -1.0], "row 1: sample_weight: expected a weight of at least 0, got -1.0"),
        ([np.nan, 1.0], "row 0: sample_weight"),
        ([0.0, 0.0], "no labeling function votes"),
    ],
)
def test_wrong_weights(model, weights, message):
    with pytest.raises(DataError, match=message):
        model.fit(matrix([[0, 1], [1, 1]]), sample_weight=weights)


def test_wrong_parameters(model):
    with pytest.raises(UnknownNameError, match="'balanced', did you mean 'balance'"):
        model.set_params(uncovered="balanced").fit(matrix([[0]]))


@pytest.mark.parametrize(
    "name", ["prior_precision", "abstain_weight", "max_iter", "tol", "prior_votes"]
)
def test_parameters_out_of_range(name):
    with pytest.raises(ConfigError, match=f"DawidSkene: {name}: expected .* to .*, got -1"):
        DawidSkene(**{name: -1}).fit(matrix([[0]]))
    with pytest.raises(ConfigError, match=f"{name}: expected a number, got 'much'"):
        DawidSkene(**{name: "much"}).fit(matrix([[0]]))


def test_every_built_in_of_the_registry_is_here():
    tested = {type(m) for m in MODELS.values()}
    built_in = registry.GROUPS["label_models"]
    assert {registry.load(name, "label_models") for name in built_in} == tested
