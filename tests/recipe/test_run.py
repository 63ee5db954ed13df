"""A recipe from rows to report, run for real in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from llmlabel.errors import ConfigError, DataError, LabelingFunctionError, UnknownNameError
from llmlabel.io.runs import RunFolder
from llmlabel.recipe import load_recipe, plan, run
from llmlabel.recipe.predict import predict_file as predict_parts
from llmlabel.recipe.steps import Observer
from llmlabel.report import Results


def predict_file(*given, **options):
    return pa.concat_tables(predict_parts(*given, **options))


class Watch(Observer):
    """An observer that remembers which steps ran and which were kept."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.kept: list[str] = []

    def progressed(self, step, done, total):
        assert 0 <= done <= total

    def finished(self, step, facts, seconds, *, reused):
        (self.kept if reused else self.ran).append(step)


ALL = ["load", "embed", "label", "aggregate", "distill", "evaluate", "report"]


def lfs(data):
    return next(s for s in data["steps"] if s["step"] == "label")["lfs"]


def run_watched(folder: Path, out: Path) -> Watch:
    watch = Watch()
    run(load_recipe(folder), out, observer=watch)
    return watch


def test_from_rows_to_report(make_recipe, tmp_path):
    out = run(load_recipe(make_recipe()), tmp_path / "out")
    results = Results.read(out)
    rows = {r["key"]: r for r in results.evaluation["test"]}
    assert rows["student"]["accuracy"]["value"] > 0.9
    assert rows["label_model"]["n"] == 24
    assert {"majority_vote", "student_gold"} <= set(rows)
    assert "Who labels how well" in (out / "report.html").read_text()
    assert results.votes("train").lf_names == ("ask", "song", "free")
    assert not list(out.rglob("*.pkl"))


def test_finished_steps_are_kept_and_a_change_reruns_what_it_touches(make_recipe, tmp_path):
    out = tmp_path / "out"
    assert run_watched(make_recipe(), out).ran == ALL
    assert run_watched(make_recipe(), out).kept == ALL
    changed = run_watched(make_recipe(lambda d: lfs(d)[0]["words"].append("click")), out)
    assert changed.kept == ["load", "embed"]
    assert changed.ran == ALL[2:]
    assert run_watched(make_recipe(), out).kept == ALL  # the old results are still there
    late = run_watched(make_recipe(lambda d: d["steps"][4].update(contested=1)), out)
    assert late.ran == ["evaluate", "report"]


def test_changed_data_reruns_everything(make_recipe, tmp_path):
    out = tmp_path / "out"
    folder = make_recipe()
    run_watched(folder, out)
    with (folder / "train.jsonl").open("a") as handle:
        handle.write(json.dumps({"id": "new", "text": "one more song", "label": "HAM"}) + "\n")
    assert run_watched(folder, out).ran == ALL


def test_plan_says_what_would_run_and_writes_nothing(make_recipe, tmp_path):
    out = tmp_path / "out"
    recipe = load_recipe(make_recipe())
    assert [s.done for s in plan(recipe, out)] == [False] * 7
    assert not out.exists()
    run(recipe, out, until="label")
    assert [s.name for s in plan(recipe, out) if s.done] == ["load", "embed", "label"]


def test_gold_is_seen_by_the_evaluation_alone(make_recipe, tmp_path):
    """The same rows without gold give the same votes, labels and student."""
    with_gold = run(load_recipe(make_recipe()), tmp_path / "a")
    without = run(load_recipe(make_recipe(lambda d: d["data"].pop("gold"))), tmp_path / "b")
    a, b = Results.read(with_gold), Results.read(without)
    assert a.labels("train").to_table() == b.labels("train").to_table()
    assert (
        a.labels("test", of="predictions").to_table()
        == b.labels("test", of="predictions").to_table()
    )
    assert b.evaluation == {}
    assert "No gold labels" in (without / "report.html").read_text()


def test_python_functions_are_labeling_functions_and_their_file_counts(make_recipe, tmp_path):
    folder = make_recipe(lambda d: lfs(d).append({"lf": "python", "function": "mine.py:long_text"}))
    code = (
        "from llmlabel import labeling_function\n\n"
        "@labeling_function(labels=['HAM'])\n"
        "def long_text(row):\n    return 'HAM' if len(row['text']) > LIMIT else None\n\nLIMIT = 25\n"
    )
    (folder / "mine.py").write_text(code)
    out = tmp_path / "out"
    run_watched(folder, out)
    assert Results.read(out).votes("train").coverage()[-1] > 0
    (folder / "mine.py").write_text(code.replace("25", "1000"))
    assert run_watched(folder, out).ran == ALL[2:]
    assert Results.read(out).votes("train").coverage()[-1] == 0


