"""Ask a language model about some rows; every answer is kept before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmlabel.io import read_table, write_table
from llmlabel.llm import Failure, InvalidAnswer, Request, Response
from llmlabel.llm.usage import usage_summary
from llmlabel.recipe.asking import (
    NO_ROW,
    ask_model,
    ask_rows,
    make_client,
    make_requests,
    price_table,
    step_prompt,
)
from llmlabel.recipe.calibrating import calibrated, read_known
from llmlabel.recipe.client_config import OpenAIConfig, RecordedConfig
from llmlabel.recipe.config import AskStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.surety import Answer, judged, prompt_lean, values_of

__all__ = ["KIND", "answers"]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("status", pa.string()),  # ok, invalid or failed
        ("answer", pa.string()),  # JSON of the checked answer
        ("reason", pa.string()),
        ("prompt", pa.string()),
        ("prompt_version", pa.string()),
        ("prompt_sha256", pa.string()),
        ("params", pa.string()),  # JSON of the sampling parameters
        ("model", pa.string()),  # as the server names it
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("latency_s", pa.float64()),
        ("created", pa.int64()),  # seconds since 1970
        ("cached", pa.bool_()),
        ("key", pa.string()),
    ]
)


def _run(context: Context) -> Mapping[str, Any]:
    recipe, config = context.recipe, context.config
    asked = make_requests(config, recipe, {s: context.rows(s) for s in context.splits})
    results, provider = ask_rows(
        config,
        recipe,
        [request for _, request in asked],
        state_dir=context.run_folder / "batches" / context.folder.key[:12],
        on_progress=context.progress,
    )
    template = step_prompt(config, recipe)
    schema = template.schema(recipe.task)
    each = len(results) // max(len(asked), 1)  # samples per row
    lean, asked = None, [(s, r) for s, r in asked if s != NO_ROW]
    if config.confidence is not None and config.confidence.contextual:
        lean = prompt_lean(results[len(asked) :], schema, config.confidence)
        results = results[: len(asked)]
    starts = range(0, len(results), each or 1)
    found = [judged(results[i : i + each], schema, config.confidence, lean) for i in starts]
    said, fitted = _calibrate(
        [answer for _, answer in found], [r.custom_id for _, r in asked], schema, context
    )
    rows = [
        {
            "split": split,
            "prompt_version": template.version,
            **_row(request, provider, result, answer),
        }
        for (split, request), (result, _), answer in zip(asked, found, said, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_table(table, context.folder.path / "answers.parquet")
    facts = {**_facts(table, config, recipe), **fitted}
    return facts if lean is None else {**facts, "contextual_bias": lean.bias}


def _calibrate(
    answers: list[Answer], ids: list[str], schema: Mapping[str, Any], context: Context
) -> tuple[list[Answer], dict[str, Any]]:
    """Calibrate the confidences, where the recipe names rows with a known answer."""
    sure, task = context.config.confidence, context.recipe.task
    if sure is None or sure.calibrate is None:
        return answers, {}
    choices = values_of(sure, schema)
    classes = [value for value in choices if value in task.names]
    values = classes if len(classes) > 1 else choices  # without UNSURE and its like
    known = read_known(context.recipe.resolve(sure.calibrate), sure.of, values)
    said, fitted = calibrated(answers, ids, sure, values, known, context.recipe.config.seed)
    return said, {
        "calibration": fitted.method,
        "calibration_rows": fitted.n_rows,
        "calibration_slope": fitted.slope,
    }


def _row(
    request: Request,
    provider: str,
    result: Response | Failure,
    answer: dict[str, Any] | InvalidAnswer,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": request.custom_id,
        "prompt": request.prompt,
        "prompt_sha256": request.prompt_fingerprint,
        "params": json.dumps(dict(request.params)),
        "key": request.key(provider),
    }
    if isinstance(result, Failure):
        return {**row, "status": "failed", "reason": result.reason, "cached": False}
    invalid = isinstance(answer, InvalidAnswer)
    return {
        **row,
        "status": "invalid" if invalid else "ok",
        "reason": answer.reason if isinstance(answer, InvalidAnswer) else None,
        "answer": None if invalid else json.dumps(answer),
        "model": result.model,
        "prompt_tokens": result.usage.prompt_tokens if result.usage else None,
        "completion_tokens": result.usage.completion_tokens if result.usage else None,
        "latency_s": result.latency_s,
        "created": result.created,
        "cached": result.cached,
    }


def _facts(table: pa.Table, config: AskStep, recipe: Recipe) -> dict[str, Any]:
    status = table["status"].to_pylist()
    splits = table["split"].to_pylist()
    facts: dict[str, Any] = {
        "recorded": isinstance(config.client, RecordedConfig),
        "asked": {s: splits.count(s) for s in dict.fromkeys(splits)},
        "ok": status.count("ok"),
        "invalid": status.count("invalid"),
        "failed": status.count("failed"),
    }
    for name, state in (("first_failure", "failed"), ("first_invalid", "invalid")):
        if state in status:
            facts[name] = table["reason"][status.index(state)].as_py()
    if isinstance(config.client, OpenAIConfig):
        used = usage_summary(table, price_table(recipe), batch=config.mode == "batch")
        facts |= {
            "cached": sum(table["cached"].to_pylist()),
            "prompt_tokens": sum(m.prompt_tokens for m in used.models),
            "completion_tokens": sum(m.completion_tokens for m in used.models),
            "usd": None if any(m.usd is None for m in used.models) else round(used.usd, 6),
            "saved_usd": round(used.saved_usd, 6),
        }
    return facts


def answers(folder: Path, ids: Sequence[str]) -> list[dict[str, Any] | None]:
    """Return the checked answer of each row, None where none was asked for or none came."""
    table = read_table(folder / "answers.parquet", allow_empty=True)
    said = dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    return [None if said.get(i) is None else json.loads(said[i]) for i in ids]


def _external(config: AskStep, recipe: Recipe) -> Mapping[str, Any]:
    prints: dict[str, Any] = {
        "prompt": step_prompt(config, recipe).fingerprint(recipe.task),
        "model": ask_model(config, recipe),
        "seed": recipe.config.seed,
    }
    if isinstance(config.client, OpenAIConfig):
        prints["provider"] = make_client(config, recipe)[0].provider
    if isinstance(config.client, RecordedConfig):
        prints |= file_prints(recipe, config.client.answers)
    if config.confidence is not None and config.confidence.calibrate is not None:
        prints |= file_prints(recipe, config.confidence.calibrate)
    if config.examples is not None:
        prints |= file_prints(recipe, config.examples.file)
    return prints


KIND = StepKind(
    version=2,
    run=_run,
    uses=lambda _, __: ("load",),
    external=_external,
    check=make_client,
    about=("client",),
)
