"""The cut statistic, sharpened targets and self-training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import llmlabel.distill.refine as module
from llmlabel.distill import fit_linear
from llmlabel.distill.refine import cut_statistic, sharpened

RNG = np.random.default_rng(0)
WORDS = {"HAM": ["song", "love", "voice", "tune"], "SPAM": ["free", "win", "visit", "subscribe"]}


def heaps(n: int = 200, wrong: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = np.repeat([0, 1], n // 2)
    vectors = np.eye(2)[truth] + 0.2 * RNG.normal(size=(n, 2))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.where(RNG.random(n) < wrong, 1 - truth, truth)
    return vectors, labels, truth


def test_the_cut_leaves_out_wrong_labels_and_no_class():
    vectors, labels, truth = heaps()
    kept = cut_statistic(vectors, labels, keep=0.7)
    assert (labels[kept] == truth[kept]).mean() > (labels == truth).mean() + 0.1
    for c in (0, 1):
        assert kept[labels == c].sum() == np.ceil(0.7 * (labels == c).sum())


def test_many_rows_are_looked_at_through_a_sample(monkeypatch):
    vectors, labels, truth = heaps()
    monkeypatch.setattr(module, "_ANCHORS", 100)
    kept = cut_statistic(vectors, labels, keep=0.7)
    assert (labels[kept] == truth[kept]).mean() > (labels == truth).mean() + 0.1


@settings(max_examples=50)
@given(arrays(float, (7, 3), elements=st.floats(0.01, 1)))
def test_sharpened_targets_are_distributions(given_p):
    p = given_p / given_p.sum(axis=1, keepdims=True)
    targets, weights = sharpened(p)
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    assert ((weights >= 0) & (weights <= 1)).all()


def texts_of(labels: np.ndarray, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    names = np.array(["HAM", "SPAM"])[labels]
    return [" ".join(rng.choice(WORDS[n], 2)) for n in names]


def test_rows_without_a_label_teach_what_no_label_says():
    truth = RNG.integers(0, 2, 300)
    texts = texts_of(truth, 1)
    one_word = np.array(["song" in t or "free" in t for t in texts])  # all that the LFs know
    weights = one_word.astype(float)
    targets = np.full((300, 2), 0.5)
    targets[one_word] = 0.1
    targets[np.flatnonzero(one_word), truth[one_word]] = 0.9
    new = RNG.integers(0, 2, 300)
    plain = fit_linear(texts, targets, ["HAM", "SPAM"], weights=weights)
    taught = fit_linear(texts, targets, ["HAM", "SPAM"], weights=weights, rounds=2)
    sure = [s.predict_proba(texts_of(new, 2))[np.arange(300), new].mean() for s in (plain, taught)]
    assert sure[1] > sure[0]
    assert taught.describe()["rounds"] == 2


@pytest.mark.parametrize("rounds", [0, 2])
def test_the_same_seed_gives_the_same_student(rounds):
    truth = RNG.integers(0, 2, 60)
    made = [
        fit_linear(texts_of(truth, 1), np.eye(2)[truth], ["HAM", "SPAM"], rounds=rounds, keep=0.8)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(made[0].coef, made[1].coef)
