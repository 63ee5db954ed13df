"""Rows of which a student is not sure, handed on to the LLM that taught it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import ConfigError
from llmlabel.io import cache_dir
from llmlabel.lf import requests
from llmlabel.llm import Failure, InvalidAnswer
from llmlabel.llm.budget import Budget
from llmlabel.recipe.asking import ask_model, ask_rows, step_budget, step_prompt
from llmlabel.recipe.config import AskStep, EvaluateStep, LabelStep
from llmlabel.recipe.explain import recipe_of
from llmlabel.recipe.lf_specs import AnswerSpec
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.surety import judged
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN

__all__ = ["Teacher", "teacher_of"]


@dataclass(frozen=True)
class Teacher:
    """The LLM of a recipe, asked as the recipe's ``ask`` step asks it.

    Parameters
    ----------
    recipe
    ask
        The step.
    lf
        The LF that reads the class from its answers.
    columns
        The rows' text columns.
    budget
        The step's budget, for all rows together.
    """

    recipe: Recipe
    ask: AskStep
    lf: AnswerSpec
    columns: tuple[str, ...]
    budget: Budget | None

    def classes(self, rows: pa.Table) -> npt.NDArray[np.intp]:
        """Ask about rows; return their classes, shape (n,), -1 where no valid answer came.

        Every answer is in the user's cache before it is used: a killed run pays once.
        """
        task, config = replace(self.recipe.task, text=self.columns), self.ask
        template = step_prompt(config, self.recipe)
        batch = {name: rows[name].to_pylist() for name in rows.column_names}
        asked = requests(
            template, task, batch, model=ask_model(config, self.recipe), params=config.params
        )
        results, _ = ask_rows(
            config,
            self.recipe,
            asked,
            state_dir=cache_dir() / "batches",
            on_progress=lambda *_: None,
            budget=self.budget,
        )
        schema = template.schema(task)
        votes = self.lf.votes if isinstance(self.lf.votes, dict) else None
        out = np.full(rows.num_rows, ABSTAIN, np.intp)
        for i, result in enumerate(results):
            kept, answer = judged([result], schema, None)
            if isinstance(kept, Failure) or isinstance(answer, InvalidAnswer):
                continue
            said = answer.get(self.lf.field)
            label = votes.get(str(said)) if votes is not None else said
            if label in task.names:
                out[i] = task.names.index(label)
        return out


def teacher_of(run: Path, columns: tuple[str, ...]) -> Teacher:
    """Return the LLM of a run, for rows with these text columns.

    Raises
    ------
    ConfigError
        The folder is no run, its recipe is gone or has changed, or asks no LLM for the class.
    """
    if not (run / "run.json").is_file():
        raise ConfigError(f"{run}: deferring to the LLM needs a run folder, with its recipe")
    recipe = recipe_of(Results.read(run))
    steps = recipe.config.steps
    wanted = next((s.llm for s in steps if isinstance(s, EvaluateStep)), None)
    specs: list[Any] = [lf for s in steps if isinstance(s, LabelStep) for lf in s.lfs]
    answers = [lf for lf in specs if isinstance(lf, AnswerSpec)]
    if wanted is not None:
        answers = [lf for lf in answers if lf.name == wanted]
    if not answers:
        raise ConfigError(f"{recipe.file}: no LF reads the class from an LLM's answer")
    # The one that names most classes says what the row is; others ask about parts of it.
    lf = max(answers, key=lambda a: len(recipe.task.names) if a.votes is None else len(a.votes))
    ask = next(s for s in steps if isinstance(s, AskStep) and s.prompt_name == lf.prompt)
    if ask.confidence is not None or ask.rows_per_request > 1 or ask.examples is not None:
        ask = ask.model_copy(update={"confidence": None, "rows_per_request": 1, "examples": None})
    return Teacher(recipe, ask, lf, columns, step_budget(ask))
