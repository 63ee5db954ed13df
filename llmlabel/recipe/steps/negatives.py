"""Mine hard negatives of the questions, for training an embedder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from llmlabel.io import read_table, write_table
from llmlabel.rag.negatives import hard_negatives, triplets
from llmlabel.recipe.rag_config import NegativesStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.chunk import AFTER
from llmlabel.recipe.steps.questions import QUESTIONS
from llmlabel.recipe.steps.retrieve import searchers

__all__ = ["KIND"]


def _run(context: Context) -> Mapping[str, Any]:
    config: NegativesStep = context.config
    passages = read_table(context.input("chunk") / AFTER)
    asked = read_table(context.input("questions") / QUESTIONS).to_pylist()
    texts = dict(zip(passages["id"].to_pylist(), passages["text"].to_pylist(), strict=True))
    found = searchers(passages, ["hybrid", "dense"], config.encoder)
    questions = [row["question"] for row in asked]
    near = found["dense"].search(questions, config.k)
    relevant = _relevant(asked, passages, near.ids.tolist(), config.k)
    mined = hard_negatives(
        questions,
        relevant,
        found["hybrid"].search,
        similarity=lambda *_: near,
        per_question=config.per_question,
        k=config.k,
        margin=config.margin,
    )
    made = triplets(mined, questions, texts)
    write_table(mined, context.folder.path / "negatives.parquet")
    write_table(made, context.folder.path / "triplets.jsonl")
    return {"questions": len(asked), "triplets": made.num_rows}


def _relevant(
    asked: Sequence[Mapping[str, Any]],
    passages: pa.Table,
    near: Sequence[Sequence[str]],
    k: int,
) -> list[list[str]]:
    """Return the passages that answer each question, the likeliest first.

    Where only the document is known, its passages are all taken for relevant, the nearest
    first: none of them may be a negative.
    """
    of: dict[str, list[str]] = {}
    for name, document in zip(
        passages["id"].to_pylist(), passages["document"].to_pylist(), strict=True
    ):
        of.setdefault(document, []).append(name)
    out = []
    for row, found in zip(asked, near, strict=True):
        known = {p for d in json.loads(row["relevant"]) for p in of.get(d, [])}
        order = {name: at for at, name in enumerate(found)}
        first = [row["passage"]] if row.get("passage") else []
        rest = sorted(known - set(first), key=lambda p: (order.get(p, k), p))
        out.append(first + rest)
    return out


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("chunk", "questions")]


KIND = StepKind(version=1, run=_run, uses=_uses)
