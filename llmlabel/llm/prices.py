"""What a model's tokens cost: the shipped list prices, and the user's own in front of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from llmlabel.errors import ConfigError, UnknownNameError, nearest_name
from llmlabel.io import read_yaml
from llmlabel.io.shipped import shipped_folder
from llmlabel.llm.types import Usage

__all__ = ["Cost", "ModelPrice", "PriceTable", "cost_of", "load_prices", "model_prices"]

_PER: Final = 1_000_000
_VERSION: Final = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$|-latest$")
_VENDOR: Final = re.compile(r"^(openai|anthropic|google|gemini|models)/")


@dataclass(frozen=True)
class ModelPrice:
    """The price of one model, in US dollars per million tokens.

    Parameters
    ----------
    input, output
        Of the prompt and of the answer.
    cached_input
        Of prompt tokens that the provider had in its own prompt cache; None: as `input`.
    batch_discount
        The part of the price that the Batch API takes off; None: nobody says, so nothing.
    reasoning
        Whether hidden thoughts are billed as output, so that answers are longer than they look.
    source, date
        Whose price it is, and when it was looked up.
    """

    input: float
    output: float
    cached_input: float | None = None
    batch_discount: float | None = None
    reasoning: bool = False
    source: str = ""
    date: str = ""


@dataclass(frozen=True)
class Cost:
    """What some tokens cost, in US dollars.

    Parameters
    ----------
    prompt_usd, completion_usd
        The two parts; both 0 where there is no price.
    priced_as
        The name in the price table; None: the model has no price.
    """

    prompt_usd: float
    completion_usd: float
    priced_as: str | None

    @property
    def usd(self) -> float | None:
        """The whole, or None where the model has no price."""
        return None if self.priced_as is None else self.prompt_usd + self.completion_usd


class PriceTable:
    """Prices by model name.

    Parameters
    ----------
    prices
        The prices.

    Examples
    --------
    >>> prices = load_prices({"my-model": {"input": 0.1, "output": 0.2}})
    >>> prices.find("gpt-4o-mini-2024-07-18")[0]
    'gpt-4o-mini'
    >>> prices.find("gpt-4o-minni") is None
    True
    >>> print(prices.unpriced("gpt-4o-minni"))
    no price for the model 'gpt-4o-minni' (did you mean 'gpt-4o-mini'?); give it one: prices: {gpt-4o-minni: {input: ..., output: ...}}
    """

    def __init__(self, prices: Mapping[str, ModelPrice]) -> None:
        self.prices = dict(prices)
        self._found: dict[str, tuple[str, ModelPrice] | None] = {}

    def __repr__(self) -> str:
        return f"PriceTable({len(self.prices)} models)"

    def find(self, model: str) -> tuple[str, ModelPrice] | None:
        """Return a model's name in the table and its price, or None.

        The name as it is comes first, then without the vendor in front
        (``openai/``), then without the version behind (``-2024-07-18``,
        ``-20250929``, ``-0125``, ``-latest``). A fine-tuned model
        (``ft:BASE:...``) has a price only where the table names ``ft:BASE``:
        such models are dearer than their base.
        """
        if model not in self._found:  # asked for at every call
            names = (name for name in _spellings(model) if name in self.prices)
            name = next(names, None)
            self._found[model] = None if name is None else (name, self.prices[name])
        return self._found[model]

    def unpriced(self, model: str) -> str:
        """Return the line that says that a model has no price, with the nearest name that has."""
        close = nearest_name(model, self.prices)
        guess = f" (did you mean {close!r}?)" if close else ""
        return (
            f"no price for the model {model!r}{guess}; "
            f"give it one: prices: {{{model}: {{input: ..., output: ...}}}}"
        )


def _spellings(model: str) -> list[str]:
    if model.startswith("ft:"):
        base = model.removeprefix("ft:").split(":", 1)[0]
        return [model, f"ft:{base}", f"ft:{_VERSION.sub('', base)}"]
    plain = _VENDOR.sub("", model)
    return [model, plain, _VERSION.sub("", model), _VERSION.sub("", plain)]


def model_prices(data: Any, *, where: str = "prices") -> dict[str, ModelPrice]:
    """Check a mapping of model names to prices.

    Parameters
    ----------
    data
        ``{MODEL: {input: ..., output: ..., cached_input: ..., batch_discount: ...}}``.
    where
        Where it stands, for messages.

    Raises
    ------
    ConfigError
        A price that is missing, unknown, negative or no number.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected models with their prices, got {data!r}")
    return {str(name): _price(entry, f"{where}: {name}") for name, entry in data.items()}


