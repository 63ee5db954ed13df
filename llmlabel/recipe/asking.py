"""How an ``ask`` step asks: its prompt, its client, its requests, its budget, its mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.io import cache_dir
from llmlabel.lf import requests
from llmlabel.llm import (
    Cache,
    Client,
    Failure,
    LocalClient,
    OpenAIClient,
    Prompt,
    RecordedClient,
    Request,
    Response,
    complete_all,
    load_prompt,
    table_texts,
)
from llmlabel.llm.batch import complete_batch
from llmlabel.llm.budget import Budget, Budgeted, plan_bound
from llmlabel.llm.calibration import content_free_requests
from llmlabel.llm.costs import plan_cost
from llmlabel.llm.packing import Ask, complete_packed, pack
from llmlabel.llm.prices import PriceTable, load_prices
from llmlabel.recipe.client_config import LocalConfig, OpenAIConfig, RecordedConfig
from llmlabel.recipe.config import AskStep
from llmlabel.recipe.few_shot import choose_examples
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.surety import confidence_field, values_of

__all__ = [
    "NO_ROW",
    "answer_fields",
    "answers_cache",
    "ask_model",
    "ask_rows",
    "make_client",
    "make_requests",
    "price_table",
    "step_budget",
    "step_prompt",
    "to_send",
]

Progress = Callable[[int, int], None]
NO_ROW = "(no row)"
LOCAL_IN_FLIGHT = 256  # rows from which a local model forms batches of like length


def step_prompt(config: AskStep, recipe: Recipe) -> Prompt:
    """Return the step's prompt: a file beside the recipe, or a shipped one."""
    path = recipe.resolve(config.prompt)
    return load_prompt(path if path.is_file() else config.prompt)


def answer_fields(config: AskStep, recipe: Recipe) -> tuple[str, ...]:
    """Return the fields of the prompt's answers."""
    schema = step_prompt(config, recipe).schema(recipe.task)
    fields = tuple(schema["properties"])
    if config.confidence is None:
        return fields
    values_of(config.confidence, schema)
    return (*fields, confidence_field(config.confidence))


def price_table(recipe: Recipe) -> PriceTable:
    """Return the shipped prices, with those of the --config file in front."""
    return load_prices(recipe.endpoints.prices)


def answers_cache() -> Cache:
    """Return the user's cache of paid answers, which all runs share."""
    return Cache(cache_dir() / "answers.sqlite")


def ask_model(config: AskStep, recipe: Recipe) -> str | None:
    """Return the model that the recipe or its endpoint names; None: the prompt's own hint."""
    spec = config.client
    return _endpoint(spec, recipe)["model"] if isinstance(spec, OpenAIConfig) else None


def make_client(config: AskStep, recipe: Recipe) -> tuple[Client, int]:
    """Return the step's client and how many calls may be in flight.

    Raises
    ------
    UnknownNameError
        An endpoint that the --config file does not have.
    """
    spec = config.client
    if isinstance(spec, RecordedConfig):
        return RecordedClient(recipe.resolve(spec.answers)), 64
    if isinstance(spec, LocalConfig):
        beside = recipe.resolve(spec.model)
        name = str(beside) if beside.is_dir() else spec.model
        return LocalClient(name, mode=spec.mode, device=spec.device), LOCAL_IN_FLIGHT
    found = _endpoint(spec, recipe)
    client = OpenAIClient(base_url=found["base_url"], api_key_env=found["api_key_env"])
    return client, found["max_in_flight"]


def make_requests(
    config: AskStep, recipe: Recipe, splits: Mapping[str, pa.Table]
) -> list[tuple[str, Request]]:
    """Return (split, request) for the rows that the step asks about.

    Last, with the split `NO_ROW`, what is asked about no row at all.
    """
    template = step_prompt(config, recipe)
    out: list[tuple[str, Request]] = []
    for split, wanted in config.rows.items():
        if split not in splits:
            raise ConfigError(
                f"{recipe.file}: the step 'ask' wants rows of {split!r}, "
                "but data names no such split"
            )
        rows = splits[split]
        rows = rows.take(pa.array(_draw(rows.num_rows, wanted, recipe.config.seed)))
        batch = {name: rows[name].to_pylist() for name in rows.column_names}
        shown = None
        if config.examples is not None:
            texts = table_texts(rows, recipe.task.text)
            shown = choose_examples(config.examples, recipe, template, batch["id"], texts)
        asked = requests(
            template,
            recipe.task,
            batch,
            model=ask_model(config, recipe),
            params=_params(config),
            examples=shown,
        )
        out += [(split, r) for r in asked]
    if config.confidence is not None and config.confidence.contextual:
        model, params = ask_model(config, recipe), _params(config)
        free = content_free_requests(template, recipe.task, model=model, params=params)
        out += [(NO_ROW, r) for r in free]
    return out


