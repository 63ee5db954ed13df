"""One row of a run: its label, who voted for it, why, what each vote weighed, where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from llmlabel.errors import ConfigError, DataError, did_you_mean
from llmlabel.io import read_table
from llmlabel.lf import LF, answer_column, evidence
from llmlabel.recipe.config import AggregateStep
from llmlabel.recipe.load import Recipe, load_recipe
from llmlabel.recipe.steps import Context, Observer
from llmlabel.recipe.steps.aggregate import fitted
from llmlabel.recipe.steps.label import batch, build_lfs
from llmlabel.report import Results

__all__ = ["explain_row", "recipe_of"]

_NOT_SHOWN = frozenset({"id", "split", "status", "reason"})


def explain_row(run: str | Path, row_id: str) -> dict[str, Any]:
    """Say all that is known about one row of a run.

    Parameters
    ----------
    run
        A run folder with labels.
    row_id
        The row's id.

    Returns
    -------
    Plain data: ``id``, ``split``, ``text``, ``label`` (None without votes),
    ``probabilities``, ``prior``, ``student`` and ``votes``. Each vote has its LF,
    class, confidence and reason; ``weight``, what it added to the log-odds of the
    label against the runner-up; and, from an LLM, its ``provenance``. Prior,
    weights and ``silence`` (what all abstains added) sum to ``log_odds``.

    Raises
    ------
    DataError
        No such row, with the nearest id.
    ConfigError
        The run has no labels, or its recipe has changed since.
    """
    results = Results.read(run)
    results.path("aggregate", "model.json")
    recipe = recipe_of(results)
    split, at = _find(results, row_id)
    step = results.steps["label"]
    context = Context(recipe, None, step, results.steps, Observer())
    lfs = build_lfs(recipe, context.folder_of("embed"))
    row = {name: column[at] for name, column in batch(context, split).items()}
    labels = results.labels(split)
    probabilities = labels.probabilities[at]
    covered = bool(labels.covered[at])
    student = None
    if "distill" in results.steps:
        said = results.labels(split, of="predictions")
        student = results.classes[int(said.probabilities[at].argmax())]
    return {
        "id": row_id,
        "split": split,
        "text": context.texts(split)[at],
        "label": results.classes[int(probabilities.argmax())] if covered else None,
        "probabilities": dict(zip(results.classes, map(float, probabilities), strict=True)),
        "student": student,
        **_weighed(results, recipe, split, at, _votes(context, lfs, row)),
    }


def recipe_of(results: Results) -> Recipe:
    """Return the recipe that made a run.

    Raises
    ------
    ConfigError
        It is gone, or says something else by now.
    """
    recipe = load_recipe(results.recipe["file"], config=results.recipe.get("config"))
    if recipe.fingerprint != results.recipe["fingerprint"]:
        raise ConfigError(
            f"{recipe.file}: has changed since this run was made",
            hint=f"llmlabel run {recipe.file} --out {results.folder}",
        )
    return recipe


def _find(results: Results, row_id: str) -> tuple[str, int]:
    near: list[str] = []
    for split in results.splits:
        ids = results.rows(split)["id"]
        at = pc.index(ids, row_id).as_py()
        if at >= 0:
            return split, at
        near.extend(ids.to_pylist()[:100_000])
    guess = did_you_mean(row_id, near) if len(near) < 100_000 else ""
    raise DataError(f"no such row in {', '.join(results.splits)}{guess}", row=row_id)


def _weighed(
    results: Results, recipe: Recipe, split: str, at: int, votes: list[dict[str, Any]]
) -> dict[str, Any]:
    """Add what each vote weighs, where the label model can say it."""
    aggregate = next(s for s in recipe.config.steps if isinstance(s, AggregateStep))
    step = results.steps["aggregate"]
    model, features = fitted(Context(recipe, aggregate, step, results.steps, Observer()))
    if not hasattr(model, "explain"):
        return {"votes": [{**vote, "weight": None} for vote in votes]}
    more = {"features": features[split][[at]]} if features else {}
    found = model.explain(results.votes(split).take([at]), **more)
    order = np.argsort(-found.log_posterior, kind="stable")
    first, second = (found.classes[int(k)] for k in order[:2])
    prior, added = found.log_odds(first, second)
    weights = dict(zip(found.lf_names, map(float, added), strict=True))
    spoken = {vote["lf"] for vote in votes}
    return {
        "against": second,
        "prior": float(prior),
        "silence": float(sum(w for name, w in weights.items() if name not in spoken)),
        "log_odds": float(prior + added.sum()),
        "votes": sorted(
            ({**vote, "weight": weights[vote["lf"]]} for vote in votes),
            key=lambda vote: -abs(vote["weight"]),
        ),
    }


def _votes(context: Context, lfs: list[LF], row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return who voted for what and why; for an LLM's vote, the call it came from."""
    calls: dict[str, Mapping[str, Any]] = {}
    for prompt, folder in context.asked().items():
        table = read_table(folder / "answers.parquet", allow_empty=True)
        for call in table.filter(pc.equal(table["id"], row["id"])).to_pylist():
            calls[answer_column(prompt)] = {k: v for k, v in call.items() if k not in _NOT_SHOWN}
    features = {lf.name: [f.name for f in lf.features] for lf in lfs}
    return [
        {
            **vote,
            "provenance": next((calls[f] for f in features[vote["lf"]] if f in calls), None),
        }
        for vote in evidence(lfs, row, context.recipe.task)
    ]
