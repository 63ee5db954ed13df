"""Rows held back to find out where a student is sure enough, and what that gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.distill.selective import selective_cut
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN

__all__ = ["TARGETS", "held_back", "selective_table"]

TARGETS = (0.9, 0.95, 0.97, 0.99)
_LEAST = 30

Golds = Mapping[str, npt.NDArray[np.int64]]


def held_back(results: Results, gold: Golds) -> dict[str, Any] | None:
    """Return how sure the student was of held-back rows, and whether it was right.

    Those of ``valid`` with gold labels, else those that the label model labels: then the
    accuracy that is promised is agreement with it. None without such rows.
    """
    if "valid" not in results.splits:
        return None
    said = results.labels("valid", of="predictions")
    known = gold.get("valid")
    if known is not None and (known != ABSTAIN).sum() >= _LEAST:
        rows, truth, of = known != ABSTAIN, known, "gold"
    else:
        labels = results.labels("valid")
        rows, truth, of = labels.covered, labels.probabilities.argmax(axis=1), "label model"
        if rows.sum() < _LEAST:
            return None
    best = said.probabilities.argmax(axis=1)
    return {
        "split": "valid",
        "of": of,
        "sureness": [float(x) for x in said.probabilities[rows].max(axis=1)],
        "right": [bool(x) for x in (best == truth)[rows]],
    }


def selective_table(
    results: Results, gold: Golds, kept: Mapping[str, Any]
) -> list[dict[str, float | None]]:
    """Return, for some targets, the threshold and what it gives on the test rows."""
    test = gold.get("test")
    out: list[dict[str, float | None]] = []
    for target in TARGETS:
        cut = selective_cut(kept["sureness"], kept["right"], target)
        row: dict[str, float | None] = {"target": target, "threshold": cut.threshold}
        row |= {"answered": None, "accuracy": None}
        if "test" in results.splits:
            said = results.labels("test", of="predictions").probabilities
            chosen = said.max(axis=1) >= cut.threshold
            row["answered"] = float(chosen.mean())
            if test is not None and (chosen & (test != ABSTAIN)).any():
                rows = chosen & (test != ABSTAIN)
                row["accuracy"] = float((said.argmax(axis=1) == test)[rows].mean())
        out.append(row)
    return out
