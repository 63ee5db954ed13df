"""Make an LLM's stated sureness mean what it says, by a few rows whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmlabel.errors import DataError, UnknownNameError, did_you_mean
from llmlabel.io import read_table
from llmlabel.llm import InvalidAnswer
from llmlabel.llm.calibration import Calibration, fit_calibration
from llmlabel.llm.confidence import verbalized_probabilities
from llmlabel.recipe.config import ConfidenceConfig
from llmlabel.recipe.surety import Answer, confidence_field

__all__ = ["calibrated", "read_known"]


def read_known(file: Path, of: str, values: Sequence[str]) -> dict[str, int]:
    """Read rows whose answer is known: columns ``id`` and the answer field's name.

    Raises
    ------
    DataError
        A missing column, or a value that the field does not choose from.
    """
    table = read_table(file, text_columns=["id", of])
    for name in ("id", of):
        if name not in table.column_names:
            raise DataError(
                f"is missing{did_you_mean(name, table.column_names)}", file=file, field=name
            )
    known: dict[str, int] = {}
    for row_id, value in zip(table["id"].to_pylist(), table[of].to_pylist(), strict=True):
        if value not in values:
            raise UnknownNameError("value", str(value), values, where=f"{file}, row {row_id!r}")
        known[row_id] = values.index(value)
    return known


def calibrated(
    answers: Sequence[Answer],
    ids: Sequence[str],
    config: ConfidenceConfig,
    values: Sequence[str],
    known: dict[str, int],
    seed: int,
) -> tuple[list[Answer], Calibration]:
    """Return the answers with calibrated confidences, and the map that was fitted.

    Parameters
    ----------
    answers, ids
        One per row; those outside the schema stay as they are.
    config
        Which field is meant.
    values
        The values to tell apart; an answer with another one (``UNSURE``) stays as it is.
    known
        The right value, as an index, of some rows.
    seed
        Of the folds by which temperature, Platt or no change is chosen.
    """
    name = confidence_field(config)
    votes = np.full(len(answers), -1)
    stated = np.full(len(answers), np.nan)
    for i, answer in enumerate(answers):
        if isinstance(answer, InvalidAnswer) or answer.get(name) is None:
            continue
        if str(answer[config.of]) in values:
            votes[i], stated[i] = values.index(str(answer[config.of])), answer[name]
    found = verbalized_probabilities(votes, stated, len(values))
    gold = np.array([known.get(i, -1) for i in ids])
    rows = (gold >= 0) & (votes >= 0)
    fitted = fit_calibration(found[rows], gold[rows], seed=seed)
    after = fitted.apply(found)
    out: list[Answer] = []
    for i, answer in enumerate(answers):
        changed: dict[str, Any] | InvalidAnswer = answer
        if votes[i] >= 0 and not isinstance(answer, InvalidAnswer):
            changed = {**answer, name: float(after[i, votes[i]])}
        out.append(changed)
    return out, fitted
