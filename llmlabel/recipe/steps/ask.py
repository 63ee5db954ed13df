"""Ask a language model about some rows; every answer is kept before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.io import cache_dir, read_table, write_table
from llmlabel.lf import requests
from llmlabel.llm import (
    Cache,
    Client,
    Failure,
    InvalidAnswer,
    OpenAIClient,
    Prompt,
    RecordedClient,
    Request,
    Response,
    complete_all,
    load_prompt,
    parse_answer,
)
from llmlabel.recipe.config import AskStep, OpenAIConfig, RecordedConfig
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind, file_prints

__all__ = [
    "KIND",
    "answer_fields",
    "answers",
    "answers_cache",
    "make_client",
    "make_requests",
    "step_prompt",
]

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


def step_prompt(config: AskStep, recipe: Recipe) -> Prompt:
    """Return the step's prompt: a file beside the recipe, or a shipped one."""
    path = recipe.resolve(config.prompt)
    return load_prompt(path if path.is_file() else config.prompt)


def answer_fields(config: AskStep, recipe: Recipe) -> tuple[str, ...]:
    """Return the fields of the prompt's answers."""
    return tuple(step_prompt(config, recipe).schema(recipe.task)["properties"])


def make_client(config: AskStep, recipe: Recipe) -> tuple[Client, int]:
    """Return the step's client and how many calls may be in flight."""
    spec = config.client
    if isinstance(spec, RecordedConfig):
        return RecordedClient(recipe.resolve(spec.answers)), 64
    values = spec.model_dump(exclude={"use", "endpoint"})
    if spec.endpoint is not None:
        if spec.endpoint not in recipe.endpoints:
            raise UnknownNameError(
                "endpoint", spec.endpoint, recipe.endpoints, where="the --config file"
            )
        named = recipe.endpoints[spec.endpoint].model_dump(exclude_none=True)
        values = {**values, **named}
    limit = values.pop("max_in_flight")
    return OpenAIClient(**values), limit


def make_requests(
    config: AskStep, recipe: Recipe, splits: Mapping[str, pa.Table]
) -> list[tuple[str, Request]]:
    """Return (split, request) for the rows that the step asks about."""
    template = step_prompt(config, recipe)
    model = _model(config, recipe)
    out: list[tuple[str, Request]] = []
    for split, wanted in config.rows.items():
        if split not in splits:
            raise ConfigError(
                f"{recipe.file}: the step 'ask' wants rows of {split!r}, but data names no such split"
            )
        rows = splits[split]
        rows = rows.take(pa.array(_draw(rows.num_rows, wanted, recipe.config.seed)))
        batch = {name: rows[name].to_pylist() for name in rows.column_names}
        out += [(split, r) for r in requests(template, recipe.task, batch, model=model)]
    return out


def _draw(n: int, wanted: int | str, seed: int) -> Sequence[int]:
    if wanted == "all" or int(wanted) >= n:
        return range(n)
    chosen = np.random.default_rng(seed).choice(n, int(wanted), replace=False)
    return [int(i) for i in np.sort(chosen)]


def _model(config: AskStep, recipe: Recipe) -> str | None:
    spec = config.client
    if not isinstance(spec, OpenAIConfig):
        return None
    endpoint = recipe.endpoints.get(spec.endpoint) if spec.endpoint else None
    return spec.model or (endpoint.model if endpoint else None)


def answers_cache() -> Cache:
    """Return the user's cache of paid answers, which all runs share."""
    return Cache(cache_dir() / "answers.sqlite")


def _run(context: Context) -> Mapping[str, Any]:
    recipe, config = context.recipe, context.config
    asked = make_requests(config, recipe, {s: context.rows(s) for s in context.splits})
    client, limit = make_client(config, recipe)
    only = [request for _, request in asked]
    with answers_cache() as cache:
        results = complete_all(
            only, client, cache=cache, max_in_flight=limit, on_result=_counter(context, len(only))
        )
    template = step_prompt(config, recipe)
    schema = template.schema(recipe.task)
    rows = [
        {
            "split": split,
            "prompt_version": template.version,
            **_row(request, result, schema, client.provider),
        }
        for (split, request), result in zip(asked, results, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_table(table, context.folder.path / "answers.parquet")
    return _facts(table, client)


def _counter(context: Context, total: int) -> Any:
    done = iter(range(1, total + 1))

    def count(*_: object) -> None:
        context.progress(next(done, total), total)

    return count


def _row(
    request: Request, result: Response | Failure, schema: Mapping[str, Any], provider: str
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
    parsed = parse_answer(result.text, schema)
    return {
        **row,
        "status": "invalid" if isinstance(parsed, InvalidAnswer) else "ok",
        "reason": parsed.reason if isinstance(parsed, InvalidAnswer) else None,
        "answer": None if isinstance(parsed, InvalidAnswer) else json.dumps(parsed),
        "model": result.model,
        "prompt_tokens": result.usage.prompt_tokens if result.usage else None,
        "completion_tokens": result.usage.completion_tokens if result.usage else None,
        "latency_s": result.latency_s,
        "created": result.created,
        "cached": result.cached,
    }


def _facts(table: pa.Table, client: Client) -> dict[str, Any]:
    status = table["status"].to_pylist()
    splits = table["split"].to_pylist()
    return {
        "recorded": isinstance(client, RecordedClient),
        "asked": {s: splits.count(s) for s in dict.fromkeys(splits)},
        "ok": status.count("ok"),
        "invalid": status.count("invalid"),
        "failed": status.count("failed"),
        "cached": sum(table["cached"].to_pylist()),
        "prompt_tokens": sum(t or 0 for t in table["prompt_tokens"].to_pylist()),
        "completion_tokens": sum(t or 0 for t in table["completion_tokens"].to_pylist()),
    }


def answers(folder: Path, ids: Sequence[str]) -> list[dict[str, Any] | None]:
    """Return the checked answer of each row, None where none was asked for or none came."""
    table = read_table(folder / "answers.parquet", allow_empty=True)
    said = dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    return [None if said.get(i) is None else json.loads(said[i]) for i in ids]


def _external(config: AskStep, recipe: Recipe) -> Mapping[str, Any]:
    prints: dict[str, Any] = {
        "prompt": step_prompt(config, recipe).fingerprint(recipe.task),
        "model": _model(config, recipe),
        "seed": recipe.config.seed,
    }
    if isinstance(config.client, RecordedConfig):
        prints |= file_prints(recipe, config.client.answers)
    return prints


KIND = StepKind(version=2, run=_run, uses=lambda _, __: ("load",), external=_external)
