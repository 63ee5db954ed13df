"""The benchmark of quality: its threshold, its groups, and TF-IDF that is known already."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.corpus_quality import (
    KEEP,
    Kind,
    Rated,
    _coordinates,
    _known_terms,
    figures,
    fitted,
    groups,
    threshold,
)
from llmlabel.embed import fit_tfidf
from llmlabel.votes import VoteMatrix

TEXTS = ["a page of prose", "menu menu login", "prose that explains", "buy now, login"] * 10
TARGETS = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9]] * 10)


def rated():
    words = fit_tfidf(TEXTS).transform(TEXTS)
    votes = VoteMatrix(TARGETS.argmax(axis=1)[:, None], ["score"], ["KEEP", "DROP"])
    vectors = np.eye(4)[np.arange(40) % 4]
    return Rated(TEXTS, [], TARGETS[:, KEEP] > 0.5, votes, vectors, words, words)


def test_the_threshold_keeps_as_many_as_the_teacher():
    rng = np.random.default_rng(0)
    held = rng.dirichlet((1, 3), 400)
    targets = rng.dirichlet((2, 1), 400)
    least = threshold(held, targets)
    assert (held[:, KEEP] >= least).sum() == pytest.approx((targets.argmax(1) == KEEP).sum(), abs=1)


def test_families_are_one_group_and_ratings_another():
    votes = VoteMatrix([[0, 1, -1]], ["keep", "c4", "fineweb"], ["KEEP", "DROP"])
    assert groups(votes) == {"keep": "ratings", "c4": "rules", "fineweb": "rules"}


def test_figures_have_intervals():
    good = np.array([True, True, False, False] * 20)
    score = np.array([0.9, 0.4, 0.3, 0.1] * 20)
    found = figures("q_", good, score, accuracy_half=score > 0.5, accuracy=score > 0.35)
    assert found["q_auc"] == found["q_accuracy"] == found["q_accuracy_low"] == 1.0
    assert found["q_accuracy_half"] == 0.75
    assert "q_accuracy_half_low" not in found


def test_known_tfidf_makes_the_same_student():
    data, rows = rated(), np.arange(len(TEXTS))
    real = fitted(data, rows, TARGETS, Kind(vectors=True))
    with _known_terms(data, True):
        known = fitted(data, rows, TARGETS, Kind(vectors=True))
    asked = TEXTS[3:9], data.vectors[3:9]
    assert known.predict_proba(*asked) == pytest.approx(real.predict_proba(*asked), abs=1e-9)
    with _known_terms(data, False):
        assert fitted(data, rows, TARGETS, Kind(vectors=False)).tfidf is not real.tfidf


def test_coordinates_keep_inner_products():
    words = rated().words[:4]
    found = _coordinates(words)
    assert found @ found.T == pytest.approx((words @ words.T).toarray(), abs=1e-6)
