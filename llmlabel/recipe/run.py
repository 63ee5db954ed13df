"""Run a recipe: its steps in order, none twice, all of it resumable; or say what would run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.errors import UnknownNameError
from llmlabel.io import fingerprint, read_table
from llmlabel.io.runs import RunFolder, StepFolder
from llmlabel.lf import apply, require_columns
from llmlabel.llm import LocalClient, RecordedClient, Request
from llmlabel.llm.costs import CostPlan, plan_cost
from llmlabel.recipe.asking import answers_cache, make_client, make_requests, price_table, to_send
from llmlabel.recipe.config import SPLITS, AskStep, EvaluateStep, StepConfig
from llmlabel.recipe.lfs import text_column
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.rag_config import QuestionsStep
from llmlabel.recipe.steps import KINDS, Context, Observer
from llmlabel.recipe.steps.chunk import first_passages
from llmlabel.recipe.steps.clean import first_rows
from llmlabel.recipe.steps.label import build_lfs, fail
from llmlabel.recipe.steps.load import load_split
from llmlabel.recipe.steps.questions import ask_config, question_requests
from llmlabel.recipe.steps.report import PAGE
from llmlabel.recipe.steps.sample import ROWS

__all__ = ["PlannedStep", "check", "plan", "retry", "run"]


@dataclass(frozen=True)
class PlannedStep:
    """What a run would do for one step.

    Parameters
    ----------
    name, folder
        The step, and where its results are or would be.
    done
        Whether it has run already.
    cost
        For ``ask`` steps that have not run: calls, tokens and dollars, with ranges.
    free
        Why the calls cost nothing: ``recorded`` or ``local``; empty where they do.
    """

    name: str
    folder: Path
    done: bool
    cost: CostPlan | None = None
    free: str = ""


@dataclass(frozen=True)
class _Step:
    """A step with all that its key depends on."""

    kind: str
    config: Any
    folder: StepFolder
    inputs: Mapping[str, StepFolder]


def check(recipe: Recipe) -> None:
    """Check all that can be checked before anything runs or is paid for.

    Raises
    ------
    ConfigError
        A class, prompt, answer field, endpoint, model or parameter that does
        not exist; with file and line.
    """
    lfs = build_lfs(recipe, recipe.folder)
    for at, config in enumerate(recipe.config.steps):
        kind = KINDS[config.step]
        recipe.located(partial(kind.check, config, recipe), "steps", at, *kind.about)
        if isinstance(config, EvaluateStep) and config.llm not in (None, *(lf.name for lf in lfs)):
            names = [lf.name for lf in lfs]
            unknown = UnknownNameError("labeling function", str(config.llm), names)
            recipe.located(partial(fail, unknown), "steps", at, "llm")


def check_columns(recipe: Recipe, load: StepFolder) -> None:
    """Check that the data has what the LFs read, before anything is paid for.

    Raises
    ------
    DataError
        A column that an LF reads is missing.
    LabelingFunctionError
        A ``column`` LF meets a value that it does not know.
    """
    lfs = build_lfs(recipe, recipe.folder)
    for split in SPLITS:
        file = load.path / f"rows.{split}.parquet"
        if lfs and file.is_file():
            require_columns(lfs, [*pq.read_schema(file).names, text_column(recipe.task)])
            readers = [lf for lf in lfs if lf.kind == "column"]
            if readers:
                apply(readers, read_table(file), recipe.task)


def run(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    observer: Observer | None = None,
    until: str | None = None,
) -> Path:
    """Run a recipe's steps; those whose results are there already are not run again.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    out
        The run folder; by default ``runs/<recipe>``.
    observer
        Who is told how it goes.
    until
        The last step to run, by name or kind.

    Returns
    -------
    The run folder.

    Raises
    ------
    LLMLabelError
        Something is wrong with the recipe, the data or a model's endpoint. What
        was done before stays done.
    """
    watcher = observer or Observer()
    check(recipe)
    folder = RunFolder(Path(out) if out is not None else default_out(recipe))
    steps = _steps(recipe, folder)
    last = len(steps) - 1 if until is None else _position(until, steps)
    with folder.locked():
        for at, step in enumerate(steps):
            # What is there by now, later steps that were run before included: a
            # stopped run can be looked at, and looking at a part loses nothing.
            folder.write_index(_described(recipe), [s.folder for s in steps if s.folder.done])
            if at > last:
                break
            _run_step(recipe, step, watcher)
            if step.kind == "load":
                check_columns(recipe, step.folder)
            if step.kind == "report":  # where a person looks for it
                shutil.copyfile(step.folder.path / PAGE, folder.path / PAGE)
        folder.write_index(_described(recipe), [s.folder for s in steps if s.folder.done])
    return folder.path


def _position(until: str, steps: list[_Step]) -> int:
    names = [step.folder.name for step in steps]
    kinds = [step.kind for step in steps]
    for known in (names, kinds):
        if until in known:
            return len(known) - 1 - known[::-1].index(until)
    raise UnknownNameError("step", until, names)


def retry(recipe: Recipe, out: str | Path, *, observer: Observer | None = None) -> int:
    """Ask again about the rows whose calls failed, then run what depends on them.

    Answers that came are in the cache and are not paid again.

    Parameters
    ----------
    recipe, out, observer
        As in `run`.

    Returns
    -------
    How many rows had failed.
    """
    failed = 0
    stale: set[str] = set()
    for step in _steps(recipe, RunFolder(Path(out))):
        count = step.folder.facts.get("failed", 0) if step.kind == "ask" else 0
        failed += count
        # A step's name tells its inputs, not their results: what was made from
        # the failures is made again.
        if count or stale & set(step.inputs):
            stale.add(step.folder.name)
            step.folder.forget()
    if failed:
        run(recipe, out, observer=observer)
    return failed


def plan(recipe: Recipe, out: str | Path | None = None) -> list[PlannedStep]:
    """Say what `run` would do: which steps, how many calls, how many of those cached.

    Nothing is written and nothing is sent.

    Raises
    ------
    LLMLabelError
        The same errors of recipe and data that `run` would meet.
    """
    check(recipe)
    folder = RunFolder(Path(out) if out is not None else default_out(recipe))
    planned = []
    tables: Mapping[str, pa.Table] = {}
    steps = _steps(recipe, folder)
    for step in steps:
        cost, free = None, ""
        if isinstance(step.config, AskStep) and not step.folder.done:
            tables = tables or _tables(recipe, {s.folder.name: s.folder for s in steps})
            asked = [request for _, request in make_requests(step.config, recipe, tables)]
            cost, free = _plan_cost(step.config, recipe, asked)
        if isinstance(step.config, QuestionsStep) and step.config.client and not step.folder.done:
            passages = first_passages(recipe, step.inputs["chunk"])
            _, asked = question_requests(step.config, recipe, passages)
            cost, free = _plan_cost(ask_config(step.config), recipe, asked)
        planned.append(
            PlannedStep(step.folder.name, step.folder.path, step.folder.done, cost, free)
        )
    return planned


def default_out(recipe: Recipe) -> Path:
    """Return where a recipe's run goes unless told otherwise."""
    return Path("runs") / recipe.name


