"""The steps distill and evaluate: gold rows, a fine-tuned student, what the report says of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from llmlabel.distill import EncoderStudent, LinearStudent, load_student
from llmlabel.errors import DataError
from llmlabel.io.runs import CHECKPOINTS
from llmlabel.recipe import load_recipe, run
from llmlabel.report import Results, build

from ..distill.tiny_encoder import CLASSES, WORDS, make, tiny


def write(folder: Path, distill: dict[str, object]) -> Path:
    """A recipe of three keyword LFs on made-up messages."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for seed, (split, n) in enumerate((("train", 240), ("valid", 60), ("test", 80))):
        texts, gold = make(n, seed)
        with (folder / "data" / f"{split}.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["id", "text", "label"])
            writer.writerows(
                (f"{split}{i}", t, CLASSES[g])
                for i, (t, g) in enumerate(zip(texts, gold, strict=True))
            )
    recipe = {
        "name": "made-up",
        "seed": 0,
        "task": {"name": "need", "text": "text", "classes": {c: c.lower() for c in CLASSES}},
        "data": {
            **{s: f"data/{s}.csv" for s in ("train", "valid", "test")},
            "id": "id",
            "gold": "label",
        },
        "steps": [
            {
                "step": "label",
                "lfs": [
                    {"lf": "keyword", "name": c.lower(), "label": c, "words": words[:4]}
                    for c, words in zip(CLASSES, WORDS, strict=True)
                ],
            },
            {"step": "aggregate"},
            {"step": "distill", **distill},
            {"step": "evaluate"},
            {"step": "report"},
        ],
    }
    with (folder / "recipe.yaml").open("w") as handle:
        YAML().dump(recipe, handle)
    return folder


def known(folder: Path, n: int) -> str:
    with (folder / "data" / "train.csv").open() as handle:
        rows = list(csv.DictReader(handle))[:n]
    with (folder / "known.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["id", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return "known.csv"


def test_gold_rows_teach_and_have_a_row_of_their_own(tmp_path):
    folder = write(tmp_path / "r", {"gold": "known.csv"})
    known(folder, 60)
    run(load_recipe(folder), tmp_path / "run")
    results = Results.read(tmp_path / "run")
    facts = results.facts("distill")
    assert facts["gold_rows"] == 60
    assert facts["temperature"] > 0
    names = [r["name"] for r in results.evaluation["test"]]
    assert "student on the known rows alone" in names
    assert "student on gold" in names
    again = run(load_recipe(folder), tmp_path / "run")
    assert again is not None
    known(folder, 80)  # another file: distilled anew
    run(load_recipe(folder), tmp_path / "run")
    assert Results.read(tmp_path / "run").facts("distill")["gold_rows"] == 80


def test_gold_of_other_rows_is_an_error(tmp_path):
    folder = write(tmp_path / "r", {"gold": "known.csv"})
    (folder / "known.csv").write_text("id,label\nelsewhere,RETURN\n")
    with pytest.raises(DataError, match="none of its ids is one of a training row"):
        run(load_recipe(folder), tmp_path / "run")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    pytest.importorskip("peft", reason="peft is not installed")
    tiny(tmp_path / "r" / "encoder")
    training = {"model": "encoder", "epochs": 8, "learning_rate": 0.005, "max_length": 32}
    return write(tmp_path / "r", {"student": "encoder", "training": training})


def test_a_fine_tuned_student_is_compared_with_the_linear_one(tuned, tmp_path):
    run(load_recipe(tuned), tmp_path / "run")
    results = Results.read(tmp_path / "run")
    contest = results.facts("distill")["contest"]
    assert contest["rows"] >= 15
    won = contest["linear"] - contest["encoder"] > contest["standard_error"]
    better = "encoder" if won else "linear"
    assert contest["taken"] == better
    assert results.student is not None
    student = load_student(results.student)
    assert isinstance(student, EncoderStudent if better == "encoder" else LinearStudent)
    assert not (results.student.parent / CHECKPOINTS).exists()
    page = build(tmp_path / "run")
    assert f"the {better} student was taken" in page


def test_a_student_that_learned_nothing_loses_to_the_linear_one(tuned, tmp_path):
    recipe = YAML().load((tuned / "recipe.yaml").read_text())
    distill = next(s for s in recipe["steps"] if s["step"] == "distill")
    distill["training"].update(epochs=1, learning_rate=1e-7, rounds=0, pooling="model")
    with (tuned / "recipe.yaml").open("w") as handle:
        YAML().dump(recipe, handle)
    run(load_recipe(tuned), tmp_path / "run")
    facts = Results.read(tmp_path / "run").facts("distill")
    assert facts["contest"]["taken"] == "linear"
    assert facts["kind"] == "linear"


def test_teacher_and_student_side_by_side(tmp_path):
    folder = write(tmp_path / "r", {})
    run(load_recipe(folder), tmp_path / "run")
    results = Results.read(tmp_path / "run")
    table = results.comparison()
    assert table is not None
    rows = {r["key"]: r for r in table["rows"]}
    student, teacher = rows["student"], rows["label_model"]
    assert 0 <= teacher["p_against_student"] <= 1
    said = results.labels("test", of="predictions").probabilities.argmax(1)
    labels = results.labels("test")
    same = (said == labels.probabilities.argmax(1))[labels.covered].mean()
    assert student["agrees"] == pytest.approx(same)
    assert student["ms_1"] < student["ms_32"]
    assert student["texts_per_s"] > 10
    assert student["megabytes"] > 0
    assert student["temperature"] > 0
    assert student["ece_after"] <= student["ece"] + 0.02
    page = build(tmp_path / "run")
    assert "Teacher and student" in page
    assert "share of rows answered" in page
    assert np.isfinite(json.loads(json.dumps(table))["rows"][0]["n"])


def test_tensorboard_gets_the_curves_and_the_table_of_functions(tuned, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    recipe = YAML().load((tuned / "recipe.yaml").read_text())
    distill = next(s for s in recipe["steps"] if s["step"] == "distill")
    distill["training"].update(epochs=2, rounds=0, report_to="tensorboard")
    with (tuned / "recipe.yaml").open("w") as handle:
        YAML().dump(recipe, handle)
    run(load_recipe(tuned), tmp_path / "run", until="distill")
    files = sorted((tmp_path / "run" / "tensorboard").rglob("events.*"))
    assert files
    texts, scalars = "", set()
    for file in files:
        events = EventAccumulator(str(file)).Reload()
        scalars |= set(events.Tags()["scalars"])
        for tag in events.Tags()["tensors"]:
            if tag.startswith("labeling_functions"):
                texts += events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
    assert "train/loss" in scalars
    assert "| billing |" in texts
