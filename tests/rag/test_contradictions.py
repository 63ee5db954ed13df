"""Pairs are judged by recorded answers to the shipped prompts, and become votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmlabel.errors import DataError
from llmlabel.lf import apply
from llmlabel.llm import RecordedClient, load_prompt, write_recorded
from llmlabel.rag.contradictions import (
    VERDICTS,
    answerability_lfs,
    contradiction_candidates,
    judge_contradictions,
    verdict_lf,
)
from llmlabel.rag.curation import curate
from llmlabel.rag.flaws import flaw_task
from llmlabel.rag.related import related
from llmlabel.schema import Task

TEXTS = [
    "Returns are free for 30 days after delivery.",
    "Returns are free for 45 days after delivery.",
    "You can wash the jacket in a machine.",
    "You cannot wash the jacket in a machine.",
]
IDS = ["a", "b", "c", "d"]


def unit_vectors() -> np.ndarray:
    turned = np.radians([0, 25, 90, 100])
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def test_numbers_and_negations_make_candidates_the_most_alike_first() -> None:
    pairs = related(TEXTS, unit_vectors())
    found = contradiction_candidates(TEXTS, IDS, pairs)
    assert found["id"].to_pylist() == ["c|d", "a|b"]
    assert found["reason"][0].as_py() == "only one of them negates"
    assert contradiction_candidates(TEXTS, IDS, pairs, most=1)["id"].to_pylist() == ["c|d"]
    among = np.array([True, True, False, True])
    assert contradiction_candidates(TEXTS, IDS, pairs, among=among)["id"].to_pylist() == ["a|b"]


def test_a_verdict_becomes_a_vote_against_the_one_that_is_not_current(tmp_path: Path) -> None:
    pairs = contradiction_candidates(TEXTS, IDS, related(TEXTS, unit_vectors()))
    task = Task("contradiction", VERDICTS, text=("left_text", "right_text"))
    said = {"verdict": "contradict", "current": "right", "question": "How long?"}
    answers = {
        "a|b": {**said, "difference": "30 days or 45"},
        "c|d": {"verdict": "agree", "current": "unclear", "question": "", "difference": ""},
    }
    file = tmp_path / "answers.jsonl"
    prompt = load_prompt("contradiction")
    write_recorded(file, answers, prompt, task, pairs.to_pylist(), model="m", created=0)
    judged = judge_contradictions(pairs, RecordedClient(file))
    assert judged["verdict"].to_pylist() == ["agree", "contradict"]
    lf = verdict_lf(judged)
    assert lf({"id": IDS})[0].tolist() == [0, -1, -1, -1]
    assert lf.why is not None
    assert lf.why({"id": "a"}) == "against b: 30 days or 45"
    with pytest.raises(DataError, match="no column 'verdict'"):
        verdict_lf(pairs)


def test_no_candidates_cost_no_call(tmp_path: Path) -> None:
    nothing = contradiction_candidates([], [], related([]))
    (tmp_path / "none.jsonl").write_text("")
    judged = judge_contradictions(nothing, client=None)  # type: ignore[arg-type]
    assert judged.num_rows == 0
    assert "verdict" in judged.column_names


def test_answerability_is_a_flaw_among_others(tmp_path: Path) -> None:
    task = flaw_task()
    table = {"id": ["a", "b"], "text": ["Returns take 5 days.", "We are so very happy."]}
    yes = {"answers": "yes", "stands_alone": "yes", "question": "How long?"}
    no = {"answers": "no", "stands_alone": "no", "question": ""}
    rows = [{"id": i, "text": t} for i, t in zip(*table.values(), strict=True)]
    file = tmp_path / "answers.jsonl"
    prompt = load_prompt("answerability")
    write_recorded(file, {"a": yes, "b": no}, prompt, task, rows, model="m", created=0)
    lfs = answerability_lfs(RecordedClient(file), task)
    votes = apply(lfs, table, task)
    assert votes["answerability.answers"].tolist() == [task.index("GOOD"), 8 + 1]
    done = curate(table, lfs=lfs)
    assert "UNANSWERABLE" in done.actions["flaws"][1].as_py()
    assert "UNANSWERABLE" not in done.actions["flaws"][0].as_py()
