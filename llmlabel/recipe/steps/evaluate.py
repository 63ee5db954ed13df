"""Measure everything against gold labels, each claim beside its baselines.

The only step that reads gold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.distill import Student
from llmlabel.evaluate import evaluate
from llmlabel.io.runs import write_json
from llmlabel.labelmodel import MajorityVote
from llmlabel.lf import apply_slices, evidence
from llmlabel.llm.confidence import verbalized_probabilities
from llmlabel.recipe.config import SPLITS, AggregateStep, DistillStep
from llmlabel.recipe.lfs import build_slice
from llmlabel.recipe.steps.aggregate import make_model
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.comparing import compare
from llmlabel.recipe.steps.distill import predict, train_on_gold
from llmlabel.recipe.steps.known import known_rows
from llmlabel.recipe.steps.label import batch, build_lfs
from llmlabel.recipe.steps.selecting import held_back, selective_table
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["KIND"]

_SLICED = ("majority_vote", "label_model", "student", "llm_alone")

Probabilities = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Candidate:
    """Somebody who labels: classes or probabilities, and the rows on which they speak."""

    key: str
    name: str
    predicted: Probabilities | IntArray
    covered: Mask
    rows: Mask
    note: str = ""


@dataclass(frozen=True)
class _Reference:
    """A student that learned from gold, to compare with."""

    key: str
    name: str
    student: Student


def _run(context: Context) -> Mapping[str, Any]:
    results = Results(context.run_folder, {"task": context.recipe.task.as_dict()}, context.inputs)
    gold = {s: g for s in context.splits if (g := results.gold(s)) is not None}
    references = _references(context, gold.get("train"))
    found: dict[str, list[dict[str, Any]]] = {}
    sliced: dict[str, list[dict[str, Any]]] = {}
    slices = [build_slice(spec, context.recipe.task) for spec in context.config.slices]
    for split in [s for s in SPLITS if s in gold]:
        measured = gold[split] != ABSTAIN
        found[split], sliced[split] = [], []
        masks = apply_slices(slices, batch(context, split)) if slices else {}
        for c in _candidates(context, results, split, references):
            rows = c.rows & measured
            if rows.any():
                found[split].append(_measure(c, gold[split], rows, context))
            for name, mask in masks.items():
                if c.key in _SLICED and (rows & mask).any():
                    row = _measure(c, gold[split], rows & mask, context)
                    sliced[split].append({"slice": name, **row})
    write_json(found, context.folder.path / "evaluation.json")
    write_json(sliced, context.folder.path / "slices.json")
    write_json(_contested(context, results, gold), context.folder.path / "contested.json")
    llm = _llm_name(context, results)
    held = held_back(results, gold, llm) if "distill" in context.inputs else []
    if held:
        table = selective_table(results, gold, held)
        write_json({"held": held, "targets": table}, context.folder.path / "selective.json")
    if "distill" in context.inputs and "test" in gold:
        found_table = compare(
            results,
            gold,
            found["test"],
            llm=llm,
            speed=context.config.speed,
        )
        write_json(found_table, context.folder.path / "comparison.json")
    return {"measured": {s: int((g != ABSTAIN).sum()) for s, g in gold.items()}}


def _measure(
    c: _Candidate, gold: npt.NDArray[np.int64], rows: Mask, context: Context
) -> dict[str, Any]:
    result = evaluate(
        gold[rows],
        c.predicted[rows],
        context.recipe.task.names,
        covered=c.covered[rows],
        seed=context.recipe.config.seed,
    )
    return {"key": c.key, "name": c.name, "note": c.note, **result.as_dict()}


def _candidates(
    context: Context, results: Results, split: str, references: Sequence[_Reference]
) -> list[_Candidate]:
    """Everyone who labels this split, from the cheapest to the dearest."""
    votes, train_votes = results.votes(split), results.votes("train")
    everywhere = np.ones(len(votes), bool)
    prompted = {lf["name"] for lf in results.lf_kinds() if lf["kind"] == "prompt"}
    plain = [name for name in votes.lf_names if name not in prompted]
    out: list[_Candidate] = []
    if prompted and plain and train_votes.select(plain).covered().any():
        out += _heuristics_alone(
            context, votes.select(plain), train_votes.select(plain), everywhere
        )
    if prompted:
        out += _llm_alone(context, results, votes, split)
    asked = int(results.asked(split).sum())
    note = f'"All LFs" include the LLM on {asked} of these {len(votes)} rows.' if asked else ""
    for of, key, name in (
        ("majority", "majority_vote", "majority vote, all LFs"),
        ("labels", "label_model", "label model, all LFs"),
    ):
        labels = results.labels(split, of=of)
        out.append(_Candidate(key, name, labels.probabilities, labels.covered, everywhere, note))
    if "distill" in context.inputs:
        said = results.labels(split, of="predictions")
        note = (
            "The student saw the training texts, not their gold labels." if split == "train" else ""
        )
        out.append(
            _Candidate(
                "student",
                "student on label model",
                said.probabilities,
                everywhere,
                everywhere,
                note,
            )
        )
    for r in references if split != "train" else ():
        found = predict(r.student, context, split)
        out.append(_Candidate(r.key, r.name, found, everywhere, everywhere))
    return out


def _heuristics_alone(
    context: Context, votes: VoteMatrix, train_votes: VoteMatrix, everywhere: Mask
) -> list[_Candidate]:
    aggregate = next(s for s in context.recipe.config.steps if isinstance(s, AggregateStep))
    alone = {k: v for k, v in aggregate.params.items() if k != "groups"}  # they name all LFs
    models = (
        ("heuristics_majority_vote", "majority vote, no LLM", MajorityVote()),
        (
            "heuristics_label_model",
            "label model, no LLM",
            make_model(aggregate.model, alone),
        ),
    )
    return [
        _Candidate(
            key, name, model.fit(train_votes).predict_proba(votes), votes.covered(), everywhere
        )
        for key, name, model in models
    ]


def _llm_name(context: Context, results: Results) -> str | None:
    """The LF that is 'the LLM alone': the named one, or the prompted one with most classes."""
    prompted = [lf for lf in results.lf_kinds() if lf["kind"] == "prompt"]
    if context.config.llm is not None or not prompted:
        name: str | None = context.config.llm
    else:
        name = max(prompted, key=lambda lf: len(lf["labels"]))["name"]
    return name


def _llm_alone(
    context: Context, results: Results, votes: VoteMatrix, split: str
) -> list[_Candidate]:
    """The LLM's own label, on the rows it was asked about."""
    lfs = {lf["name"]: lf for lf in results.lf_kinds()}
    name = _llm_name(context, results)
    assert name is not None
    said = votes[name]
    asked = results.asked(split, lfs[name]["prompt"])
    if not asked.any():
        return []
    few = f"The LLM alone is measured on the {int(asked.sum())} rows it was asked about."
    note = "" if asked.all() else few
    predicted: Probabilities | IntArray = said
    if votes.confidences is not None:
        sure = votes.confidences[:, votes.position(name)]
        if not np.isnan(sure[said != ABSTAIN]).any():  # then its calibration can be measured
            predicted = verbalized_probabilities(said, sure, len(votes.classes))
    return [_Candidate("llm_alone", "LLM alone", predicted, said != ABSTAIN, asked, note)]