def test_predict_labels_a_file(make_recipe, tmp_path):
    out = run(load_recipe(make_recipe()), tmp_path / "out")
    (tmp_path / "new.csv").write_text('text,label\n"please subscribe to my page",old\n')
    row = predict_file(out, tmp_path / "new.csv").to_pylist()[0]
    assert row["label"] == "SPAM"
    assert row["given.label"] == "old"
    assert row["p.HAM"] + row["p.SPAM"] == pytest.approx(1)
    (tmp_path / "bad.csv").write_text("txt\nx\n")
    with pytest.raises(DataError, match="column 'text': is missing, did you mean 'txt'"):
        predict_file(out, tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a0-HAM-0", "text": "x", "label": "HAM"}, "row 'a0-HAM-0'.*ids must differ"),
        ({"id": "z", "text": " ", "label": "HAM"}, "row 'z', column 'text': the text is empty"),
        ({"id": "z", "text": "x", "label": "HMA"}, "row 'z', column 'label': 'HMA' is no class of the task, did you mean 'HAM'"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(make_recipe, tmp_path, row, message):
    folder = make_recipe()
    with (folder / "train.jsonl").open("a") as handle:
        handle.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        run(load_recipe(folder), tmp_path / "out")


def test_an_id_in_two_splits_is_an_error(make_recipe, tmp_path):
    folder = make_recipe()
    (folder / "test.jsonl").write_text((folder / "train.jsonl").read_text())
    with pytest.raises(DataError, match="stands in the splits 'train' and 'test'"):
        run(load_recipe(folder), tmp_path / "out")


def test_a_column_with_an_unknown_class_is_an_error(make_recipe, tmp_path):
    folder = make_recipe(lambda d: lfs(d).append({"lf": "column", "name": "old", "column": "id"}))
    with pytest.raises(
        LabelingFunctionError, match="LF 'old': unknown value 'a0-SPAM-0' on row 'a0-SPAM-0'"
    ):
        run(load_recipe(folder), tmp_path / "out")


SLOW = (
    "import time\nfrom llmlabel import labeling_function\n\n"
    "@labeling_function(labels=['HAM'])\n"
    "def slow(row):\n    time.sleep(SECONDS)\n    return None\n\nSECONDS = 0.05\n"
)


def test_kill_9_in_the_middle_and_on_again(make_recipe, tmp_path):
    """What was finished is kept, what was not leaves no trace in the result."""
    folder = make_recipe(lambda d: lfs(d).append({"lf": "python", "function": "slow.py:slow"}))
    (folder / "slow.py").write_text(SLOW)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "llmlabel", "run", str(folder), "--out", str(out)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("steps/label-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    unfinished = list(out.glob("steps/label-*"))
    assert len(unfinished) == 1
    assert not (unfinished[0] / "manifest.json").exists()
    (unfinished[0] / "votes.train.npz").write_bytes(b"half a file")
    watch = run_watched(folder, out)
    assert watch.kept == ["load", "embed"]
    assert watch.ran == ALL[2:]
    clean = run(load_recipe(folder), tmp_path / "clean")
    a, b = Results.read(out), Results.read(clean)
    assert a.votes("train") == b.votes("train")
    assert (
        a.labels("test", of="predictions").to_table()
        == b.labels("test", of="predictions").to_table()
    )


def test_looking_at_a_part_of_a_finished_run_loses_nothing(make_recipe, tmp_path):
    recipe, out = load_recipe(make_recipe()), tmp_path / "out"
    run(recipe, out)
    run(recipe, out, until="aggregate")
    assert Results.read(out).student is not None


def test_until_names_a_step_or_says_which_there_are(make_recipe, tmp_path):
    recipe = load_recipe(make_recipe())
    with pytest.raises(UnknownNameError, match="unknown step 'lable', did you mean 'label'"):
        run(recipe, tmp_path / "out", until="lable")
    assert not (tmp_path / "out").exists()


def test_one_run_at_a_time_in_a_folder(make_recipe, tmp_path):
    recipe, out = load_recipe(make_recipe()), tmp_path / "out"
    with (
        RunFolder(out).locked(),
        pytest.raises(ConfigError, match="another run is at work in this folder"),
    ):
        run(recipe, out)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, expected a run folder"):
        run(recipe, tmp_path / "file")


def test_a_column_that_is_missing_is_said_before_any_llm_is_asked(make_recipe, tmp_path):
    def change(data):
        lfs(data)[0]["column"] = "txt"
        ask = {
            "step": "ask", "prompt": "classify",
            "client": {"use": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"},
        }  # fmt: skip
        data["steps"].insert(1, ask)

    with pytest.raises(
        DataError, match="LF 'ask' reads the column 'txt', which is missing, did you mean 'text'"
    ):
        run(load_recipe(make_recipe(change)), tmp_path / "out")


def test_several_text_columns_are_one_text(make_recipe, tmp_path):
    """Also where the data has another column that is called text."""

    def change(data):
        data["task"]["text"] = ["title", "body"]
        data["data"]["test"] = None

    folder = make_recipe(change)
    rows = [
        {"id": "1", "title": "please", "body": "subscribe", "text": "a song", "label": "SPAM"},
        {"id": "2", "title": "what a", "body": "song", "text": "subscribe", "label": "HAM"},
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = run(load_recipe(folder), tmp_path / "out", until="label")
    assert Results.read(out).votes("train").votes.tolist() == [[1, -1, -1], [-1, 0, -1]]


def test_a_misspelt_gold_column_is_said(make_recipe, tmp_path):
    def change(data):
        data["data"].update(gold="lable", test=None)

    with pytest.raises(
        DataError, match="column 'lable': the gold column is missing, did you mean 'label'"
    ):
        run(load_recipe(make_recipe(change)), tmp_path / "out")


def test_after_a_change_only_the_changed_lf_votes_again(make_recipe, tmp_path):
    folder = make_recipe()
    out = run(load_recipe(folder), tmp_path / "out", until="aggregate")
    before = Results.read(out)
    assert before.facts("label")["voted_again"] == before.facts("label")["lfs"]

    def change(data):
        lfs = next(s for s in data["steps"] if s["step"] == "label")["lfs"]
        lfs[0] = {"lf": "measure", "name": "ask", "label": "SPAM", "of": "words", "at_least": 1}

    changed = load_recipe(make_recipe(change))
    run(changed, out, until="aggregate")
    after = Results.read(out)
    assert after.facts("label")["voted_again"] == 1
    assert (after.votes("train")["ask"] == 1).all()
    fresh = Results.read(run(changed, tmp_path / "fresh", until="aggregate"))
    assert all(after.votes(split) == fresh.votes(split) for split in fresh.splits)