def _tables(recipe: Recipe, steps: Mapping[str, StepFolder]) -> Mapping[str, pa.Table]:
    load, sample = steps["load"], steps.get("sample")
    if load.done:
        return {s: read_table(load.path / f"rows.{s}.parquet") for s in map(str, recipe.splits)}
    sampled = None if sample is None or not sample.done else sample.path / ROWS
    here = [str(s) for s in recipe.splits if s != "train" or sampled is not None or sample is None]
    tables = {s: load_split(recipe, s, sampled)[0] for s in here}
    if sample is not None and sampled is None:
        tables["train"] = first_rows(recipe)
    return tables


def _plan_cost(config: AskStep, recipe: Recipe, asked: Sequence[Request]) -> tuple[CostPlan, str]:
    client, _ = make_client(config, recipe)
    with answers_cache() as cache:
        cost = plan_cost(
            to_send(config, asked, recipe.config.seed),
            client.provider,
            price_table(recipe),
            cache=cache,
            batch=config.mode == "batch",
            seed=recipe.config.seed,
        )
    return cost, {RecordedClient: "recorded", LocalClient: "local"}.get(type(client), "")


def _steps(recipe: Recipe, folder: RunFolder) -> list[_Step]:
    """Return the steps in order, each folder named by what goes into it."""
    steps: list[_Step] = []
    found: dict[str, StepFolder] = {}
    for kind, config in _ordered(recipe):
        name = f"ask-{config.prompt_name}" if isinstance(config, AskStep) else kind
        definition = KINDS[kind]
        inputs = {n: found[n] for n in definition.uses(config, tuple(found)) if n in found}
        key = fingerprint(
            {
                "step": kind,
                "version": definition.version,
                "config": None if config is None else config.model_dump(mode="json"),
                "seed": recipe.config.seed,
                "inputs": {n: s.key for n, s in inputs.items()},
                "external": definition.external(config, recipe),
            }
        )
        found[name] = folder.step(name, key)
        steps.append(_Step(kind, config, found[name], inputs))
    return steps


def _ordered(recipe: Recipe) -> list[tuple[str, StepConfig | None]]:
    """Return the steps by kind, and where the rows or documents are read.

    That is first, or, of a corpus, once it is sampled.
    """
    steps: list[tuple[str, StepConfig | None]] = [(s.step, s) for s in recipe.config.steps]
    if recipe.config.data.documents is not None:
        return [("documents", None), *steps]
    if recipe.config.data.corpus is None:
        return [("load", None), *steps]
    kinds = [kind for kind, _ in steps]
    at = kinds.index("sample") + 1 if "sample" in kinds else len(steps)
    return [*steps[:at], *([("load", None)] if "sample" in kinds else []), *steps[at:]]


def _run_step(recipe: Recipe, step: _Step, observer: Observer) -> None:
    if step.folder.done:
        observer.finished(step.folder.name, step.folder.facts, 0.0, reused=True)
        return
    observer.started(step.folder.name)
    step.folder.start(afresh=not KINDS[step.kind].resumes)
    started = time.perf_counter()
    context = Context(recipe, step.config, step.folder, step.inputs, observer)
    facts = KINDS[step.kind].run(context)
    seconds = time.perf_counter() - started
    step.folder.finish(facts, seconds)
    observer.finished(step.folder.name, facts, seconds, reused=False)


def _described(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "description": recipe.config.description,
        "file": str(recipe.file.resolve()),
        "fingerprint": recipe.fingerprint,
        "config": None if recipe.config_file is None else str(recipe.config_file.resolve()),
        "task": recipe.task.as_dict(),
        "seed": recipe.config.seed,
    }
