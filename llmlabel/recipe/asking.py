"""How an ``ask`` step asks: its prompt, its client, its requests, its budget, its mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    OpenAIClient,
    Prompt,
    RecordedClient,
    Request,
    Response,
    complete_all,
    load_prompt,
)
from llmlabel.llm.batch import complete_batch
from llmlabel.llm.budget import Budget, Budgeted, plan_bound
from llmlabel.llm.costs import plan_cost
from llmlabel.llm.prices import PriceTable, load_prices
from llmlabel.recipe.config import AskStep, BudgetConfig, OpenAIConfig, RecordedConfig
from llmlabel.recipe.load import Recipe

__all__ = [
    "answer_fields",
    "answers_cache",
    "ask_model",
    "ask_rows",
    "make_client",
    "make_requests",
    "price_table",
    "step_prompt",
]

Progress = Callable[[int, int], None]


def step_prompt(config: AskStep, recipe: Recipe) -> Prompt:
    """Return the step's prompt: a file beside the recipe, or a shipped one."""
    path = recipe.resolve(config.prompt)
    return load_prompt(path if path.is_file() else config.prompt)


def answer_fields(config: AskStep, recipe: Recipe) -> tuple[str, ...]:
    """Return the fields of the prompt's answers."""
    return tuple(step_prompt(config, recipe).schema(recipe.task)["properties"])


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
    found = _endpoint(spec, recipe)
    client = OpenAIClient(base_url=found["base_url"], api_key_env=found["api_key_env"])
    return client, found["max_in_flight"]


def make_requests(
    config: AskStep, recipe: Recipe, splits: Mapping[str, pa.Table]
) -> list[tuple[str, Request]]:
    """Return (split, request) for the rows that the step asks about."""
    template = step_prompt(config, recipe)
    model = ask_model(config, recipe)
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
        out += [(split, r) for r in requests(template, recipe.task, batch, model=model)]
    return out


def ask_rows(
    config: AskStep,
    recipe: Recipe,
    asked: Sequence[Request],
    *,
    state_dir: Path,
    on_progress: Progress,
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

    Returns
    -------
    One result per request, and the client's provider.

    Raises
    ------
    BudgetExceeded
        The next call would pass the budget; every answer so far is in the cache.
    ClientError
        No row can succeed: a bad key, an unknown model, no recorded answer.
    """
    client, limit = make_client(config, recipe)
    with answers_cache() as cache:
        if config.mode == "batch" and isinstance(client, OpenAIClient):
            _check_batch_budget(config, recipe, asked, client, cache)
            results = complete_batch(
                asked,
                client,
                cache=cache,
                state_dir=state_dir,
                poll_s=config.poll_s,
                on_poll=on_progress,
            )
        else:
            results = complete_all(
                asked,
                _within_budget(client, config, recipe),
                cache=cache,
                max_in_flight=limit,
                on_result=_counter(on_progress, len(asked)),
            )
    return results, client.provider


def _check_batch_budget(
    config: AskStep, recipe: Recipe, asked: Sequence[Request], client: Client, cache: Cache
) -> None:
    """A batch is sent whole, so the most that it can cost has to fit before it is."""
    if config.budget is None:
        return
    prices = price_table(recipe)
    cost = plan_cost(asked, client.provider, prices, cache=cache, batch=True)
    if cost.usd is None and config.budget.max_cost is not None:
        raise ConfigError(f"budget: max_cost: {prices.unpriced(cost.model)}")
    _budget(config.budget).reserve(plan_bound(cost))


def _budget(spec: BudgetConfig) -> Budget:
    return Budget(**spec.model_dump())


def _within_budget(client: Client, config: AskStep, recipe: Recipe) -> Client:
    if config.budget is None:
        return client
    return Budgeted(client, _budget(config.budget), price_table(recipe))


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
