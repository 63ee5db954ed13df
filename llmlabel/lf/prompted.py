"""Labeling functions that ask a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmlabel.errors import ClientError, ConfigError, UnknownNameError
from llmlabel.lf.columns import answer, answer_column
from llmlabel.lf.core import LF, Batch, Feature, batch_length
from llmlabel.llm import (
    Cache,
    Client,
    Failure,
    InvalidAnswer,
    Prompt,
    Request,
    Response,
    complete_all,
    parse_answer,
    row_text,
)
from llmlabel.llm.examples import Example
from llmlabel.schema import Task

__all__ = ["answers_feature", "prompt", "requests"]


def requests(
    template: Prompt,
    task: Task,
    batch: Batch,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    examples: Sequence[Sequence[Example]] | None = None,
) -> list[Request]:
    """Return one request per row of a batch, with its examples where there are some."""
    n = batch_length(batch)
    ids = batch.get("id") or [f"row-{i}" for i in range(n)]
    out = []
    for i in range(n):
        row = {name: values[i] for name, values in batch.items()}
        text = row_text(task, row)
        out.append(
            template.request(
                task,
                row,
                text,
                custom_id=str(ids[i]),
                model=model,
                params=params,
                examples=examples[i] if examples is not None else (),
            )
        )
    return out


def answers_feature(
    template: Prompt,
    task: Task,
    client: Client,
    *,
    cache: Cache | None = None,
    model: str | None = None,
    max_in_flight: int = 64,
) -> Feature:
    """Return the feature that asks a prompt about each row, for several LFs to read.

    A row whose call failed raises; an answer outside the schema is None, which
    abstains.
    """
    schema = template.schema(task)

    def compute(batch: Batch) -> list[dict[str, Any] | None]:
        asked = requests(template, task, batch, model=model)
        results = complete_all(asked, client, cache=cache, max_in_flight=max_in_flight)
        return [_parsed(result, schema) for result in results]

    return Feature(answer_column(template.name), compute)


def prompt(
    template: Prompt,
    task: Task,
    client: Client,
    votes: Mapping[str, Mapping[str, str | None] | Sequence[str]],
    *,
    cache: Cache | None = None,
    model: str | None = None,
    confidence: Mapping[str, str] | None = None,
    max_in_flight: int = 64,
) -> tuple[LF, ...]:
    """Make one LF of each answer field of a prompt; a row costs one call for all of them.

    Parameters
    ----------
    template
        The prompt, from `load_prompt`.
    task
        What is labeled.
    client
        Where the answers come from.
    votes
        For each field used, ``{value: class}``, or class names where the field
        holds those: ``{"asks_action": {"yes": "SPAM"}}``.
    cache
        Where paid answers are kept.
    model
        By default the prompt's own hint.
    confidence
        For each field that has one, the field that holds its confidence.
    max_in_flight
        Calls at the same time.

    Returns
    -------
    LFs named ``<prompt>.<field>``.

    Raises
    ------
    UnknownNameError
        A field that the prompt's answer schema does not have.
    """
    fields = template.schema(task)["properties"]
    sure = confidence or {}
    for name in (*votes, *sure, *sure.values()):
        if name not in fields:
            raise UnknownNameError("answer field", name, fields, where=f"prompt {template.name!r}")
    if not votes:
        raise ConfigError(f"prompt {template.name!r}: name at least one answer field to vote with")
    feature = answers_feature(
        template, task, client, cache=cache, model=model, max_in_flight=max_in_flight
    )
    return tuple(
        answer(f"{template.name}.{name}", feature, name, mapping, confidence=sure.get(name))
        for name, mapping in votes.items()
    )


def _parsed(result: Response | Failure, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    if isinstance(result, Failure):
        raise ClientError(
            f"row {result.custom_id!r}: {result.reason}",
            status=result.status,
            retryable=result.retryable,
        )
    parsed = parse_answer(result.text, schema)
    return None if isinstance(parsed, InvalidAnswer) else parsed
