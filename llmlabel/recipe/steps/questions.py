"""Get the questions that retrieval is measured by: from a file, an LLM, or headings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from llmlabel.errors import DataError, did_you_mean
from llmlabel.io import read_table, write_table
from llmlabel.lf import requests
from llmlabel.llm import Failure, InvalidAnswer, Request
from llmlabel.rag.questions import (
    answered_questions,
    filter_questions,
    heading_questions,
    question_rows,
)
from llmlabel.rag.retrieval import BM25
from llmlabel.recipe.asking import ask_model, ask_rows, make_client, step_prompt
from llmlabel.recipe.client_config import RecordedConfig
from llmlabel.recipe.config import AskStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.rag_config import QuestionsStep
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.steps.chunk import AFTER
from llmlabel.recipe.surety import judged

__all__ = ["KIND", "QUESTIONS", "ask_config", "question_requests"]

QUESTIONS: Final = "questions.parquet"


def ask_config(config: QuestionsStep) -> AskStep:
    """Return how the LLM is asked, as a step ``ask`` says it."""
    budget = None if config.max_cost is None else {"max_cost": config.max_cost}
    return AskStep.model_validate(
        {"step": "ask", "prompt": config.prompt, "client": config.client, "budget": budget}
    )


def _run(context: Context) -> Mapping[str, Any]:
    config: QuestionsStep = context.config
    if config.file is not None:
        table = _read(context.recipe, config.file)
        write_table(table, context.folder.path / QUESTIONS)
        return {"from": "file", "questions": table.num_rows}
    passages = read_table(context.input("chunk") / AFTER)
    texts = dict(zip(passages["id"].to_pylist(), passages["text"].to_pylist(), strict=True))
    made = heading_questions(passages) if config.client is None else _asked(context, passages)
    index = BM25(list(texts), list(texts.values()))
    verdict = filter_questions(made, texts, index.search)
    kept = made.filter(pa.array(verdict.keep))
    write_table(
        made.append_column("dropped", pa.array(verdict.reason.tolist())),
        context.folder.path / "made.parquet",
    )
    if not kept.num_rows:
        raise DataError(
            f"none of {made.num_rows} questions made of {len(texts)} passages is any good; "
            f"the first was dropped for: {verdict.reason[0] if made.num_rows else '-'}"
        )
    document = dict(zip(passages["id"].to_pylist(), passages["document"].to_pylist(), strict=True))
    relevant = [json.dumps({document[p]: 2}) for p in kept["passage"].to_pylist()]
    out = kept.select(["id", "question", "passage", "type", "by"])
    write_table(out.append_column("relevant", pa.array(relevant)), context.folder.path / QUESTIONS)
    reasons = [r.split(":")[0] for r in verdict.reason.tolist() if r]
    return {
        "from": "headings" if config.client is None else "llm",
        "made": made.num_rows,
        "questions": kept.num_rows,
        "dropped": {r: reasons.count(r) for r in sorted(set(reasons))},
    }


def question_requests(
    config: QuestionsStep, recipe: Recipe, passages: pa.Table
) -> tuple[pa.Table, list[Request]]:
    """Return the rows to ask about and what is asked of each."""
    ask, seed = ask_config(config), recipe.config.seed
    if config.passages is not None and config.passages < passages.num_rows:
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.choice(passages.num_rows, config.passages, replace=False))
        passages = passages.take(pa.array(drawn))
    rows = question_rows(passages, per_passage=config.per_passage, seed=seed)
    batch = {name: rows[name].to_pylist() for name in rows.column_names}
    template, model = step_prompt(ask, recipe), ask_model(ask, recipe)
    return rows, requests(template, recipe.task, batch, model=model, params=ask.params)


def _asked(context: Context, passages: pa.Table) -> pa.Table:
    recipe, ask = context.recipe, ask_config(context.config)
    rows, asked = question_requests(context.config, recipe, passages)
    results, _ = ask_rows(
        ask,
        recipe,
        asked,
        state_dir=context.run_folder / "batches" / context.folder.key[:12],
        on_progress=context.progress,
    )
    schema = step_prompt(ask, recipe).schema(recipe.task)
    said: dict[str, Mapping[str, Any]] = {}
    for request, result in zip(asked, results, strict=True):
        kept, answer = judged([result], schema, None)
        if not isinstance(kept, Failure) and not isinstance(answer, InvalidAnswer):
            said[str(request.custom_id)] = answer
    return answered_questions(rows, said)


def _read(recipe: Recipe, name: str) -> pa.Table:
    """Read questions with what answers them: ``relevant``, ids with grades, or a list of ids."""
    file = recipe.resolve(name)
    table = read_table(file, text_columns=["id", "question"])
    for column in ("id", "question", "relevant"):
        if column not in table.column_names:
            guess = did_you_mean(column, table.column_names)
            raise DataError(f"the column is missing{guess}", file=file, field=column)
    grades = [
        _grades(r, file, i)
        for r, i in zip(table["relevant"].to_pylist(), table["id"].to_pylist(), strict=True)
    ]
    return pa.table(
        {
            "id": table["id"].cast(pa.string()),
            "question": table["question"].cast(pa.string()),
            "relevant": pa.array([json.dumps(g) for g in grades], pa.string()),
        }
    )


def _grades(value: Any, file: Any, row: Any) -> dict[str, int]:
    """Return grades by id; Arrow gives a mapping of all ids, with nulls, for JSON objects."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        return {str(k): int(v) for k, v in value.items() if v}
    if isinstance(value, Sequence) and value:
        return {str(k): 1 for k in value}
    raise DataError(
        f"expected ids with grades or a list of ids, got {value!r}",
        file=file,
        row=row,
        field="relevant",
    )


def _check(config: QuestionsStep, recipe: Recipe) -> None:
    if config.client is not None:
        make_client(ask_config(config), recipe)


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name == "chunk"]


def _external(config: QuestionsStep, recipe: Recipe) -> Mapping[str, Any]:
    named = [config.file] if config.file is not None else []
    if isinstance(config.client, RecordedConfig):
        named.append(config.client.answers)
    return file_prints(recipe, *named)


KIND = StepKind(
    version=1, run=_run, uses=_uses, external=_external, check=_check, about=("client",)
)
