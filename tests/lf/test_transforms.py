"""Transformation functions, policies, slices and votes per class."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from llmlabel.errors import ConfigError, LabelingFunctionError, UnknownNameError
from llmlabel.labelmodel import MajorityVote, OneModelPerClass
from llmlabel.lf import apply_per_class, apply_slices, augment, keyword, slice_of, slicing_function
from llmlabel.lf.transforms import (
    AllPolicy,
    RandomPolicy,
    Transform,
    drop_words,
    swap_words,
    synonyms,
    transformation_function,
)
from llmlabel.schema import Task

ROWS = pa.table(
    {"id": [1, 2], "text": ["my parcel is late", "ok"], "label": ["LATE", "OTHER"], "n": [3, 4]}
)
CHANGES = [synonyms({"parcel": ["package"]}), swap_words(), drop_words(0.5)]


def test_new_rows_keep_their_labels_and_get_ids_of_their_own():
    found = augment(ROWS, CHANGES, seed=1).to_pylist()
    assert [r["id"] for r in found if "~" not in r["id"]] == ["1", "2"]
    made = [r for r in found if "~" in r["id"]]
    assert made
    assert len({r["id"] for r in found}) == len(found)
    for row in made:
        old = next(r for r in found if r["id"] == row["id"].split("~")[0])
        assert (row["label"], row["n"]) == (old["label"], old["n"])
        assert row["text"] != old["text"]
    assert not any(r["id"].startswith("2~") for r in made)  # nothing to change there


@pytest.mark.parametrize("policy", [None, AllPolicy(), RandomPolicy(length=2, versions=3)])
def test_the_seed_and_the_place_alone_decide(policy):
    once, again = (augment(ROWS, CHANGES, policy, seed=3) for _ in range(2))
    assert once == again
    first = augment(ROWS.slice(0, 1), CHANGES, policy, seed=3)
    assert once.slice(0, first.num_rows) == first


def test_old_rows_may_be_left_out():
    found = augment(ROWS, [CHANGES[0]], keep_original=False)
    assert found["text"].to_pylist() == ["my package is late"]


def test_a_crash_names_transform_and_row():
    @transformation_function()
    def breaks(row):
        return {**row, "text": row["text"][100]}

    with pytest.raises(LabelingFunctionError, match="transform 'breaks' crashed on row '1'"):
        augment(ROWS, [breaks])
    with pytest.raises(ConfigError, match="at least one transformation"):
        augment(ROWS, [])


def test_swapped_words_are_the_same_words():
    for seed in range(20):
        new = swap_words().change({"text": "a, b c."}, random.Random(seed))
        assert new is not None
        assert sorted(new["text"]) == sorted("a, b c.")
    assert isinstance(swap_words(), Transform)


def test_slices_are_masks_and_bad_ones_are_named():
    @slicing_function("long")
    def long_texts(row):
        return len(row["text"]) > 3

    words = slice_of(keyword("k", ["ok"], "ANY"), "says ok")
    found = apply_slices([long_texts, words], ROWS)
    assert {n: m.tolist() for n, m in found.items()} == {
        "long": [True, False],
        "says ok": [False, True],
    }

    @slicing_function()
    def broken(row):
        return row["nothing"]

    with pytest.raises(LabelingFunctionError, match="slice 'broken' crashed: KeyError"):
        apply_slices([broken], ROWS)
    with pytest.raises(ConfigError, match="two slices have the name 'long'"):
        apply_slices([long_texts, long_texts], ROWS)


def test_a_row_may_have_several_classes():
    task = Task("topics", ["SPORT", "MONEY"], multi_label=True)
    lfs = [
        keyword("goal", ["goal"], "SPORT"),
        keyword("match", ["match"], "SPORT"),
        keyword("fee", ["fee"], "MONEY"),
        keyword("weather", ["rain"], "SPORT"),
    ]
    texts = ["a goal in the match for a fee", "a fee", "rain", "goal"]
    absent = {"fee": ["SPORT"], "goal": ["MONEY"]}
    found = apply_per_class(lfs, {"text": texts}, task, absent=absent)
    assert found["SPORT"].lf_names == ("goal", "match", "fee", "weather")
    assert found["MONEY"].lf_names == ("goal", "fee")
    proba = OneModelPerClass(MajorityVote()).fit(found).predict_proba(found)
    assert proba.shape == (4, 2)
    assert proba[0, 0] > 0.5
    with pytest.raises(UnknownNameError, match="unknown class 'SPORTS'"):
        apply_per_class(lfs, {"text": texts}, task, absent={"fee": ["SPORTS"]})
    with pytest.raises(ConfigError, match="no labeling function 'fees'"):
        apply_per_class(lfs, {"text": texts}, task, absent={"fees": ["SPORT"]})
