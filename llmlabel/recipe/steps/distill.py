"""Train a small model on the label model's probabilities."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.analysis import summary
from llmlabel.distill import (
    EncoderOptions,
    Labels,
    LinearStudent,
    Student,
    fit_better,
    fit_linear,
    out_of_fold,
)
from llmlabel.errors import ConfigError
from llmlabel.io import fingerprint_path, read_table, write_table
from llmlabel.io.runs import CHECKPOINTS, read_json
from llmlabel.labelmodel import LabelSet
from llmlabel.recipe.config import DistillStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.steps.embed import step_encoder, step_vectors
from llmlabel.recipe.steps.known import known_rows
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix

__all__ = ["HELD_OUT", "KIND", "predict", "train_on_gold", "training_labels"]

HELD_OUT: Final = "held_out"
_FEW: Final = 30  # rows that the LLM has read, below which nothing can be promised by its word
_MANY: Final = 2_000


def training_labels(
    context: Context,
    rows: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    known: npt.NDArray[np.intp] | None = None,
) -> Labels:
    """Return what a student learns from: some training rows with a label, and all others.

    Parameters
    ----------
    rows : array of int, shape (r,)
        Which training rows.
    probabilities : array, shape (r, k)
        Their targets.
    known : array of int, shape (n,), optional
        Known classes, -1 elsewhere.
    """
    texts = context.texts("train")
    targets = np.full((len(texts), probabilities.shape[1]), 1 / probabilities.shape[1])
    weights = np.zeros(len(texts))
    targets[rows], weights[rows] = probabilities, 1
    gold = np.full(len(texts), ABSTAIN) if known is None else known
    embedded = "embed" in context.inputs
    vectors = np.asarray(step_vectors(context.input("embed"), "train")) if embedded else None
    return Labels(texts, targets, weights, gold, vectors)


def train_on_gold(
    context: Context, config: DistillStep, gold: npt.NDArray[np.intp]
) -> Student | None:
    """Return the linear student of gold rows alone, which others are compared with.

    Parameters
    ----------
    gold : array of int, shape (n,)
        Known classes of training rows, -1 elsewhere.
    """
    rows = np.flatnonzero(gold != ABSTAIN)
    if len(np.unique(gold[rows])) < 2:
        return None
    one_hot = np.eye(context.recipe.task.n_classes)[gold[rows]]
    labels = training_labels(context, rows, one_hot)
    return _linear(context, _only(labels, rows), {"tfidf": config.tfidf})


def predict(student: Student, context: Context, split: str) -> npt.NDArray[np.float64]:
    """Return the student's probabilities for a split, shape (n, k)."""
    vectors = step_vectors(context.input("embed"), split) if "embed" in context.inputs else None
    return student.predict_proba(context.texts(split), embeddings=vectors)


def _run(context: Context) -> Mapping[str, Any]:
    labels = LabelSet.from_table(read_table(context.input("aggregate") / "labels.train.parquet"))
    known = known_rows(context, context.config.gold)
    keep = labels.covered & (labels.confidence >= context.config.min_confidence)
    rows = np.flatnonzero(keep)
    if not rows.size:
        raise ConfigError(
            f"the step 'distill' has no rows to train on: of {len(keep)} rows "
            f"{int(labels.covered.sum())} have votes and none of those reaches min_confidence "
            f"{context.config.min_confidence}"
        )
    context.progress(0, 2)
    taught = training_labels(context, rows, labels.probabilities[rows], known)
    student = _train(context, taught)
    student.save(context.folder.path / "student")
    _hold_out(context, student, taught)
    context.progress(1, 2)
    for split in context.splits:
        ids = context.rows(split)["id"].to_pylist()
        found = predict(student, context, split)
        said = LabelSet(ids, context.recipe.task.names, found, covered=np.ones(len(ids), bool))
        write_table(said.to_table(), context.folder.path / f"predictions.{split}.parquet")
    context.progress(2, 2)
    return {"student": context.config.student, "rows": int(rows.size), **student.describe()}


