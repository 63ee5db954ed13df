"""Recipes over the data of ../shared: filled, run, and their figures read back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.shared import ROOT, SHARED, record_answers, split_rows, write_splits
from llmlabel.io.runs import read_json
from llmlabel.recipe import Recipe, load_recipe, run
from llmlabel.report import Results

FIGURES: Mapping[str, str] = {
    "llm_alone": "llm_alone",
    "majority_vote": "heuristics_majority_vote",
    "label_model": "label_model",
    "student": "student",
    "student_gold": "student_gold",
}


def youtube_recipe(folder: Path) -> Recipe:
    """Copy the YouTube recipe to a folder and fill in its data from ../shared."""
    shutil.copytree(ROOT / "benchmarks" / "youtube_spam", folder, dirs_exist_ok=True)
    columns = read_json(SHARED / "youtube" / "meta.json")["lfs"]
    rows = split_rows("youtube")
    recipe = load_recipe(folder)
    record_answers(
        "youtube",
        folder / "youtube-spam.md",
        recipe.task,
        rows,
        folder / "data" / "answers.jsonl",
    )
    names = (*recipe.task.names, None)  # the last for -1, an abstain
    flat = {
        split: [
            {
                "id": r["id"],
                "text": r["text"],
                "label": r["label"],
                **{c: names[v] for c, v in zip(columns, r["votes"], strict=True)},
            }
            for r in content
        ]
        for split, content in rows.items()
    }
    write_splits(flat, folder / "data")
    return recipe


def figures(recipe: Recipe, out: Path) -> tuple[dict[str, float], list[Mapping[str, Any]]]:
    """Run a recipe; return its named test accuracies in percent, and all measured rows."""
    results = Results.read(run(recipe, out))
    measured = list(results.evaluation["test"])
    by_key = {r["key"]: r for r in measured}
    named = {
        name: round(100 * by_key[key]["accuracy"]["value"], 2)
        for name, key in FIGURES.items()
        if key in by_key
    }
    return named, measured
