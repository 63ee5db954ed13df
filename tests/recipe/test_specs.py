"""Labeling functions and slices, from recipes and back to them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from llmlabel.errors import ConfigError
from llmlabel.io import write_table
from llmlabel.lf import (
    column,
    gazetteer,
    keyword,
    labeling_function,
    measure,
    nearest,
    regex,
)
from llmlabel.recipe import load_recipe, run
from llmlabel.recipe.lf_specs import LF_SPECS
from llmlabel.recipe.lfs import Builder, build_lf, to_spec
from llmlabel.report import Results, build
from llmlabel.schema import Task

TASK = Task("t", ["A", "B"])


class Lengths:
    def encode(self, texts):
        return np.array([[t.count("a") + 0.1, t.count("z")] for t in texts], np.float32)


@labeling_function(labels=["A"])
def starts(row):
    return "A" if row["text"].startswith("a") else None


@pytest.mark.parametrize(
    "lf",
    [
        keyword("k", ["a b"], "A", without=["c"], whole_words=False),
        regex("r", r"\d+", "B", case_sensitive=True),
        measure("m", "A", "matches", at_least=2, pattern="a"),
        gazetteer("g", {"A": ["x y"], "B": ["z"]}),
        column("c", "old", {"x": "A", "y": None}, strict=False),
        nearest("n", {"A": ["a"], "B": ["z"]}, Lengths(), threshold=0.9),
        starts,
    ],
    ids=lambda lf: lf.kind,
)
def test_there_and_back(lf, tmp_path):
    spec = to_spec(lf)
    again = build_lf(LF_SPECS[spec["lf"]](**spec), Builder(TASK, tmp_path, encoder=Lengths()))
    texts = ["a b", "12", "aa x-y", "z", "c a b", ""]
    data = {"text": texts, "old": list("xyxqzx"), "embedding": Lengths().encode(texts)}
    assert again.name == lf.name
    assert again.labels == lf.labels
    assert again(data)[0].tolist() == lf(data)[0].tolist()
    assert json.dumps(spec)


def test_what_a_recipe_made_goes_back_as_it_came(tmp_path):
    (tmp_path / "known.csv").write_text("id,label\n1,A\n", encoding="utf-8")
    spec = {"lf": "lookup", "name": "l", "file": "known.csv", "on": {"id": "id"}}
    made = build_lf(LF_SPECS["lookup"](**spec), Builder(TASK, tmp_path))
    assert to_spec(made) == spec


def test_vectors_of_another_column_are_not_those_of_a_recipe():
    lf = nearest("n", {"A": ["a"]}, Lengths(), column="body")
    with pytest.raises(ConfigError, match="LF 'n': a recipe cannot say"):
        to_spec(lf)


def test_what_a_recipe_cannot_say():
    @labeling_function(labels=["A"])
    def local(row):
        return None

    with pytest.raises(ConfigError, match="LF 'local': a recipe cannot say"):
        to_spec(local)


def with_lfs(*lfs, slices=()):
    def change(data):
        next(s for s in data["steps"] if s["step"] == "label")["lfs"] += list(lfs)
        next(s for s in data["steps"] if s["step"] == "evaluate")["slices"] = list(slices)

    return change


def test_knowledge_from_files_votes(make_recipe, tmp_path):
    folder = make_recipe(
        with_lfs(
            {"lf": "gazetteer", "name": "names", "names": {"HAM": ["song"]}, "file": "names.csv"},
            {"lf": "crowd", "file": "crowd.csv"},
            {"lf": "measure", "name": "long", "label": "SPAM", "of": "words", "at_least": 3},
            {"lf": "lookup", "name": "known", "file": "known.csv", "on": {"text": "what"}},
        )
    )
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / "names.csv").write_text("name,label\nsubscribe,SPAM\n")
    (folder / "crowd.csv").write_text(f"task,worker,label\n{rows[0]['id']},ann,SPAM\n")
    write_table(pa.table({"what": [rows[1]["text"]], "label": ["HAM"]}), folder / "known.csv")
    out = run(load_recipe(folder), tmp_path / "out", until="aggregate")
    votes = Results.read(out).votes("train")
    assert votes["ann"].tolist()[0] == votes.classes.index("SPAM")
    assert (votes["ann"] >= 0).sum() == 1
    same = [r["text"] == rows[1]["text"] for r in rows]
    assert ((votes["known"] >= 0) == same).all()
    assert (votes["long"] >= 0).any()


def test_a_workers_class_that_is_none_names_the_worker(make_recipe):
    folder = make_recipe(with_lfs({"lf": "crowd", "file": "crowd.csv"}))
    (folder / "crowd.csv").write_text("task,worker,label\na1,ann,SPAMM\n")
    with pytest.raises(ConfigError, match="recipe.yaml:.* worker 'ann': unknown class 'SPAMM'"):
        run(load_recipe(folder), folder / "out")


def test_slices_are_measured_and_shown(make_recipe, tmp_path):
    slices = [{"name": "songs", "words": ["song"]}, {"name": "none", "words": ["qqq"]}]
    out = run(load_recipe(make_recipe(with_lfs(slices=slices))), tmp_path / "out")
    found = Results.read(out).slices("test")
    assert {r["slice"] for r in found} == {"songs"}
    assert {"label_model", "majority_vote"} <= {r["key"] for r in found}
    assert 0 < found[0]["n"] < 24
    assert "Slices of test" in build(out)


def test_a_slice_says_one_thing(make_recipe):
    both = [{"name": "s", "words": ["a"], "pattern": "b"}]
    with pytest.raises(ConfigError, match="a slice has words, a pattern, equals or of"):
        load_recipe(make_recipe(with_lfs(slices=both)))


def test_a_threshold_may_be_found_in_the_training_rows(make_recipe, tmp_path):
    texts = {"SPAM": ["subscribe to my channel"], "HAM": ["what a song"]}
    near = {"lf": "nearest", "name": "near", "prototypes": texts, "threshold": "auto", "margin": 0}
    out = run(load_recipe(make_recipe(with_lfs(near))), tmp_path / "out", until="aggregate")
    votes = Results.read(out).votes("train")["near"]
    assert 0 < (votes >= 0).mean() < 1
