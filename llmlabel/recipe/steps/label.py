"""Let every labeling function vote on every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from llmlabel.errors import ConfigError
from llmlabel.io import fingerprint_path
from llmlabel.io.runs import write_json
from llmlabel.lf import EMBEDDING, LF, Column, answer_column, apply, as_column, prompt_of
from llmlabel.recipe.asking import answer_fields
from llmlabel.recipe.config import AskStep, LabelStep
from llmlabel.recipe.lf_specs import NearestSpec, PythonSpec
from llmlabel.recipe.lfs import Builder, text_column
from llmlabel.recipe.lfs import build_lfs as build_spec
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.ask import answers
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.embed import StepEncoder, step_vectors

__all__ = ["KIND", "batch", "build_lfs", "fail"]


def build_lfs(recipe: Recipe, embed_folder: Path) -> list[LF]:
    """Make the recipe's labeling functions, saying file and line of one that is wrong.

    Parameters
    ----------
    recipe
        With a step ``label``.
    embed_folder
        Of the step ``embed``. It is opened at the first vote, so that a recipe
        can be checked before anything has run.
    """
    steps = recipe.config.steps
    asks = {s.prompt_name: s for s in steps if isinstance(s, AskStep)}
    builder = Builder(
        task=recipe.task,
        folder=recipe.folder,
        fields={name: answer_fields(config, recipe) for name, config in asks.items()},
        encoder=StepEncoder(embed_folder) if any(s.step == "embed" for s in steps) else None,
    )
    lfs: list[LF] = []
    for at, step in enumerate(steps):
        if isinstance(step, LabelStep):
            for i, spec in enumerate(step.lfs):
                built = partial(build_spec, spec, builder)
                for made in recipe.located(built, "steps", at, "lfs", i):
                    if made.name in (lf.name for lf in lfs):
                        twice = ConfigError(f"two labeling functions have the name {made.name!r}")
                        recipe.located(partial(fail, twice), "steps", at, "lfs", i)
                    lfs.append(made)
    return lfs


def fail(error: Exception) -> NoReturn:
    """Raise; an expression, for `Recipe.located`."""
    raise error


def batch(context: Context, split: str) -> dict[str, Column]:
    """Return a split's columns with all that earlier steps made of them."""
    rows = context.rows(split)
    columns: dict[str, Column] = {c: as_column(rows[c]) for c in rows.column_names}
    if "embed" in context.inputs:
        columns[EMBEDDING] = step_vectors(context.input("embed"), split)
    for prompt, folder in context.asked().items():
        columns[answer_column(prompt)] = answers(folder, rows["id"].to_pylist())
    columns[text_column(context.recipe.task)] = context.texts(split)
    return columns


def asked_prompt(lf: LF) -> str | None:
    """Return the prompt whose answers an LF reads, if it reads any."""
    return next((p for f in lf.features if (p := prompt_of(f.name)) is not None), None)


def _run(context: Context) -> Mapping[str, Any]:
    lfs = build_lfs(context.recipe, context.folder_of("embed"))
    columns = {split: batch(context, split) for split in context.splits}
    total, done = sum(len(c["id"]) for c in columns.values()), 0
    facts: dict[str, Any] = {"lfs": len(lfs), "covered": {}}
    for split, data in columns.items():
        votes = apply(
            lfs,
            data,
            context.recipe.task,
            batch_size=context.config.batch_size,
            on_progress=context.progress_from(done, total),
        )
        done += len(votes)
        votes.save(context.folder.path / f"votes.{split}.npz")
        facts["covered"][split] = int(votes.covered().sum())
    write_json(
        [
            {
                "name": lf.name,
                "kind": lf.kind,
                "labels": list(lf.labels or ()),
                "prompt": asked_prompt(lf),
            }
            for lf in lfs
        ],
        context.folder.path / "lfs.json",
    )
    return facts


def _uses(config: LabelStep, before: Sequence[str]) -> Sequence[str]:
    prompts = {f"ask-{spec.prompt}" for spec in config.lfs if spec.lf == "answer"}
    embeds = {"embed"} if any(isinstance(spec, NearestSpec) for spec in config.lfs) else set()
    return [name for name in before if name == "load" or name in prompts | embeds]


def _external(config: LabelStep, recipe: Recipe) -> Mapping[str, Any]:
    files = [s.function.partition(":")[0] for s in config.lfs if isinstance(s, PythonSpec)]
    files += [f for s in config.lfs if (f := getattr(s, "file", None)) is not None]
    paths = {f: recipe.resolve(f) for f in files if ":" not in f and "." in f}
    return {
        "task": recipe.task.as_dict(),
        **{name: fingerprint_path(path) for name, path in paths.items() if path.is_file()},
    }


KIND = StepKind(version=2, run=_run, uses=_uses, external=_external)
