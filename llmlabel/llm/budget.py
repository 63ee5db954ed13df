"""Stop before the money is spent: calls reserve what they may cost, and settle what they did."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from llmlabel.errors import BudgetExceeded, ClientError, ConfigError
from llmlabel.llm.costs import CostPlan, answer_limit, estimate_completion_tokens
from llmlabel.llm.prices import PriceTable, cost_of
from llmlabel.llm.tokens import max_message_tokens, max_schema_tokens
from llmlabel.llm.types import Client, Request, Response, Usage

__all__ = ["Amount", "Budget", "Budgeted", "plan_bound"]

_UNITS: Final = 10**12  # dollars are added up as whole millionths of a millionth: no drift


@dataclass(frozen=True)
class Amount:
    """An amount of what a budget can cap."""

    usd: float = 0.0
    tokens: int = 0
    calls: int = 0


_Units = tuple[int, int, int]
_ZERO: Final[_Units] = (0, 0, 0)


def _units(amount: Amount) -> _Units:
    return math.ceil(amount.usd * _UNITS), amount.tokens, amount.calls


def _amount(units: _Units) -> Amount:
    return Amount(units[0] / _UNITS, units[1], units[2])


def _plus(a: _Units, b: _Units) -> _Units:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _minus(a: _Units, b: _Units) -> _Units:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


class Budget:
    """A cap on dollars, tokens or calls, which several clients and threads may share.

    What is spent and what is reserved never pass the cap together. So the
    spending never does, as long as no call takes more than it reserved.

    Parameters
    ----------
    max_cost
        US dollars.
    max_tokens
        Tokens of prompts and answers together.
    max_calls
        Calls.

    Raises
    ------
    ConfigError
        No cap at all, or a negative one.

    Examples
    --------
    >>> budget = Budget(max_cost=1.0)
    >>> first = budget.reserve(Amount(usd=0.9))
    >>> budget.reserve(Amount(usd=0.2)) is None  # has to wait for the first
    True
    >>> budget.settle(first, Amount(usd=0.5))
    >>> budget.reserve(Amount(usd=0.2)) is None
    False
    >>> budget.spent.usd, budget.reserved.usd
    (0.5, 0.2)
    """

    def __init__(
        self,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        max_calls: int | None = None,
    ) -> None:
        caps = {"max_cost": max_cost, "max_tokens": max_tokens, "max_calls": max_calls}
        if all(cap is None for cap in caps.values()):
            raise ConfigError("budget: expected at least one of max_cost, max_tokens, max_calls")
        for name, cap in caps.items():
            if cap is not None and not (cap >= 0 and math.isfinite(cap)):
                raise ConfigError(f"budget: {name}: expected a number of 0 or more, got {cap!r}")
        self.max_cost = max_cost
        self.max_tokens = max_tokens
        self.max_calls = max_calls
        cost = None if max_cost is None else math.floor(max_cost * _UNITS)
        self._caps = (cost, max_tokens, max_calls)
        self._lock = threading.Lock()
        self._spent = _ZERO
        self._reserved = _ZERO
        self._tickets: dict[int, _Units] = {}
        self._next = 0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"Budget({self.max_cost!r}, {self.max_tokens!r}, {self.max_calls!r})"

    @property
    def spent(self) -> Amount:
        """What calls have taken so far."""
        with self._lock:
            return _amount(self._spent)

    @property
    def reserved(self) -> Amount:
        """What calls in flight may take yet."""
        with self._lock:
            return _amount(self._reserved)

    def reserve(self, estimate: Amount) -> int | None:
        """Set an amount aside for a call.

        Returns
        -------
        A ticket to `settle` with; None where calls in flight have to settle first.

        Raises
        ------
        BudgetExceeded
            The amount would pass the cap even if the calls in flight cost nothing.
        """
        wanted = _units(estimate)
        with self._lock:
            if not self._fits(_plus(self._spent, wanted)):
                raise self._exceeded(wanted)
            total = _plus(_plus(self._spent, self._reserved), wanted)
            if not self._fits(total):
                return None
            self._reserved = _plus(self._reserved, wanted)
            self._next += 1
            self._tickets[self._next] = wanted
            return self._next

    def settle(self, ticket: int, real: Amount | None = None) -> None:
        """Give a reservation back and count what the call really took.

        Parameters
        ----------
        ticket
            What `reserve` returned; each settles once.
        real
            None: nobody knows, so all that was reserved counts.
        """
        with self._lock:
            reserved = self._tickets.pop(ticket)
            self._reserved = _minus(self._reserved, reserved)
            self._spent = _plus(self._spent, reserved if real is None else _units(real))
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, future)

    def next_settlement(self) -> asyncio.Future[None]:
        """Return a future of the running loop that is done when the next call settles."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            self._waiting.append((loop, future))
        return future

    def _fits(self, total: _Units) -> bool:
        return all(cap is None or part <= cap for part, cap in zip(total, self._caps, strict=True))

    def _exceeded(self, wanted: _Units) -> BudgetExceeded:
        spent, more = _amount(self._spent), _amount(wanted)
        texts = {
            0: f"${self.max_cost or 0:,.6g}: ${spent.usd:,.6g} is spent and the next "
            f"may take ${more.usd:,.6g}",
            1: f"{self.max_tokens or 0:,} tokens: {spent.tokens:,} are used and the next "
            f"may take {more.tokens:,}",
            2: f"{self.max_calls or 0:,} calls: {spent.calls:,} are made",
        }
        total = _plus(self._spent, wanted)
        over = [i for i, cap in enumerate(self._caps) if cap is not None and total[i] > cap]
        return BudgetExceeded(
            f"the budget would be passed: {texts[over[0]]}",
            hint="raise the budget and run again: what is answered is kept and costs nothing more",
        )


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Budgeted:
    """A client that asks only while the budget lasts.

    Every call first reserves the most that it can take: the prompt's bytes as
    tokens (no byte-level tokenizer makes more) and ``max_tokens`` of answer,
    at the model's price. Where too much is reserved by calls in flight it
    waits for one of them. Where even that would not help, no further call
    begins, those in flight come to their end, and `BudgetExceeded` is raised.

    Without ``max_tokens`` the answer is reserved by what its schema lets
    expect, or twice the longest answer so far: a guess, which a long answer can
    pass, and the budget with it by that much.

    A call that ends in an error of the server (status 400 and up) counts as
    free. One that was cancelled, timed out or broke off may have been billed,
    and counts whole. So does an answer that does not say its tokens.

    Parameters
    ----------
    client
        Who is asked. Its cache stands in front of this: a cached answer is free.
    budget
        What may be spent.
    prices
        The price table.
    model
        The model that the client asks, where it overrides the requests'.

    Examples
    --------
    >>> from llmlabel.llm.prices import load_prices
    >>> from llmlabel.llm.openai_client import OpenAIClient
    >>> client = OpenAIClient("gpt-4o-mini", "https://api.openai.com/v1")
    >>> Budgeted(client, Budget(max_cost=2.50), load_prices(), "gpt-4o-mini").provider
    'api.openai.com gpt-4o-mini'
    """

    def __init__(
        self,
        client: Client,
        budget: Budget,
        prices: PriceTable,
        model: str | None = None,
    ) -> None:
        self.client = client
        self.budget = budget
        self.prices = prices
        self.model = model
        self._in_flight = 0
        self._longest = 0
        self._schema: Mapping[str, Any] | None = None
        self._schema_tokens, self._answer_tokens = _schema_sizes(None)
        self._stopped: BudgetExceeded | None = None

    @property
    def provider(self) -> str:
        """Who answers: the client's own."""
        return self.client.provider

    @property
    def answers_by_row(self) -> bool:
        """Whether answers belong to rows and not to questions; the client's own."""
        return bool(getattr(self.client, "answers_by_row", False))

    async def __aenter__(self) -> Self:
        self._in_flight, self._stopped = 0, None
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.client.__aexit__(*exc_info)

    async def complete(self, request: Request) -> Response:
        """Ask, if the budget allows; see `Client.complete`.

        Raises
        ------
        BudgetExceeded
            The call could pass the budget.
        ConfigError
            The budget caps dollars and the model has no price.
        """
        model = self.model or request.model
        ticket = await self._reserved(self._most(request, model))
        self._in_flight += 1
        real: Amount | None = None
        try:
            response = await self.client.complete(request)
            real = self._real(response, model)
            return response
        except ClientError as error:
            if error.status is not None and error.status >= 400:
                real = Amount(calls=1)
            raise
        finally:
            # Nothing is awaited between the answer and its way to the cache, so whoever waits
            # for the last call in flight goes on only when that call's answer is handed over.
            self._in_flight -= 1
            self.budget.settle(ticket, real)

    async def _reserved(self, most: Amount) -> int:
        settled: asyncio.Future[None] | None = None
        while self._stopped is None:
            try:
                ticket = self.budget.reserve(most)
            except BudgetExceeded as error:
                self._stopped = error
                break
            if ticket is not None:
                return ticket
            if settled is None or settled.done():
                # Then asked once more: a call of another thread may have settled in between.
                settled = self.budget.next_settlement()
            else:
                await settled
        while self._in_flight:
            await self.budget.next_settlement()
        raise BudgetExceeded(self._stopped.message, hint=self._stopped.hint)

    def _most(self, request: Request, model: str) -> Amount:
        if request.schema is not self._schema:  # the rows of one prompt share theirs
            self._schema = request.schema
            self._schema_tokens, self._answer_tokens = _schema_sizes(request.schema)
        limit = answer_limit(request)
        if limit is None:
            limit = max(self._answer_tokens, 2 * self._longest)
        prompt = max_message_tokens(request) + self._schema_tokens
        return self._priced(Usage(prompt, limit), model)

    def _real(self, response: Response, model: str) -> Amount | None:
        if response.usage is None:
            return None
        self._longest = max(self._longest, response.usage.completion_tokens)
        return self._priced(response.usage, model)

    def _priced(self, usage: Usage, model: str) -> Amount:
        usd = cost_of(usage, model, self.prices).usd
        if usd is None:
            if self.budget.max_cost is not None:
                raise ConfigError(
                    f"a budget in dollars needs prices: {self.prices.unpriced(model)}"
                )
            usd = 0.0
        return Amount(usd, usage.prompt_tokens + usage.completion_tokens, 1)


def _schema_sizes(schema: Mapping[str, Any] | None) -> tuple[int, int]:
    """Return the most tokens of a schema in the prompt, and of an answer that follows it."""
    prompt = 0 if schema is None else max_schema_tokens(schema)
    return prompt, math.ceil(estimate_completion_tokens(schema).high)


def plan_bound(plan: CostPlan) -> Amount:
    """Return the high end of a plan, to reserve a whole batch by before it is sent.

    A batch is paid for as a whole, so its reservation is made as a whole: by
    the plan's range, not by bytes, which for many rows together is far above.

    Examples
    --------
    >>> from llmlabel.llm.costs import plan_cost
    >>> from llmlabel.llm.prices import load_prices
    >>> asked = [Request("row-1", "gpt-4o-mini", [{"role": "user", "content": "Is this spam?"}])]
    >>> plan = plan_cost(asked, "api.openai.com", load_prices(), batch=True)
    >>> budget = Budget(max_cost=1.0)
    >>> ticket = budget.reserve(plan_bound(plan))
    >>> budget.reserved.calls
    1
    """
    tokens = math.ceil(plan.prompt_tokens.high + plan.completion_tokens.high)
    return Amount(0.0 if plan.usd is None else plan.usd.high, tokens, plan.calls)
