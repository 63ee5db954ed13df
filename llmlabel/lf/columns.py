"""Labeling functions that read a column: existing labels, a legacy model, an LLM's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import ConfigError, LabelingFunctionError, did_you_mean
from llmlabel.lf.core import LF, Batch, Confidences, Feature, Votes
from llmlabel.schema import ABSTAIN

__all__ = ["answer", "answer_column", "column", "prompt_of"]


def column(
    name: str,
    source: str,
    votes: Mapping[str, str | None] | Sequence[str],
    *,
    confidence: str | None = None,
    strict: bool = True,
) -> LF:
    """Vote as an existing column says.

    Parameters
    ----------
    name
        The LF's name.
    source
        The column: labels of old, a legacy model's output, a category.
    votes
        ``{value: class}``, or the class names themselves where the column holds
        those. A class of None abstains, as does a missing value.
    confidence
        A column of confidences, 0 to 1.
    strict
        Whether a value that `votes` does not know is an error rather than an
        abstain.

    Raises
    ------
    LabelingFunctionError
        With ``strict``: the unknown value, its row and the nearest known one.

    Examples
    --------
    >>> lf = column("old", "category", {"refunds": "RETURN", "login": "ACCOUNT", "other": None})
    >>> lf({"category": ["login", None, "other"]})[0].tolist()
    [1, -1, -1]
    """
    mapping, labels = _mapping(name, votes)

    def vote(batch: Batch) -> Votes | tuple[Votes, Confidences]:
        values = pa.array([None if v is None else str(v) for v in batch[source]], pa.string())
        out = _look_up(values, mapping)
        if strict:
            _check_known(name, values, mapping, batch)
        if confidence is None:
            return out
        return out, np.array(batch[confidence], np.float32)

    def why(row: Mapping[str, Any]) -> str:
        return f"{source} is {row.get(source)!r}"

    columns = (source,) if confidence is None else (source, confidence)
    spec = {
        "lf": "column",
        "name": name,
        "column": source,
        "votes": _plain(votes),
        "confidence": confidence,
        "strict": strict,
    }
    return LF(name, vote, labels=labels, kind="column", columns=columns, why=why, spec=spec)


def answer_column(prompt: str) -> str:
    """Return the name of the feature column that holds a prompt's answers."""
    return f"answers.{prompt}"


def prompt_of(column: str) -> str | None:
    """Return the prompt that a feature column holds the answers of; None for other columns."""
    return column.removeprefix("answers.") if column.startswith("answers.") else None


def answer(
    name: str,
    feature: Feature,
    field: str,
    votes: Mapping[str, str | None] | Sequence[str],
    *,
    confidence: str | None = None,
) -> LF:
    """Vote as one field of an LLM's answer says.

    Parameters
    ----------
    name
        The LF's name.
    feature
        The column of answers: one mapping per row, None where none was asked
        for or none came.
    field
        The field of the answer.
    votes
        ``{value: class}``, or class names where the field holds those. Other
        values, such as ``UNSURE``, abstain.
    confidence
        The field that holds the answer's confidence, 0 to 1.

    Examples
    --------
    >>> said = Feature("answers.ask", lambda batch: [{"faulty": "yes"}, None, {"faulty": "no"}])
    >>> answer("faulty", said, "faulty", {"yes": "REPAIR"})({"text": ["a", "b", "c"]})[0].tolist()
    [0, -1, -1]
    """
    mapping, labels = _mapping(name, votes)

    def vote(batch: Batch) -> Votes | tuple[Votes, Confidences]:
        given = [a or {} for a in batch[feature.name]]
        said = [a.get(field) for a in given]
        values = pa.array([None if v is None else str(v) for v in said], pa.string())
        out = _look_up(values, mapping)
        if confidence is None:
            return out
        sure = [a.get(confidence) for a in given]
        return out, np.array([np.nan if c is None else c for c in sure], np.float32)

    def why(row: Mapping[str, Any]) -> str:
        given = row.get(feature.name) or {}
        said = f"answered {field}: {given.get(field)}"
        sure = given.get(confidence) if confidence else None
        return said if sure is None else f"{said}, {float(sure):.0%} sure"

    return LF(name, vote, labels=labels, kind="prompt", columns=(), features=(feature,), why=why)


def _plain(votes: Mapping[str, str | None] | Sequence[str]) -> dict[str, str | None] | list[str]:
    return dict(votes) if isinstance(votes, Mapping) else list(votes)


def _mapping(
    name: str, votes: Mapping[str, str | None] | Sequence[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    if isinstance(votes, str):
        raise ConfigError(f"LF {name!r}: expected class names or {{value: class}}, got {votes!r}")
    pairs = votes if isinstance(votes, Mapping) else {v: v for v in votes}
    labels = tuple(dict.fromkeys(label for label in pairs.values() if label is not None))
    if not labels:
        raise ConfigError(f"LF {name!r}: expected at least one value to vote on")
    index = {label: i for i, label in enumerate(labels)}
    return {v: ABSTAIN if c is None else index[c] for v, c in pairs.items()}, labels


def _look_up(values: pa.StringArray, mapping: Mapping[str, int]) -> Votes:
    at = pc.index_in(values, pa.array(list(mapping), pa.string()))
    targets = np.array([*mapping.values(), ABSTAIN], np.int16)  # the last for what is not known
    index: npt.NDArray[np.int64] = pc.fill_null(at, len(mapping)).to_numpy(zero_copy_only=False)
    out: Votes = targets[index]
    return out


def _check_known(
    name: str, values: pa.StringArray, mapping: Mapping[str, int], batch: Batch
) -> None:
    known = pc.is_in(values, pa.array(list(mapping), pa.string()))
    unknown = pc.indices_nonzero(pc.and_(pc.invert(known), values.is_valid()))
    if len(unknown):
        i = unknown[0].as_py()
        value = values[i].as_py()
        row = batch["id"][i] if "id" in batch else f"number {i}"
        guess = did_you_mean(value, mapping)
        raise LabelingFunctionError(
            f"LF {name!r}: unknown value {value!r} on row {row!r}{guess} "
            f"(known: {', '.join(mapping)})"
        )