def _price(entry: Any, where: str) -> ModelPrice:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected {{input: ..., output: ...}}, got {entry!r}")
    known = [field.name for field in fields(ModelPrice)]
    for name, value in entry.items():
        if name not in known:
            raise UnknownNameError("key", str(name), known, where=where)
        _check(name, value, where)
    for name in ("input", "output"):
        if name not in entry:
            raise ConfigError(f"{where}: {name!r} is missing")
    return ModelPrice(**entry)


def _check(name: str, value: Any, where: str) -> None:
    if name in {"source", "date"}:
        good, expected = isinstance(value, str), "a text"
    elif name == "reasoning":
        good, expected = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        most = 1.0 if name == "batch_discount" else math.inf
        good = number and 0 <= value <= most and math.isfinite(value)
        expected = "a part from 0 to 1" if most == 1 else "dollars per million tokens, 0 or more"
    if not good:
        raise ConfigError(f"{where}: {name}: expected {expected}, got {value!r}")


def load_prices(own: Mapping[str, Any] | None = None, path: str | Path | None = None) -> PriceTable:
    """Load the shipped price table, or another, and put the user's own prices in front.

    Parameters
    ----------
    own
        A recipe's or config's ``prices``: see `model_prices`.
    path
        A file in the form of configs/prices.yaml; by default that one.

    Raises
    ------
    ConfigError
        A file or a price that is wrong.

    Examples
    --------
    >>> load_prices().find("gpt-4o-mini")[1].input
    0.15
    """
    file = Path(path) if path is not None else shipped_folder("configs") / "prices.yaml"
    data, _ = read_yaml(file)
    if not isinstance(data, Mapping) or "models" not in data:
        raise ConfigError(f"{file}: expected a mapping with 'models'")
    sources = data.get("sources") or {}
    prices = {
        name: ModelPrice(**{**vars(price), "source": sources.get(price.source, price.source)})
        for name, price in model_prices(data["models"], where=str(file)).items()
    }
    return PriceTable({**prices, **model_prices(own or {})})


def cost_of(
    usage: Usage,
    model: str,
    prices: PriceTable,
    *,
    batch: bool = False,
    cached_prompt_tokens: int = 0,
) -> Cost:
    """Return what a call cost.

    Parameters
    ----------
    usage
        Its tokens; or those of many calls together.
    model
        The model asked, or the one that the server says it was.
    prices
        The price table.
    batch
        Whether it went through the Batch API.
    cached_prompt_tokens
        How many of the prompt's tokens the provider's own cache had.

    Examples
    --------
    >>> cost_of(Usage(1_000_000, 100_000), "gpt-4o-mini", load_prices()).usd
    0.21
    >>> cost_of(Usage(10, 1), "a-model-of-my-own", load_prices()).usd is None
    True
    """
    found = prices.find(model)
    if found is None:
        return Cost(0.0, 0.0, None)
    name, price = found
    factor = (1.0 - (price.batch_discount or 0.0) if batch else 1.0) / _PER
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = usage.prompt_tokens - cached_prompt_tokens
    prompt = fresh * price.input + cached_prompt_tokens * cached_price
    return Cost(prompt * factor, usage.completion_tokens * price.output * factor, name)
