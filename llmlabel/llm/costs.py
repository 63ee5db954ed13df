"""What a run will cost, with its range, before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmlabel.errors import ConfigError
from llmlabel.llm.cache import Cache
from llmlabel.llm.prices import ModelPrice, PriceTable
from llmlabel.llm.tokens import ESTIMATE_ERROR, TokenCounter, estimate_tokens, token_counter
from llmlabel.llm.types import Request, Usage

__all__ = [
    "CostPlan",
    "Range",
    "answer_limit",
    "estimate_completion_tokens",
    "plan_cost",
]

_Z: Final = 1.96  # 95 %
_FREE_TEXT: Final = (5, 30, 200)  # tokens of a text field that nobody bounded
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_ENOUGH: Final = 8  # past answers from which a mean is worth more than the schema
_EXACT_ERROR: Final = (0.95, 1.1)  # of what a server puts around messages and schemas


@dataclass(frozen=True)
class Range:
    """An estimate between its low and its high end.

    Examples
    --------
    >>> 10 * Range(1, 2, 4)
    Range(low=10, expected=20, high=40)
    """

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __rmul__(self, factor: float) -> Range:
        return Range(factor * self.low, factor * self.expected, factor * self.high)

    def at_most(self, limit: float) -> Range:
        """Return the range, cut off at a limit."""
        return Range(min(self.low, limit), min(self.expected, limit), min(self.high, limit))


def estimate_completion_tokens(
    schema: Mapping[str, Any] | None, *, max_tokens: int | None = None
) -> Range:
    """Estimate the tokens of one answer from what it has to look like.

    Parameters
    ----------
    schema
        The answer's JSON Schema; None: free text.
    max_tokens
        Where the answer is cut off.

    Notes
    -----
    Of an ``enum`` the shortest, the mean and the longest value count, of a
    text 5, 30 and 200 tokens, and the names and marks of JSON are counted. A
    model's hidden thoughts are not in it; what past answers took is better
    knowledge, and `plan_cost` uses that where the cache has some.

    Examples
    --------
    >>> schema = {"properties": {"label": {"enum": ["HAM", "SPAM"]}}}
    >>> estimate_completion_tokens(schema)
    Range(low=6.0, expected=6.0, high=9.0)
    """
    out = Range(*_FREE_TEXT) if schema is None else _value_tokens(schema)
    return out if max_tokens is None else out.at_most(max_tokens)


def _value_tokens(schema: Mapping[str, Any]) -> Range:
    if "enum" in schema:
        sizes = estimate_tokens([json.dumps(v, ensure_ascii=False) for v in schema["enum"]])
        return Range(float(sizes.min()), float(sizes.mean()), float(sizes.max()))
    properties = schema.get("properties")
    if properties:
        # Name, colon, comma; and a model may write spaces and line ends, or not.
        names = estimate_tokens([f'"{name}":' for name in properties])
        parts = [_value_tokens(rule) for rule in properties.values()]
        total = Range(2, 2, 2)
        for size, part in zip(names, parts, strict=True):
            total += part + Range(float(size), float(size), float(size) + 3)
        return total
    kind = schema.get("type")
    if kind == "array":
        most = schema.get("maxItems", 5)
        item = _value_tokens(schema.get("items", {}))
        return Range(1, 1 + item.expected * most / 2, 1 + item.high * most)
    if kind in {"number", "integer", "boolean"}:
        return Range(1, 3, 4) if kind == "number" else Range(1, 1, 2)
    return Range(*_FREE_TEXT)


@dataclass(frozen=True)
class CostPlan:
    """What asking would cost, before anything is asked.

    Parameters
    ----------
    model
        The model.
    total, cached, calls
        Requests; different questions the cache answers already; calls that are left.
    prompt_tokens, completion_tokens
        Of all calls together, with their ranges.
    usd
        Dollars; None where the model has no price.
    priced_as
        The name in the price table.
    sampled
        How many of the calls were looked at.
    basis
        Where the numbers come from, in a few words each.
    warnings
        What the reader has to know before trusting them.
    """

    model: str
    total: int
    cached: int
    calls: int
    prompt_tokens: Range
    completion_tokens: Range
    usd: Range | None
    priced_as: str | None
    sampled: int
    basis: tuple[str, ...]
    warnings: tuple[str, ...]


def plan_cost(
    requests: Sequence[Request],
    provider: str,
    prices: PriceTable,
    *,
    model: str | None = None,
    cache: Cache | None = None,
    batch: bool = False,
    sample: int = 256,
    seed: int = 0,
) -> CostPlan:
    """Estimate calls, tokens and dollars of `complete_all` or `complete_batch`.

    Parameters
    ----------
    requests
        What would be asked, of one model.
    provider
        `Client.provider` of who would be asked.
    prices
        The price table.
    model
        The model that the client asks, where it overrides the requests'.
    cache
        Answers that are there cost nothing; and what they took in tokens tells
        what the others will take.
    batch
        Whether the Batch API's discount comes off.
    sample, seed
        How many prompts are counted, drawn at random by the seed.

    Returns
    -------
    The plan. Its ranges hold the sampling error (95 %) and the tokenizer's
    error, the second only as far as no past answers measure it.

    Raises
    ------
    ConfigError
        The requests go to several models.

    Examples
    --------
    >>> from llmlabel.llm.prices import load_prices
    >>> asked = [
    ...     Request(f"row-{i}", "gpt-4o-mini", [{"role": "user", "content": f"Is {i} spam?"}])
    ...     for i in range(1000)
    ... ]
    >>> plan = plan_cost(asked, "api.openai.com", load_prices())
    >>> plan.calls, f"${plan.usd.low:.2f} to ${plan.usd.high:.2f}"
    (1000, '$0.00 to $0.12')
    """
    name = _one_model(requests, model)
    distinct = {request.key(provider): request for request in requests}
    known = cache.known(distinct) if cache is not None else set()
    to_ask = [request for key, request in distinct.items() if key not in known]
    rng = np.random.default_rng(seed)
    past = _past(distinct, sorted(known), cache, sample, rng)
    counter = token_counter(name)
    chosen = _draw(to_ask, sample, rng)
    ratio = _real_over_counted(counter, past)
    prompt = _total(counter.prompts(chosen), len(to_ask))
    prompt = Range(
        prompt.low * ratio.low, prompt.expected * ratio.expected, prompt.high * ratio.high
    )
    completion = _completion(chosen, len(to_ask), past)
    found = prices.find(name)
    return CostPlan(
        model=name,
        total=len(requests),
        cached=len(known),
        calls=len(to_ask),
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd=None if found is None else _usd(found[1], prompt, completion, batch=batch),
        priced_as=None if found is None else found[0],
        sampled=len(chosen),
        basis=_basis(counter, past),
        warnings=_warnings(name, prices, past, chosen, batch=batch),
    )


def _one_model(requests: Sequence[Request], model: str | None) -> str:
    names = {model} if model else {request.model for request in requests}
    if len(names) > 1:
        raise ConfigError(f"expected requests to one model, got {', '.join(sorted(names))}")
    return next(iter(names), "") or ""


def _draw(items: Sequence[Any], wanted: int, rng: np.random.Generator) -> list[Any]:
    if wanted >= len(items):
        return list(items)
    return [items[i] for i in np.sort(rng.choice(len(items), wanted, replace=False))]


def _past(
    distinct: Mapping[str, Request],
    known: Sequence[str],
    cache: Cache | None,
    sample: int,
    rng: np.random.Generator,
) -> list[tuple[Request, Usage]]:
    if cache is None or not known:
        return []
    found = cache.get_many(_draw(known, sample, rng))
    out = [(distinct[key], response.usage) for key, response in found.items()]
    return [(request, usage) for request, usage in out if usage is not None]


def _total(sizes: NDArray[np.int64], n: int, *, of_others: bool = False) -> Range:
    """Return the total over n items of which `sizes` are a sample, or `of_others` like them."""
    if not n or not len(sizes):
        return Range(0, 0, 0)
    k, mean = len(sizes), float(sizes.mean())
    variance = float(sizes.var(ddof=1)) if k > 1 else mean**2
    # A sample of n leaves n - k to guess; the n others are drawn anew and vary themselves.
    spread = n * n / k + n if of_others else n * (n - k) / k
    error = _Z * float(np.sqrt(variance * spread))
    total = n * mean
    return Range(max(total - error, 0.0), total, total + error)


def _real_over_counted(counter: TokenCounter, past: Sequence[tuple[Request, Usage]]) -> Range:
    if len(past) < _ENOUGH:
        low, high = _EXACT_ERROR if counter.exact else ESTIMATE_ERROR
        return Range(low, 1.0, high)
    counted = counter.prompts([request for request, _ in past]).astype(float)
    real = np.array([usage.prompt_tokens for _, usage in past], dtype=float)
    ratio = float(real.sum() / counted.sum())
    # The standard error of a ratio of sums, Cochran (1977), equation 6.13.
    rest = real - ratio * counted
    error = _Z * float(np.sqrt((rest @ rest) / (len(past) - 1) / len(past)) / counted.mean())
    return Range(max(ratio - error, 0.0), ratio, ratio + error)


def _completion(chosen: Sequence[Request], n: int, past: Sequence[tuple[Request, Usage]]) -> Range:
    if len(past) >= _ENOUGH:
        sizes = np.array([usage.completion_tokens for _, usage in past], dtype=np.int64)
        return _total(sizes, n, of_others=True)
    if not chosen:
        return Range(0, 0, 0)
    # The rows of one prompt share their schema, so the first stands for all.
    first = chosen[0]
    return n * estimate_completion_tokens(first.schema, max_tokens=answer_limit(first))


def answer_limit(request: Request) -> int | None:
    """Return the most tokens that a request lets an answer have, or None."""
    limits = [request.params[name] for name in _LIMITS if name in request.params]
    return int(min(limits)) if limits else None


def _usd(price: ModelPrice, prompt: Range, completion: Range, *, batch: bool) -> Range:
    factor = (1.0 - (price.batch_discount or 0.0) if batch else 1.0) / 1_000_000
    return factor * (price.input * prompt + price.output * completion)


def _basis(counter: TokenCounter, past: Sequence[tuple[Request, Usage]]) -> tuple[str, ...]:
    how = counter.name if counter.exact else "estimate by script, no tokenizer at hand"
    if len(past) < _ENOUGH:
        return (f"prompt tokens: {how}", "answer tokens: from the answer's schema")
    return (
        f"prompt tokens: {how}, set right by {len(past)} past answers",
        f"answer tokens: mean of {len(past)} past answers",
    )


def _warnings(
    name: str,
    prices: PriceTable,
    past: Sequence[tuple[Request, Usage]],
    chosen: Sequence[Request],
    *,
    batch: bool,
) -> tuple[str, ...]:
    found = prices.find(name)
    if found is None:
        return (prices.unpriced(name),)
    out = []
    _, price = found
    if price.reasoning and len(past) < _ENOUGH and chosen:
        out.append(f"{name} bills its hidden thoughts as output: ask some rows first, then plan")
    if batch and price.batch_discount is None:
        out.append(f"the price table knows no batch discount of {name}: the full price is shown")
    return tuple(out)
