"""What a student says of training rows by others like it that have not met them."""

from __future__ import annotations

import numpy as np
import pytest

from llmlabel.distill import Labels, fit_linear, out_of_fold

WORDS = {"HAM": "lunch meeting tomorrow home dinner", "SPAM": "win free prize claim cash"}


def noisy(n: int = 120, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    names = list(WORDS.values())
    texts = [" ".join(rng.choice(names[c].split(), 3)) + f" n{i}" for i, c in enumerate(truth)]
    said = np.where(rng.random(n) < 0.2, 1 - truth, truth)
    targets = np.eye(2)[said] * 0.8 + 0.1
    return Labels(texts, targets, np.ones(n), np.full(n, -1), None)


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_row_does_not_speak_for_itself(rounds):
    labels = noisy()
    student = fit_linear(labels.texts, labels.targets, ["HAM", "SPAM"], rounds=rounds)
    rows = np.arange(len(labels.texts))
    before = out_of_fold(student, labels, rows, rounds=rounds)
    other = labels.targets.copy()
    other[7] = np.where(other[7] > 0.5, 0.99, 0.01)
    surer = Labels(labels.texts, other, labels.weights, labels.gold, None)
    after = out_of_fold(student, surer, rows, rounds=rounds)
    assert np.array_equal(before[7], after[7])
    assert not np.array_equal(before, after), "other rows' students did learn from it"


def test_it_errs_on_wrong_labels_where_the_student_itself_repeats_them():
    labels = noisy(300)
    truth = np.arange(300) % 2
    student = fit_linear(labels.texts, labels.targets, ["HAM", "SPAM"], C=300.0)
    wrong = labels.targets.argmax(axis=1) != truth
    rows = np.flatnonzero(wrong)
    own = student.predict_proba(labels.texts)[rows].argmax(axis=1)
    held = out_of_fold(student, labels, rows).argmax(axis=1)
    assert (held == truth[rows]).mean() > (own == truth[rows]).mean()


def test_gold_rows_are_learned_from_in_the_other_folds():
    labels = noisy(60)
    gold = np.where(np.arange(60) < 20, np.arange(60) % 2, -1)
    weights = (np.arange(60) >= 50).astype(float)
    known = Labels(labels.texts, labels.targets, weights, gold, None)
    student = fit_linear(
        known.texts, known.targets, ["HAM", "SPAM"], weights=known.weights, gold=gold
    )
    found = out_of_fold(student, known, np.arange(60))
    assert found.shape == (60, 2)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == np.arange(60) % 2).mean() > 0.8