def _params(config: AskStep) -> dict[str, Any]:
    if config.confidence is not None and config.confidence.by == "logprobs":
        return {"logprobs": True, "top_logprobs": 20, **config.params}
    return dict(config.params)


def to_send(config: AskStep, asked: Sequence[Request], seed: int) -> list[Request]:
    """Return what goes out for the rows: samples of each, or several rows in one request."""
    sure = config.confidence
    if sure is not None and sure.by == "samples":
        return [replace(r, sample=i) for r in asked for i in range(sure.samples)]
    if config.rows_per_request > 1:
        return [p.request for p in pack(asked, config.rows_per_request, seed)]
    return list(asked)


def ask_rows(
    config: AskStep,
    recipe: Recipe,
    asked: Sequence[Request],
    *,
    state_dir: Path,
    on_progress: Progress,
    budget: Budget | None = None,
) -> tuple[list[Response | Failure], str]:
    """Ask, live or through the Batch API, within the budget.

    Parameters
    ----------
    asked
        The requests.
    state_dir
        Where the state of batches under way is kept.
    on_progress
        Told how many rows are done, of how many.
    budget
        What may be spent, where several calls share it; by default the step's, anew.

    Returns
    -------
    One result per request that `to_send` makes of them, or, of packed rows, one
    per row; and the client's provider.

    Raises
    ------
    BudgetExceeded
        The next call would pass the budget; every answer so far is in the cache.
    ClientError
        No row can succeed: a bad key, an unknown model, no recorded answer.
    """
    client, limit = make_client(config, recipe)
    budget = budget or step_budget(config)
    with answers_cache() as cache:
        if config.mode == "batch" and isinstance(client, OpenAIClient):
            _check_batch_budget(config, recipe, asked, client, cache, budget)
            ask: Ask = partial(
                complete_batch,
                client=client,
                cache=cache,
                state_dir=state_dir,
                poll_s=config.poll_s,
                on_poll=on_progress,
            )
        else:
            ask = partial(
                complete_all,
                client=client if budget is None else Budgeted(client, budget, price_table(recipe)),
                cache=cache,
                max_in_flight=limit,
                on_result=_counter(on_progress, len(to_send(config, asked, recipe.config.seed))),
            )
        if config.rows_per_request > 1:
            packed = complete_packed(asked, ask, config.rows_per_request, seed=recipe.config.seed)
            return list(packed.results), client.provider
        return list(ask(to_send(config, asked, recipe.config.seed))), client.provider


def _check_batch_budget(
    config: AskStep,
    recipe: Recipe,
    asked: Sequence[Request],
    client: Client,
    cache: Cache,
    budget: Budget | None,
) -> None:
    """A batch is sent whole, so the most that it can cost has to fit before it is."""
    if budget is None or config.budget is None:
        return
    prices = price_table(recipe)
    sent = to_send(config, asked, recipe.config.seed)
    cost = plan_cost(sent, client.provider, prices, cache=cache, batch=True)
    if cost.usd is None and config.budget.max_cost is not None:
        raise ConfigError(f"budget: max_cost: {prices.unpriced(cost.model)}")
    budget.reserve(plan_bound(cost))


def step_budget(config: AskStep) -> Budget | None:
    """Return what the step may spend, nothing of it spent; None without a limit."""
    return None if config.budget is None else Budget(**config.budget.model_dump())


def _endpoint(spec: OpenAIConfig, recipe: Recipe) -> dict[str, Any]:
    """The endpoint's values, with what the recipe itself says in front."""
    known = recipe.endpoints.endpoints
    own = spec.model_dump(exclude={"use", "endpoint"}, exclude_unset=True)
    defaults = spec.model_dump(exclude={"use", "endpoint"})
    if spec.endpoint is None:
        return defaults
    if spec.endpoint not in known:
        raise UnknownNameError("endpoint", spec.endpoint, known, where="the --config file")
    return {**defaults, **known[spec.endpoint].model_dump(), **own}


def _draw(n: int, wanted: int | str, seed: int) -> Sequence[int]:
    if wanted == "all" or int(wanted) >= n:
        return range(n)
    chosen = np.random.default_rng(seed).choice(n, int(wanted), replace=False)
    return [int(i) for i in np.sort(chosen)]


def _counter(on_progress: Progress, total: int) -> Callable[..., None]:
    done = iter(range(1, total + 1))

    def count(*_: object) -> None:
        on_progress(next(done, total), total)

    return count
