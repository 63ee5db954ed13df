"""A run folder read back: what each step made, in the form that tables and pages need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.analysis import Summary, summary
from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.io import read_table
from llmlabel.io.runs import RunFolder, StepFolder, read_json
from llmlabel.labelmodel import LabelSet
from llmlabel.votes import VoteMatrix

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """What a run has made so far.

    Parameters
    ----------
    folder
        The run folder.
    recipe
        Name, description and task of the recipe, as ``run.json`` holds them.
    steps
        The current folder of each step, by name.
    """

    folder: Path
    recipe: Mapping[str, Any]
    steps: Mapping[str, StepFolder]

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """Read a run folder; `ConfigError` where it is none."""
        recipe, steps = RunFolder.read(folder)
        return cls(Path(folder), recipe, {n: s for n, s in steps.items() if s.done})

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in vote order."""
        return tuple(self.recipe["task"]["classes"])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that were read."""
        return tuple(self.facts("load").get("rows", {}))

    @property
    def student(self) -> Path | None:
        """The trained student's folder, where there is one."""
        found = self.steps.get("distill")
        return found.path / "student" if found else None

    def facts(self, step: str) -> Mapping[str, Any]:
        """Return what a step said of itself; empty where it has not run."""
        return self.steps[step].facts if step in self.steps else {}

    def path(self, step: str, file: str) -> Path:
        """Return a file of a step that has run."""
        if step not in self.steps:
            raise ConfigError(f"{self.folder}: the step {step!r} has not run")
        return self.steps[step].path / file

    def rows(self, split: str) -> pa.Table:
        """Return a split's rows, without gold."""
        if split not in self.splits:
            raise UnknownNameError("split", split, self.splits, where=str(self.folder))
        return read_table(self.path("load", f"rows.{split}.parquet"))

    def gold(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return a split's gold classes, shape (n,), -1 where a row has none; None without any."""
        file = self.path("load", f"gold.{split}.parquet")
        if not file.is_file():
            return None
        table = read_table(file)
        known = dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
        index = {name: i for i, name in enumerate(self.classes)} | {None: -1}
        ids = self.rows(split)["id"].to_pylist()
        return np.array([index[known.get(i)] for i in ids], np.int64)

    def votes(self, split: str) -> VoteMatrix:
        """Return a split's votes."""
        return VoteMatrix.load(self.path("label", f"votes.{split}.npz"))

    def labels(self, split: str, *, of: str = "labels") -> LabelSet:
        """Return a split's label set.

        ``of`` is labels or majority; of the student predictions, or held_out: what it says of
        training rows that it has not met.
        """
        step = "distill" if of in ("predictions", "held_out") else "aggregate"
        return LabelSet.from_table(read_table(self.path(step, f"{of}.{split}.parquet")))

    def lf_kinds(self) -> list[Mapping[str, Any]]:
        """Return name, kind and labels of each labeling function."""
        found: list[Mapping[str, Any]] = read_json(self.path("label", "lfs.json"))
        return found

    def asked(self, split: str, prompt: str | None = None) -> npt.NDArray[np.bool_]:
        """Return which rows of a split a prompt (by default, any) was asked about."""
        ids: set[str] = set()
        for name, step in self.steps.items():
            if name == f"ask-{prompt}" or (prompt is None and name.startswith("ask-")):
                table = read_table(step.path / "answers.parquet", allow_empty=True)
                ids.update(table["id"].to_pylist())
        return np.array([i in ids for i in self.rows(split)["id"].to_pylist()], bool)

    def lf_summary(self, split: str) -> Summary:
        """Return the labeling functions' table on a split, with gold where there is some."""
        learned = None
        if "aggregate" in self.steps:
            accuracies = read_json(self.path("aggregate", "model.json"))["lf_accuracies"]
            if accuracies is not None:
                learned = np.array([np.nan if a is None else a for a in accuracies])
        if split not in self.splits:
            raise UnknownNameError("split", split, self.splits, where=str(self.folder))
        return summary(self.votes(split), self.gold(split), learned)

    @cached_property
    def evaluation(self) -> Mapping[str, list[Mapping[str, Any]]]:
        """For each split with gold, who labels how well; empty without gold."""
        if "evaluate" not in self.steps:
            return {}
        found: Mapping[str, list[Mapping[str, Any]]] = read_json(
            self.path("evaluate", "evaluation.json")
        )
        return found

    def comparison(self) -> Mapping[str, Any] | None:
        """Return teacher and student side by side on the test rows, where they were measured."""
        if "evaluate" not in self.steps:
            return None
        file = self.path("evaluate", "comparison.json")
        found: Mapping[str, Any] | None = read_json(file) if file.is_file() else None
        return found

    def slices(self, split: str) -> list[Mapping[str, Any]]:
        """Return what was measured on the slices of a split: slice, who labels, how well."""
        if "evaluate" not in self.steps:
            return []
        file = self.path("evaluate", "slices.json")
        found: list[Mapping[str, Any]] = read_json(file).get(split, []) if file.is_file() else []
        return found

    def selective(self) -> Mapping[str, Any] | None:
        """Return where the student is sure enough, by held-back rows; None where none were."""
        if "evaluate" not in self.steps:
            return None
        file = self.path("evaluate", "selective.json")
        found: Mapping[str, Any] | None = read_json(file) if file.is_file() else None
        return found

    def contested(self) -> list[Mapping[str, Any]]:
        """Return the most contested rows, each with who voted what and why."""
        if "evaluate" not in self.steps:
            return []
        found: list[Mapping[str, Any]] = read_json(self.path("evaluate", "contested.json"))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the run's results for machines."""
        return {
            "recipe": self.recipe["name"],
            "folder": str(self.folder),
            "steps": {name: dict(step.facts) for name, step in self.steps.items()},
            "evaluation": self.evaluation,
        }