def _references(context: Context, gold: npt.NDArray[np.int64] | None) -> list[_Reference]:
    """Train the cheap student on gold alone: on all of it, and on the rows distill was given."""
    config = next((s for s in context.recipe.config.steps if isinstance(s, DistillStep)), None)
    if config is None or "distill" not in context.inputs or not context.config.gold_student:
        return []
    known = known_rows(context, config.gold)
    kind = "student" if config.student == "linear" else "linear student"
    out = []
    for key, which, rows in (
        ("student_known", "the known rows alone", known),
        ("student_gold", "gold", gold),
    ):
        student = None if rows is None else train_on_gold(context, config, rows)
        if student is not None:
            out.append(_Reference(key, f"{kind} on {which}", student))
    return out


def _contested(
    context: Context, results: Results, gold: Mapping[str, npt.NDArray[np.int64]]
) -> list[dict[str, Any]]:
    """The training rows whose votes pull apart most, each with who said what and why."""
    votes, labels = results.votes("train"), results.labels("train")
    order = _by_conflict(votes, labels.probabilities)[: context.config.contested]
    if not order:
        return []
    lfs = build_lfs(context.recipe, context.folder_of("embed"))
    columns, texts = batch(context, "train"), context.texts("train")
    names = context.recipe.task.names
    student = results.labels("train", of="predictions") if "distill" in context.inputs else None
    out = []
    for i in order:
        row = {name: column[i] for name, column in columns.items()}
        known = gold.get("train")
        out.append(
            {
                "id": columns["id"][i],
                "text": texts[i],
                "label": names[int(labels.probabilities[i].argmax())],
                "confidence": float(labels.confidence[i]),
                "probabilities": dict(zip(names, map(float, labels.probabilities[i]), strict=True)),
                "gold": None if known is None or known[i] == ABSTAIN else names[known[i]],
                "student": None
                if student is None
                else names[int(student.probabilities[i].argmax())],
                "votes": evidence(lfs, row, context.recipe.task),
            }
        )
    return out


def _by_conflict(votes: VoteMatrix, probabilities: Probabilities) -> list[int]:
    """Rows with votes for several classes, the least decided first."""
    k = len(votes.classes)
    counts = np.stack([(votes.votes == c).sum(axis=1) for c in range(k)], axis=1)
    clash = np.flatnonzero((counts > 0).sum(axis=1) > 1)
    p = np.clip(probabilities[clash], 1e-12, 1)
    entropy = -(p * np.log(p)).sum(axis=1)
    return [int(i) for i in clash[np.argsort(-entropy, kind="stable")]]


KIND = StepKind(version=4, run=_run)