def _hold_out(context: Context, student: Student, labels: Labels) -> None:
    """Write what the student says of rows that the LLM has read when it has not met them."""
    lfs = read_json(context.input("label") / "lfs.json")
    prompted = [lf["name"] for lf in lfs if lf["kind"] == "prompt"]
    votes = VoteMatrix.load(context.input("label") / "votes.train.npz")
    rows = np.flatnonzero(votes.select(prompted).covered()) if prompted else np.zeros(0, np.intp)
    if rows.size < _FEW or not isinstance(student, LinearStudent):
        return
    seed = context.recipe.config.seed
    if rows.size > _MANY:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MANY, replace=False))
    config: DistillStep = context.config
    found = out_of_fold(student, labels, rows, keep=config.keep, rounds=config.rounds, seed=seed)
    ids = context.rows("train")["id"].take(pa.array(rows)).to_pylist()
    said = LabelSet(ids, context.recipe.task.names, found, covered=np.ones(len(ids), bool))
    write_table(said.to_table(), context.folder.path / f"{HELD_OUT}.train.parquet")


def _train(context: Context, labels: Labels) -> Student:
    config: DistillStep = context.config
    how = {"tfidf": config.tfidf, "keep": config.keep, "rounds": config.rounds}
    if config.student == "linear":
        if not config.rounds:  # nobody else is asked: the words of other rows are no part of it
            labels = _only(labels, np.flatnonzero((labels.weights > 0) | (labels.gold != ABSTAIN)))
        return _linear(context, labels, {**how, "gold": labels.gold})
    seed = context.recipe.config.seed
    training = config.training.model_dump()
    beside = context.recipe.resolve(training["model"])
    if beside.is_dir():
        training["model"] = str(beside)
    # Beside the run's steps: the Trainer's own place is among the checkpoints, which go.
    with _variable("TENSORBOARD_LOGGING_DIR", str(context.run_folder / "tensorboard")):
        return fit_better(
            labels,
            context.recipe.task.names,
            EncoderOptions(**training, seed=seed),
            linear={**how, "seed": seed},
            encoder=_encoder(context),
            checkpoints=context.folder.path / CHECKPOINTS,
            on_progress=context.progress,
            notes=_lf_table(context) if training["report_to"] != "none" else None,
            meta=_meta(context),
        )


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while, where it is not set."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _lf_table(context: Context) -> str:
    """Return the table of labeling functions as Markdown, for trackers."""
    votes = VoteMatrix.load(context.input("label") / "votes.train.npz")
    rows = summary(votes).to_table().to_pylist()
    head = list(rows[0])
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _linear(context: Context, labels: Labels, how: Mapping[str, Any]) -> Student:
    return fit_linear(
        labels.texts,
        labels.targets,
        context.recipe.task.names,
        encoder=_encoder(context),
        embeddings=labels.embeddings,
        weights=labels.weights,
        seed=context.recipe.config.seed,
        meta=_meta(context),
        **how,
    )


def _only(labels: Labels, rows: npt.NDArray[np.intp]) -> Labels:
    vectors = labels.embeddings
    return Labels(
        [labels.texts[i] for i in rows],
        labels.targets[rows],
        labels.weights[rows],
        labels.gold[rows],
        None if vectors is None else vectors[rows],
    )


def _encoder(context: Context) -> Any:
    return step_encoder(context.input("embed")) if "embed" in context.inputs else None


def _meta(context: Context) -> dict[str, Any]:
    return {"task": context.recipe.task.as_dict(), "recipe": context.recipe.name}


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("load", "embed", "label", "aggregate")]


def _external(config: DistillStep, recipe: Recipe) -> Mapping[str, Any]:
    prints = {} if config.gold is None else file_prints(recipe, config.gold)
    model = recipe.resolve(config.training.model)
    if config.student == "encoder" and model.is_dir():
        prints["model"] = fingerprint_path(model)
    return prints


KIND = StepKind(version=5, run=_run, uses=_uses, external=_external)
