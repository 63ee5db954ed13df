"""Where the student is sure enough: held-back rows, the table, and predictions that abstain."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pytest

from llmlabel.errors import ConfigError
from llmlabel.recipe import load_recipe, run
from llmlabel.recipe.predict import predict_file as predict_parts
from llmlabel.report import Results, build


def predict_file(*given, **options):
    return pa.concat_tables(predict_parts(*given, **options))


def with_valid(make_recipe, *, gold: bool):
    def change(data):
        data["data"]["valid"] = "valid.jsonl"
        if not gold:
            del data["data"]["gold"]

    folder = make_recipe(change)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["id"] = f"v-{row['id']}"
        row["text"] += " again"
    (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("gold", [True, False])
def test_held_back_rows_say_where_it_is_sure_enough(make_recipe, tmp_path, gold):
    folder = with_valid(make_recipe, gold=gold)
    out = run(load_recipe(folder), tmp_path / "out")
    found = Results.read(out).selective()
    assert found is not None
    (held,) = found["held"]
    assert (held["of"], held["split"]) == ("gold" if gold else "label model", "valid")
    assert len(held["right"]) == len(held["sureness"]) == 60
    assert [r["target"] for r in found["targets"]] == [0.9, 0.95, 0.97, 0.99]
    page = build(out)
    assert "Where the student is sure enough" in page
    assert ("right by the label model" in page) != gold
    labeled = predict_file(out, folder / "test.jsonl", target_accuracy=0.9)
    answered = labeled["answered"].to_pylist()
    assert [label is not None for label in labeled["label"].to_pylist()] == answered
    assert any(answered)
    none = predict_file(out, folder / "test.jsonl", target_accuracy=0.9999)
    assert none["label"].null_count == none.num_rows
    assert "answered" not in predict_file(out, folder / "test.jsonl").column_names


def test_without_held_back_rows_nothing_is_promised(make_recipe, tmp_path):
    folder = make_recipe()
    out = run(load_recipe(folder), tmp_path / "out")
    assert Results.read(out).selective() is None
    with pytest.raises(ConfigError, match="needs a run with a student and held-back rows"):
        predict_file(out, folder / "test.jsonl", target_accuracy=0.9)


def test_the_command_says_how_many_rows_are_left(make_recipe, tmp_path):
    folder = with_valid(make_recipe, gold=True)
    out = run(load_recipe(folder), tmp_path / "out")
    command = [sys.executable, "-m", "llmlabel", "predict", str(out), str(folder / "test.jsonl")]
    command += ["--target-accuracy", "0.9999", "--out", str(tmp_path / "p.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "0 rows labeled, 24 left" in done.stdout + done.stderr
    wrong = subprocess.run([*command[:-3], "97"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "target: expected a share between 0 and 1, got 97" in wrong.stderr
