"""The command line as a user meets it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmlabel.recipe import load_recipe, run


def llmlabel(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmlabel", *map(str, arguments)]
    environment = {**os.environ, "OPENAI_API_KEY": "sk-very-secret"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


@pytest.fixture
def finished(make_recipe, tmp_path) -> tuple[Path, Path]:
    folder = make_recipe()
    return folder, run(load_recipe(folder), tmp_path / "out")


def test_help_names_every_command_and_loads_nothing_heavy():
    shown = llmlabel("--help")
    assert shown.returncode == 0
    for command in ("run", "plan", "analyze", "report", "predict", "init", "schema", "env"):
        assert command in shown.stdout
    code = "import sys; from llmlabel.cli.app import app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names = set(loaded.stdout.split())
    assert not names & {"torch", "transformers", "openai", "sklearn", "pyarrow", "numpy", "ray"}


@pytest.mark.parametrize("command", ["run", "plan", "analyze", "report", "predict", "init", "env"])
def test_each_command_has_help_with_an_example(command):
    shown = llmlabel(command, "--help")
    assert shown.returncode == 0
    assert f"Example: llmlabel {command}" in re.sub(r"\s+", " ", shown.stdout)


def test_run_prints_results_and_a_second_run_keeps_everything(make_recipe, tmp_path):
    folder, out = make_recipe(), tmp_path / "out"
    first = llmlabel("run", folder, "--out", out)
    assert first.returncode == 0, first.stderr
    assert "student on label model" in first.stdout
    assert f"report: {out}/report.html" in first.stderr
    second = llmlabel("run", folder, "--out", out, "--json")
    assert json.loads(second.stdout)["evaluation"]["test"]
    assert second.stderr.count("kept") == 7


def test_plan_and_dry_run_agree_and_do_nothing(make_recipe, tmp_path):
    folder, out = make_recipe(), tmp_path / "out"
    planned = llmlabel("plan", folder, "--out", out, "--json")
    assert llmlabel("run", folder, "--out", out, "--dry-run", "--json").stdout == planned.stdout
    assert [s["done"] for s in json.loads(planned.stdout)["steps"]] == [False] * 7
    assert not out.exists()
    assert "will run" in llmlabel("plan", folder, "--out", out).stdout


def test_plan_counts_llm_calls(tmp_path):
    planned = llmlabel("plan", "support-tickets", "--json", cwd=tmp_path)
    steps = json.loads(planned.stdout)["steps"]
    ask = next(s for s in steps if s["step"] == "ask-support-tickets")
    assert ask["free"] == "recorded"
    assert ask["cost"]["total"] == 778


def test_analyze_runs_what_is_missing_and_shows_each_lf(make_recipe, tmp_path):
    folder, out = make_recipe(), tmp_path / "out"
    shown = llmlabel("analyze", folder, "--out", out)
    assert shown.returncode == 0, shown.stderr
    for word in (
        "ask",
        "song",
        "free",
        "covers",
        "conflicts",
        "learned",
        "label model is right on",
    ):
        assert word in shown.stdout
    found = json.loads(llmlabel("analyze", out, "--split", "test", "--json").stdout)
    assert [r["name"] for r in found["lfs"]] == ["ask", "song", "free"]
    assert {"Coverage", "Emp. Acc.", "Learned Acc.", "Model Effect"} <= set(found["lfs"][0])
    assert isinstance(found["next"], list)
    short = json.loads(llmlabel("analyze", out, "--no-effects", "--json").stdout)
    assert "Model Effect" not in short["lfs"][0]
    wrong = llmlabel("analyze", out, "--split", "tset")
    assert wrong.returncode == 1
    assert "unknown split 'tset', did you mean 'test'" in wrong.stderr


def test_predict_to_stdout_and_to_a_file(finished, tmp_path):
    _, out = finished
    (tmp_path / "new.jsonl").write_text(
        '{"text": "subscribe to my channel"}\n{"text": "lovely song"}\n'
    )
    shown = llmlabel("predict", out, tmp_path / "new.jsonl")
    assert [json.loads(line)["label"] for line in shown.stdout.splitlines()] == ["SPAM", "HAM"]
    llmlabel("predict", out, tmp_path / "new.jsonl", "--out", tmp_path / "labeled.csv")
    assert (
        (tmp_path / "labeled.csv")
        .read_text()
        .splitlines()[0]
        .startswith('"text","label","confidence"')
    )


def test_report_is_written_again(finished, tmp_path):
    _, out = finished
    shown = llmlabel("report", out, "--out", tmp_path / "r.html")
    assert shown.stdout.strip() == str(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == (out / "report.html").read_text()


def test_init_gives_a_recipe_of_ones_own(tmp_path):
    """Its own name, so its own run folder; its own prompt, to be edited."""
    llmlabel("init", "support-tickets", tmp_path / "my-task")
    recipe = load_recipe(tmp_path / "my-task")
    assert recipe.name == "my-task"
    assert (tmp_path / "my-task" / "support-tickets.md").is_file()
    assert "prompt: support-tickets.md" in (tmp_path / "my-task" / "recipe.yaml").read_text()


def test_init_copies_a_recipe_that_plans(tmp_path):
    shown = llmlabel("init", "support-tickets", tmp_path / "mine")
    assert shown.returncode == 0, shown.stderr
    assert llmlabel("plan", tmp_path / "mine").returncode == 0
    again = llmlabel("init", "support-tickets", tmp_path / "mine")
    assert again.returncode == 1
    assert "exists and is not empty" in again.stderr
    assert (
        "did you mean the shipped recipe"
        in llmlabel("init", "suport-tickets", tmp_path / "x").stderr
    )


def test_env_tells_versions_and_no_secret():
    shown = llmlabel("env", "--json")
    assert json.loads(shown.stdout)["packages"]["llmlabel"]
    assert json.loads(shown.stdout)["openai_api_key"] == "set"
    assert "sk-very-secret" not in shown.stdout + llmlabel("env").stdout


def test_schema_is_printed():
    assert json.loads(llmlabel("schema").stdout)["$schema"].endswith("draft-07/schema#")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "no-such-recipe"), 1, "error: no-such-recipe: no such recipe file or folder"),
        (("run",), 2, "Missing argument"),
        (("rnu", "x"), 2, "No such command"),
        (("report", "/nowhere"), 1, "error: /nowhere: not a run folder (it has no run.json)"),
        (("predict", "/nowhere", "x.csv"), 1, "error: /nowhere: no such student or run folder"),
    ],
)
def test_errors_are_one_line_with_the_right_code(arguments, code, message):
    shown = llmlabel(*arguments)
    assert shown.returncode == code
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_debug_shows_the_traceback():
    assert "Traceback" in llmlabel("run", "no-such-recipe", "--debug").stderr


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.jsonl", b"", "train.jsonl: is empty; expected at least one row"),
        ("train.jsonl", b'{"id": "1", "txt": "x", "label": "HAM"}\n', "column 'text': is missing, did you mean 'txt'"),
        ("train.jsonl", b'{"id": "1", "text": "\xff", "label": "HAM"}\n', "train.jsonl:1: not UTF-8"),
        ("train.jsonl", b'{"id": "1", "text": "a"}\n{"id": "1", "text": "b"}\n', "row '1', column 'id': 1 ids are used more than once"),
        ("train.jsonl", b'{"id": "1", "text": ""}\n', "row '1', column 'text': the text is empty"),
        ("train.jsonl", b"{", "train.jsonl:1: not JSON"),
    ],
)  # fmt: skip
def test_bad_data_is_one_line(make_recipe, tmp_path, file, content, message):
    folder = make_recipe()
    (folder / file).write_bytes(content)
    shown = llmlabel("run", folder, "--out", tmp_path / "out")
    assert shown.returncode == 1
    errors = [line for line in shown.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
