"""What a run's labeling functions do, what each is worth, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmlabel.analysis import Effects, Suggestion, Summary, effects, next_steps
from llmlabel.llm import table_texts
from llmlabel.recipe.steps.aggregate import make_model
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN

__all__ = ["Analysis", "analyze_run"]


@dataclass(frozen=True, eq=False)
class Analysis:
    """The table of a split's labeling functions, and what follows from it."""

    split: str
    summary: Summary
    effects: Effects | None
    suggestions: list[Suggestion]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per LF: the summary's columns, and what dropping it changes."""
        rows: list[dict[str, Any]] = self.summary.to_table().to_pylist()
        if self.effects is None:
            return rows
        columns: dict[str, Any] = {"Alone": self.effects.alone, "Relabeled": self.effects.relabeled}
        if self.effects.label_model is not None:
            columns["Model Effect"] = self.effects.label_model
        if self.effects.student is not None:
            columns["Student Effect"] = self.effects.student
        return [
            {**row, **{name: float(values[j]) for name, values in columns.items()}}
            for j, row in enumerate(rows)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        out: dict[str, Any] = {"split": self.split, "lfs": self.rows()}
        if self.effects is not None:
            out["label_model_accuracy"] = self.effects.label_model_accuracy
            out["student_accuracy"] = self.effects.student_accuracy
        return {**out, "next": [s.as_dict() for s in self.suggestions]}


def analyze_run(results: Results, split: str = "train", *, with_effects: bool = True) -> Analysis:
    """Analyze the labeling functions of a run on one split.

    Parameters
    ----------
    results
        A run that has votes.
    split
        Whose rows.
    with_effects
        Whether label model and quick student are learned again without each LF.

    Raises
    ------
    UnknownNameError
        No such split.
    """
    found = results.lf_summary(split)
    votes, gold = results.votes(split), results.gold(split)
    vectors = None
    if "embed" in results.steps:
        vectors = np.load(results.path("embed", f"vectors.{split}.npy"), mmap_mode="r")
    effect = None
    if with_effects and votes.shape[1] > 1 and votes.covered().any():
        known = gold if gold is not None and (gold != ABSTAIN).any() else None
        name = results.facts("aggregate")["model"]
        effect = effects(votes, known, vectors, make_model=lambda: make_model(name, {}))
    texts = table_texts(results.rows(split), list(results.recipe["task"]["text"]))
    prompted = [lf["name"] for lf in results.lf_kinds() if lf["prompt"] is not None]
    suggestions = next_steps(
        votes, found, texts=texts, vectors=vectors, effect=effect, prompted=prompted
    )
    return Analysis(split, found, effect, suggestions)
