"""The step aggregate: gold rows, texts, groups of one call, and what a model does not take."""

from __future__ import annotations

import json

import pytest

from llmlabel.errors import ConfigError, DataError
from llmlabel.recipe import check, explain_row, load_recipe, run
from llmlabel.report import Results


def aggregating(**changes):
    def change(data):
        step = next(s for s in data["steps"] if s["step"] == "aggregate")
        step.clear()
        step.update(step="aggregate", **changes)

    return change


def labels_of(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def known(folder, count, field="label"):
    rows = labels_of(folder)[:count]
    lines = [f"{r['id']},{r[field]}" for r in rows]
    (folder / "known.csv").write_text("id,label\n" + "\n".join(lines) + "\n")


def test_two_rate_is_the_default_and_says_what_it_believes(make_recipe, tmp_path):
    out = run(load_recipe(make_recipe(aggregating())), tmp_path / "out", until="aggregate")
    facts = Results.read(out).facts("aggregate")
    assert facts["model"] == "two_rate"
    value, low, high = facts["estimated_accuracy"]
    assert 0 <= low <= value <= high <= 1


def test_gold_rows_count(make_recipe, tmp_path):
    folder = make_recipe(aggregating(gold="known.csv"))
    known(folder, 20)
    out = run(load_recipe(folder), tmp_path / "out", until="aggregate")
    assert Results.read(out).facts("aggregate")["gold_rows"] == 20
    plain = run(load_recipe(make_recipe(aggregating())), tmp_path / "plain", until="aggregate")
    with_gold, without = (Results.read(o).labels("train").probabilities for o in (out, plain))
    assert not (with_gold == without).all()


@pytest.mark.parametrize("features", ["tfidf", "embeddings"])
def test_explanations_add_up_with_texts(make_recipe, tmp_path, features):
    recipe = load_recipe(make_recipe(aggregating(features=features)))
    out = run(recipe, tmp_path / "out", until="aggregate")
    assert Results.read(out).facts("aggregate")["features"] == features
    row = labels_of(recipe.folder)[0]["id"]
    found = explain_row(out, row)
    if found["label"] is not None:
        weights = sum(v["weight"] for v in found["votes"])
        total = found["prior"] + found["silence"] + weights
        assert found["log_odds"] == pytest.approx(total)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "dawid_skene", "gold": "known.csv"},
            "'dawid_skene' takes no gold; two_rate does",
        ),
        ({"model": "majority_vote", "features": "tfidf"}, "'majority_vote' takes no features"),
        ({"features": "embeddings"}, "needs a step 'embed' before it"),
    ],
)
def test_what_a_model_does_not_take_is_said(make_recipe, changes, message):
    def change(data):
        aggregating(**changes)(data)
        del data["steps"][0]  # embed

    folder = make_recipe(change)
    known(folder, 3)
    with pytest.raises(ConfigError, match=message):
        check(load_recipe(folder))  # before anything is paid for


def test_gold_of_other_rows_is_an_error(make_recipe, tmp_path):
    folder = make_recipe(aggregating(gold="known.csv"))
    (folder / "known.csv").write_text("id,label\nnobody,SPAM\n")
    with pytest.raises(DataError, match="none of its ids is one of a training row"):
        run(load_recipe(folder), tmp_path / "out", until="aggregate")
