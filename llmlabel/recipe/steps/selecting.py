"""Rows held back to find out where a student is sure enough, and what that gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.distill.selective import Cut, selective_cut
from llmlabel.labelmodel import LabelSet
from llmlabel.recipe.steps.distill import HELD_OUT
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN

__all__ = ["TARGETS", "best_cut", "held_back", "selective_table"]

TARGETS: Final = (0.9, 0.95, 0.97, 0.99)
_LEAST: Final = 30

Golds = Mapping[str, npt.NDArray[np.int64]]
Held = Mapping[str, Any]
Ints = npt.NDArray[Any]


def held_back(results: Results, gold: Golds, llm: str | None) -> list[dict[str, Any]]:
    """Return how sure the student was of held-back rows, and whether it was right.

    By whose word, the best first: by gold labels of ``valid``; by the LLM's answers on training
    rows, each asked of a student that had not met the row; by the label model on ``valid``,
    where nobody else speaks. What is promised by the latter two is agreement with them.

    Parameters
    ----------
    llm
        The LF that is the LLM alone, where there is one.
    """
    found = []
    valid = "valid" in results.splits
    known = gold.get("valid")
    if valid and known is not None:
        found.append(_held(results.labels("valid", of="predictions"), known, "gold", "valid"))
    if llm is not None and results.path("distill", f"{HELD_OUT}.train.parquet").is_file():
        said = results.labels("train", of=HELD_OUT)
        found.append(_held(said, _answers(results, llm, said.ids), "LLM", "train"))
    if valid and not any(len(h["right"]) >= _LEAST for h in found):
        labels = results.labels("valid")
        truth = np.where(labels.covered, labels.probabilities.argmax(axis=1), ABSTAIN)
        said = results.labels("valid", of="predictions")
        found.append(_held(said, truth, "label model", "valid"))
    return [h for h in found if len(h["right"]) >= _LEAST]


def _held(said: LabelSet, truth: Ints, of: str, split: str) -> dict[str, Any]:
    rows = truth != ABSTAIN
    best = said.probabilities.argmax(axis=1)
    return {
        "split": split,
        "of": of,
        "sureness": [float(x) for x in said.probabilities[rows].max(axis=1)],
        "right": [bool(x) for x in (best == truth)[rows]],
    }


def _answers(results: Results, llm: str, ids: Sequence[Any]) -> Ints:
    """Return the LLM's class for training rows, -1 where it has none."""
    place = {row: i for i, row in enumerate(results.rows("train")["id"].to_pylist())}
    found: Ints = np.asarray(results.votes("train")[llm])[[place[i] for i in ids]]
    return found


def best_cut(held: Sequence[Held], target: float) -> tuple[Cut, str]:
    """Return the threshold for a target, and by whose word it holds.

    That of the first held-back rows by which anything can be answered: few gold rows cannot
    promise much.
    """
    cuts = [(selective_cut(h["sureness"], h["right"], target), str(h["of"])) for h in held]
    return next((c for c in cuts if c[0].threshold <= 1), cuts[0])


def selective_table(
    results: Results, gold: Golds, held: Sequence[Held]
) -> list[dict[str, float | str | None]]:
    """Return, for some targets, the threshold and what it gives on the test rows."""
    test = gold.get("test")
    out: list[dict[str, float | str | None]] = []
    for target in TARGETS:
        cut, of = best_cut(held, target)
        row: dict[str, float | str | None] = {"target": target, "threshold": cut.threshold}
        row |= {"of": of, "answered": None, "accuracy": None}
        if "test" in results.splits:
            said = results.labels("test", of="predictions").probabilities
            chosen = said.max(axis=1) >= cut.threshold
            row["answered"] = float(chosen.mean())
            if test is not None and (chosen & (test != ABSTAIN)).any():
                rows = chosen & (test != ABSTAIN)
                row["accuracy"] = float((said.argmax(axis=1) == test)[rows].mean())
        out.append(row)
    return out
