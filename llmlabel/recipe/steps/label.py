"""Let every labeling function vote on every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from llmlabel.errors import ConfigError
from llmlabel.io import fingerprint, fingerprint_path
from llmlabel.io.runs import write_json
from llmlabel.lf import EMBEDDING, LF, Column, answer_column, apply, as_column, prompt_of
from llmlabel.recipe.asking import answer_fields
from llmlabel.recipe.config import AskStep, LabelStep
from llmlabel.recipe.lf_specs import AnswerSpec, LFSpec, NearestSpec, PythonSpec
from llmlabel.recipe.lfs import Builder, text_column
from llmlabel.recipe.lfs import build_lfs as build_spec
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.ask import answers
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.embed import StepEncoder, step_vectors
from llmlabel.recipe.vote_store import VoteStore, joined
from llmlabel.votes import VoteMatrix

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
    return [lf for lf, _ in _built(recipe, _builder(recipe, embed_folder))]


def _builder(recipe: Recipe, embed_folder: Path) -> Builder:
    steps = recipe.config.steps
    asks = {s.prompt_name: s for s in steps if isinstance(s, AskStep)}
    return Builder(
        task=recipe.task,
        folder=recipe.folder,
        fields={name: answer_fields(config, recipe) for name, config in asks.items()},
        encoder=StepEncoder(embed_folder) if any(s.step == "embed" for s in steps) else None,
    )


def _built(recipe: Recipe, builder: Builder) -> list[tuple[LF, LFSpec]]:
    lfs: list[tuple[LF, LFSpec]] = []
    for at, step in enumerate(recipe.config.steps):
        if isinstance(step, LabelStep):
            for i, spec in enumerate(step.lfs):
                built = partial(build_spec, spec, builder)
                for made in recipe.located(built, "steps", at, "lfs", i):
                    if made.name in (lf.name for lf, _ in lfs):
                        twice = ConfigError(f"two labeling functions have the name {made.name!r}")
                        recipe.located(partial(fail, twice), "steps", at, "lfs", i)
                    lfs.append((made, spec))
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
    builder = _builder(context.recipe, context.folder_of("embed"))
    built = _built(context.recipe, builder)
    lfs = [lf for lf, _ in built]
    columns, again = _columns(context, built)
    facts: dict[str, Any] = {"lfs": len(lfs), "voted_again": again, "covered": {}}
    for split in context.splits:
        votes = joined([column[split] for column in columns])
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


def _columns(
    context: Context, built: Sequence[tuple[LF, LFSpec]]
) -> tuple[list[Mapping[str, VoteMatrix]], int]:
    """Return each LF's votes by split, and how many LFs had to vote for it."""
    store = VoteStore(context.run_folder / "votes")
    keys = [_key(context, lf, spec) for lf, spec in built]
    known = [store.get(key, context.splits) for key in keys]
    missing = [i for i, found in enumerate(known) if found is None]
    fresh: list[dict[str, VoteMatrix]] = [{} for _ in missing]
    if missing:
        data = {split: batch(context, split) for split in context.splits}
        total, done = sum(len(c["id"]) for c in data.values()), 0
        for split, rows in data.items():
            votes = apply(
                [built[i][0] for i in missing],
                rows,
                context.recipe.task,
                batch_size=context.config.batch_size,
                on_progress=context.progress_from(done, total),
            )
            done += len(votes)
            for column, i in zip(fresh, missing, strict=True):
                column[split] = votes.select([built[i][0].name])
        for column, i in zip(fresh, missing, strict=True):
            store.put(keys[i], column)
        store.prune()
    made = dict(zip(missing, fresh, strict=True))
    return [found or made[i] for i, found in enumerate(known)], len(missing)


def _key(context: Context, lf: LF, spec: LFSpec) -> str:
    """Return the fingerprint of all that an LF's votes depend on."""
    inputs = ["load", *(["embed"] if isinstance(spec, NearestSpec) else [])]
    inputs += [f"ask-{spec.prompt}"] if isinstance(spec, AnswerSpec) else []
    if isinstance(spec, PythonSpec):
        inputs = list(context.inputs)
    files = {path: fingerprint_path(file) for path, file in _files([spec], context.recipe).items()}
    read = {name: context.inputs[name].key for name in inputs}
    for name in inputs:
        if name.startswith("ask-"):  # a retry fills it up under the same key
            read[name] = fingerprint_path(context.inputs[name].path / "answers.parquet")
    task = context.recipe.task.as_dict()
    return fingerprint(
        lf.name, spec.model_dump(mode="json"), task, read, files, version("llmlabel")
    )


def _files(specs: Sequence[LFSpec], recipe: Recipe) -> dict[str, Path]:
    """Return the files that LFs are made of, by the names the recipe has for them."""
    names = [s.function.partition(":")[0] for s in specs if isinstance(s, PythonSpec)]
    names += [f for s in specs if (f := getattr(s, "file", None)) is not None]
    paths = {name: recipe.resolve(name) for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def _uses(config: LabelStep, before: Sequence[str]) -> Sequence[str]:
    prompts = {f"ask-{spec.prompt}" for spec in config.lfs if spec.lf == "answer"}
    embeds = {"embed"} if any(isinstance(spec, NearestSpec) for spec in config.lfs) else set()
    return [name for name in before if name == "load" or name in prompts | embeds]


def _external(config: LabelStep, recipe: Recipe) -> Mapping[str, Any]:
    paths = _files(config.lfs, recipe)
    prints = {name: fingerprint_path(path) for name, path in paths.items()}
    return {"task": recipe.task.as_dict(), **prints}


KIND = StepKind(version=2, run=_run, uses=_uses, external=_external)
