"""Train a small model on the label model's probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.distill import LinearStudent, fit_linear
from llmlabel.errors import ConfigError
from llmlabel.io import read_table, write_table
from llmlabel.labelmodel import LabelSet
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.embed import step_encoder, step_vectors

__all__ = ["KIND", "train"]


def train(
    context: Context,
    rows: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    *,
    tfidf: bool,
    keep: float = 1.0,
    rounds: int = 0,
) -> LinearStudent:
    """Train a student on some of the training rows.

    Parameters
    ----------
    rows : array of int, shape (r,)
        Which training rows.
    probabilities : array, shape (r, k)
        Their targets.
    """
    texts = context.texts("train")
    targets = np.full((len(texts), probabilities.shape[1]), 1 / probabilities.shape[1])
    targets[rows], weights = probabilities, np.zeros(len(texts))
    weights[rows] = 1
    if not rounds:  # nobody else is asked: the words of other rows are no part of it
        texts, targets, weights = [texts[i] for i in rows], probabilities, weights[rows]
    embedded = "embed" in context.inputs
    return fit_linear(
        texts,
        targets,
        context.recipe.task.names,
        encoder=step_encoder(context.input("embed")) if embedded else None,
        embeddings=_vectors(context, None if rounds else rows) if embedded else None,
        tfidf=tfidf,
        weights=weights,
        keep=keep,
        rounds=rounds,
        seed=context.recipe.config.seed,
        meta={"task": context.recipe.task.as_dict(), "recipe": context.recipe.name},
    )


def _vectors(context: Context, rows: npt.NDArray[np.intp] | None) -> npt.NDArray[np.float32]:
    vectors = np.asarray(step_vectors(context.input("embed"), "train"))
    return vectors if rows is None else vectors[rows]


def predict(student: LinearStudent, context: Context, split: str) -> npt.NDArray[np.float64]:
    """Return the student's probabilities for a split, shape (n, k)."""
    vectors = step_vectors(context.input("embed"), split) if "embed" in context.inputs else None
    return student.predict_proba(context.texts(split), embeddings=vectors)


def _run(context: Context) -> Mapping[str, Any]:
    labels = LabelSet.from_table(read_table(context.input("aggregate") / "labels.train.parquet"))
    keep = labels.covered & (labels.confidence >= context.config.min_confidence)
    rows = np.flatnonzero(keep)
    if not rows.size:
        raise ConfigError(
            f"the step 'distill' has no rows to train on: of {len(keep)} rows "
            f"{int(labels.covered.sum())} have votes and none of those reaches min_confidence "
            f"{context.config.min_confidence}"
        )
    context.progress(0, 2)
    config = context.config
    student = train(
        context,
        rows,
        labels.probabilities[rows],
        tfidf=config.tfidf,
        keep=config.keep,
        rounds=config.rounds,
    )
    student.save(context.folder.path / "student")
    context.progress(1, 2)
    for split in context.splits:
        ids = context.rows(split)["id"].to_pylist()
        found = predict(student, context, split)
        said = LabelSet(ids, context.recipe.task.names, found, covered=np.ones(len(ids), bool))
        write_table(said.to_table(), context.folder.path / f"predictions.{split}.parquet")
    context.progress(2, 2)
    return {"student": context.config.student, "rows": int(rows.size), **student.describe()}


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("load", "embed", "aggregate")]


KIND = StepKind(version=2, run=_run, uses=_uses)
