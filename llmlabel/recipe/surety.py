"""How sure an answer is: by its token probabilities, or by what several samples agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.llm import Failure, InvalidAnswer, Response, Usage, parse_answer
from llmlabel.llm.calibration import Calibration, contextual_calibration
from llmlabel.llm.confidence import logprob_probabilities, vote_probabilities
from llmlabel.recipe.config import ConfidenceConfig

__all__ = ["Answer", "confidence_field", "judged", "prompt_lean", "values_of"]

Answer = dict[str, Any] | InvalidAnswer


def confidence_field(config: ConfidenceConfig) -> str:
    """Return the name of the field that an answer gets."""
    return f"{config.of}.confidence"


def values_of(config: ConfidenceConfig, schema: Mapping[str, Any]) -> list[str]:
    """Return the values that the field chooses from.

    Raises
    ------
    ConfigError
        No such field, or one that is no choice.
    """
    fields = schema["properties"]
    if config.of not in fields:
        raise UnknownNameError("answer field", config.of, fields, where="confidence: of")
    if config.by == "stated" and config.stated not in fields:
        raise UnknownNameError("answer field", config.stated, fields, where="confidence: stated")
    if "enum" not in fields[config.of]:
        raise ConfigError(f"confidence: of: the field {config.of!r} is no choice among values")
    return [str(v) for v in fields[config.of]["enum"]]


def prompt_lean(
    results: Sequence[Response | Failure], schema: Mapping[str, Any], config: ConfidenceConfig
) -> Calibration | None:
    """Return what takes out the lean of a prompt, by its answers to texts that say nothing.

    None where none of them came with log-probabilities.
    """
    values = values_of(config, schema)
    found = [_distribution(r, config, values) for r in results if isinstance(r, Response)]
    known = [p for p in found if p is not None]
    return contextual_calibration(np.stack(known)) if known else None


def judged(
    group: Sequence[Response | Failure],
    schema: Mapping[str, Any],
    config: ConfidenceConfig | None,
    lean: Calibration | None = None,
) -> tuple[Response | Failure, Answer]:
    """Return a row's answer, with its confidence where it is asked for.

    Parameters
    ----------
    group
        What came for the row: one result, or its samples.
    schema
        Of the answer.
    config
        How sure answers are found to be; None: as they say themselves.
    lean
        What `prompt_lean` found. It may turn an answer into another one.

    Returns
    -------
    The result, whose usage is that of all samples, and the checked answer.
    """
    parsed = [_parsed(result, schema) for result in group]
    if config is None:
        return group[0], parsed[0]
    values = values_of(config, schema)
    if config.by == "stated":
        return group[0], _as_stated(parsed[0], config)
    if config.by == "logprobs":
        return group[0], _by_logprobs(group[0], parsed[0], config, values, lean)
    return _by_samples(group, parsed, config, values)


def _parsed(result: Response | Failure, schema: Mapping[str, Any]) -> Answer:
    if isinstance(result, Failure):
        return InvalidAnswer(result.reason, "")
    return parse_answer(result.text, schema)


def _as_stated(answer: Answer, config: ConfidenceConfig) -> Answer:
    if isinstance(answer, InvalidAnswer):
        return answer
    return {**answer, confidence_field(config): answer.get(config.stated)}


def _by_logprobs(
    result: Response | Failure,
    answer: Answer,
    config: ConfidenceConfig,
    values: list[str],
    lean: Calibration | None,
) -> Answer:
    if isinstance(answer, InvalidAnswer) or not isinstance(result, Response):
        return answer
    found = _distribution(result, config, values)
    if found is None:
        return {**answer, confidence_field(config): None}
    if lean is not None:
        found = lean.apply(found)
        answer = {**answer, config.of: values[int(found.argmax())]}
    sure = float(found[values.index(str(answer[config.of]))])
    return {**answer, confidence_field(config): sure}


def _distribution(
    result: Response, config: ConfidenceConfig, values: list[str]
) -> npt.NDArray[np.float64] | None:
    if not result.logprobs:
        return None  # a server may not give them: then nobody knows, and nothing is made up
    try:
        return logprob_probabilities(result, config.of, values)
    except DataError:
        return None


def _by_samples(
    group: Sequence[Response | Failure],
    parsed: Sequence[Answer],
    config: ConfidenceConfig,
    values: list[str],
) -> tuple[Response | Failure, Answer]:
    good = [
        (result, answer)
        for result, answer in zip(group, parsed, strict=True)
        if isinstance(result, Response) and not isinstance(answer, InvalidAnswer)
    ]
    if not good:
        return group[0], parsed[0]
    votes = [values.index(str(answer[config.of])) for _, answer in good]
    shares = vote_probabilities(np.array([votes]), len(values))[0]
    best = int(np.bincount(votes, minlength=len(values)).argmax())
    result, answer = good[votes.index(best)]
    return _with_all_usage(result, group), {
        **answer,
        confidence_field(config): float(shares[best]),
    }


def _with_all_usage(chosen: Response, group: Sequence[Response | Failure]) -> Response:
    came = [r for r in group if isinstance(r, Response)]
    used = [r.usage for r in came if r.usage is not None]
    total = Usage(sum(u.prompt_tokens for u in used), sum(u.completion_tokens for u in used))
    return replace(chosen, usage=total if used else None, cached=all(r.cached for r in came))
