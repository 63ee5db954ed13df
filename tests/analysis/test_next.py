"""Effects of labeling functions, and what is suggested."""

from __future__ import annotations

import numpy as np
import pytest

from llmlabel.analysis import effects, next_steps, summary
from llmlabel.errors import DataError
from llmlabel.votes import VoteMatrix

RNG = np.random.default_rng(0)
GOLD = RNG.integers(0, 3, 600)
CLASSES = ("A", "B", "C")


def right(share: float, coverage: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    votes = np.where(rng.random(len(GOLD)) < share, GOLD, (GOLD + rng.integers(1, 3, 600)) % 3)
    return np.where(rng.random(len(GOLD)) < coverage, votes, -1)


def matrix(**columns: np.ndarray) -> VoteMatrix:
    return VoteMatrix(np.column_stack(list(columns.values())), columns, CLASSES)


def kinds(L, **options):
    found = next_steps(L, summary(L, options.pop("gold", None)), **options)
    return {(s.kind, *s.lfs[:1]) for s in found}


def test_dropping_a_good_lf_costs_and_dropping_a_wrong_one_pays():
    L = matrix(
        good=right(0.95, 0.9, 1), fair=right(0.7, 0.9, 2), other=right(0.7, 0.9, 3),
        wrong=right(0.02, 0.9, 4),
    )  # fmt: skip
    vectors = np.eye(3)[GOLD] + 0.3 * RNG.normal(size=(600, 3))
    found = effects(L, GOLD, vectors)
    assert found.label_model is not None
    assert found.student is not None
    worth = dict(zip(L.lf_names, found.label_model, strict=True))
    assert worth["good"] > worth["fair"] >= -0.02
    assert worth["wrong"] < 0
    assert found.student_accuracy is not None
    assert found.student_accuracy > 0.9
    assert ("better_without", "wrong") in kinds(L, gold=GOLD, effect=found)
    assert ("worse_than_chance", "wrong") in kinds(L, gold=GOLD)


def test_without_gold_only_labels_are_compared():
    L = matrix(a=right(0.9, 0.5, 1), b=right(0.9, 0.5, 2))
    found = effects(L)
    assert found.label_model is None
    assert found.student is None
    only_a = ((L["a"] >= 0) & (L["b"] < 0)).sum() / L.covered().sum()
    assert found.alone[0] == pytest.approx(only_a)
    assert found.relabeled[0] >= found.alone[0]


def test_many_rows_are_sampled():
    big = VoteMatrix(np.tile(np.array([[0, 1], [1, 1]]), (30_000, 1)), ["a", "b"], ["A", "B"])
    assert effects(big).rows == 20_000


@pytest.mark.parametrize("name", ["gold", "features"])
def test_what_does_not_fit_is_an_error(name):
    L = matrix(a=right(0.9, 0.5, 1), b=right(0.9, 0.5, 2))
    with pytest.raises(DataError, match=f"{name}: expected 600"):
        effects(L, **{name: np.zeros(5, int)})


def test_copies_missing_classes_and_clashes_are_named():
    a = np.where(right(0.9, 0.6, 1) == 2, -1, right(0.9, 0.6, 1))
    L = matrix(a=a, copy=np.where(RNG.random(600) < 0.5, a, -1), llm=np.where(a == 0, 1, -1))
    found = next_steps(L, summary(L), prompted=["llm"])
    assert ("repeats", "copy") in {(s.kind, *s.lfs[:1]) for s in found}
    assert any(s.kind == "class_without_votes" and "C" in s.what for s in found)
    clash = next(s for s in found if s.kind == "llm_clash")
    assert clash.rows == (a == 0).sum()
    assert "it says B and they say A" in clash.what
    assert [s.rows for s in found] == sorted((s.rows for s in found), reverse=True)


def test_rows_without_votes_come_in_clusters_with_typical_texts():
    votes = np.full((200, 2), -1)
    votes[:20] = 0
    centre = np.repeat(np.eye(8), 25, axis=0)
    L = VoteMatrix(votes, ["a", "b"], CLASSES)
    texts = [f"text {i // 25}" for i in range(200)]
    found = next_steps(
        L, summary(L), texts=texts, vectors=centre + 0.01 * RNG.normal(size=(200, 8))
    )
    groups = [s for s in found if s.kind == "uncovered"]
    assert sum(s.rows for s in groups) == 180
    assert all(len(set(s.examples)) == 1 for s in groups)
