"""What a run did cost: its real usage by model, and what the cache saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.llm.prices import PriceTable, cost_of
from llmlabel.llm.types import Usage

__all__ = ["ModelUsage", "UsageSummary", "usage_summary"]


@dataclass(frozen=True)
class ModelUsage:
    """What one model was used for.

    Parameters
    ----------
    group
        The value of the column that the summary is grouped by; empty without one.
    model
        The model that the server says answered.
    calls, cached
        Rows that a call was paid for, and rows that cost none.
    prompt_tokens, completion_tokens
        Paid.
    saved_tokens
        Not paid, thanks to the cache.
    unknown
        Rows whose tokens the server did not count.
    usd, saved_usd
        Paid and saved; None where the model has no price.
    """

    group: str
    model: str
    calls: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    saved_tokens: int
    unknown: int
    usd: float | None
    saved_usd: float | None


@dataclass(frozen=True)
class UsageSummary:
    """What a run cost, by model, and what its cache saved.

    Parameters
    ----------
    models
        One entry per group and model.
    warnings
        Models without a price, rows without a count.
    """

    models: tuple[ModelUsage, ...]
    warnings: tuple[str, ...]

    @property
    def usd(self) -> float:
        """Dollars paid to models that have a price."""
        return sum(m.usd or 0.0 for m in self.models)

    @property
    def saved_usd(self) -> float:
        """Dollars that the cache saved."""
        return sum(m.saved_usd or 0.0 for m in self.models)


def usage_summary(
    table: pa.Table, prices: PriceTable, *, by: str | None = None, batch: bool = False
) -> UsageSummary:
    """Sum up the real usage of a table of answers.

    Parameters
    ----------
    table
        Columns model, prompt_tokens, completion_tokens and cached, as the ask
        step's answers.parquet has. Rows without a model (failed) are left out.
    prices
        The price table.
    by
        A further column to group by, such as the prompt's or LF's name.
    batch
        Whether the calls went through the Batch API.

    Examples
    --------
    >>> from llmlabel.llm.prices import load_prices
    >>> table = pa.table({
    ...     "model": ["gpt-4o-mini-2024-07-18"] * 2, "cached": [False, True],
    ...     "prompt_tokens": [1_000_000] * 2, "completion_tokens": [0, 0],
    ... })
    >>> used = usage_summary(table, load_prices())
    >>> used.usd, used.saved_usd, used.models[0].calls
    (0.15, 0.15, 1)
    """
    keys = [by, "model"] if by else ["model"]
    rows = table.filter(pc.is_valid(table["model"]))
    rows = rows.append_column("unknown", pc.cast(pc.is_null(rows["prompt_tokens"]), pa.int64()))
    sums = [(name, "sum") for name in ("prompt_tokens", "completion_tokens", "unknown")]
    grouped = rows.group_by([*keys, "cached"]).aggregate([*sums, ("model", "count")])
    parts: dict[tuple[str, str], dict[bool, dict[str, Any]]] = {}
    for row in grouped.to_pylist():
        group = str(row[by]) if by else ""
        parts.setdefault((group, row["model"]), {})[bool(row["cached"])] = row
    models = tuple(
        _model_usage(group, model, part, prices, batch=batch)
        for (group, model), part in sorted(parts.items())
    )
    unpriced = {m.model: prices.unpriced(m.model) for m in models if m.usd is None}
    unknown = {
        m.model: f"{m.unknown} answers of {m.model!r} without a count of tokens: they cost more"
        for m in models
        if m.unknown
    }
    return UsageSummary(models, (*unpriced.values(), *unknown.values()))


_NOTHING: Final = {
    "model_count": 0,
    "prompt_tokens_sum": 0,
    "completion_tokens_sum": 0,
    "unknown_sum": 0,
}


def _model_usage(
    group: str,
    model: str,
    part: Mapping[bool, Mapping[str, Any]],
    prices: PriceTable,
    *,
    batch: bool,
) -> ModelUsage:
    paid, saved = part.get(False, _NOTHING), part.get(True, _NOTHING)
    used, not_used = (
        Usage(row["prompt_tokens_sum"] or 0, row["completion_tokens_sum"] or 0)
        for row in (paid, saved)
    )
    return ModelUsage(
        group=group,
        model=model,
        calls=paid["model_count"],
        cached=saved["model_count"],
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        saved_tokens=not_used.prompt_tokens + not_used.completion_tokens,
        unknown=paid["unknown_sum"] or 0,
        usd=cost_of(used, model, prices, batch=batch).usd,
        saved_usd=cost_of(not_used, model, prices, batch=batch).usd,
    )
