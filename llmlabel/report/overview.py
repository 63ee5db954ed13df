"""The top of the page: the figures to look at first, the funnel, what each part gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmlabel.report.results import Results

__all__ = [
    "funnel_steps",
    "measured_row",
    "measured_split",
    "percent",
    "tiles",
    "what_each_part_gave",
]

SURE = 0.9


def measured_split(results: Results) -> str | None:
    """Return the split whose figures are the ones to look at: test, else valid, else train."""
    found = results.evaluation
    return next((s for s in ("test", "valid", "train") if s in found), None)


def measured_row(results: Results, split: str | None, key: str) -> Mapping[str, Any] | None:
    """Return what was measured of one who labels, by key; None where it was not."""
    rows = results.evaluation.get(split, []) if split else []
    return next((r for r in rows if r["key"] == key), None)


def tiles(results: Results, measured: str | None) -> list[dict[str, str]]:
    """Return the figures to look at first."""
    labels = results.labels("train")
    out = [
        {
            "name": "rows",
            "value": f"{len(labels.ids):,}",
            "note": f"{len(results.classes)} classes",
        },
        {
            "name": "with votes",
            "value": percent(labels.covered.mean(), 1),
            "note": f"{results.facts('label')['lfs']} labeling functions",
        },
    ]
    asked = _asked(results)
    if asked:
        total = sum(asked.values())
        out.append(
            {
                "name": "rows the LLM read",
                "value": f"{total:,}",
                "note": ", ".join(f"{n} {s}" for s, n in asked.items()),
            }
        )
    # The label model where it is used, on the rows it labels; the student on new ones.
    for key, name, split in (
        ("label_model", "label model", "train"),
        ("student", "student", measured),
    ):
        row = measured_row(results, split, key)
        if row is not None:
            low, high = row["accuracy"]["low"], row["accuracy"]["high"]
            note = f"accuracy on {split}, {percent(low, 1)} to {percent(high, 1)}"
            out.append({"name": name, "value": percent(row["accuracy"]["value"], 1), "note": note})
    estimate = results.facts("aggregate").get("estimated_accuracy")
    if estimate and measured_row(results, "train", "label_model") is None:
        value, low, high = estimate
        note = f"its own estimate without gold labels, {percent(low, 1)} to {percent(high, 1)}"
        out.append({"name": "label model, estimated", "value": percent(value, 1), "note": note})
    return out


def _asked(results: Results) -> dict[str, int]:
    """How many rows of each split any prompt was asked about."""
    counts = {split: int(results.asked(split).sum()) for split in results.splits}
    return {split: count for split, count in counts.items() if count}


def funnel_steps(results: Results) -> list[tuple[str, int, str]]:
    """Return what became of the training rows, step by step: name, count, a word on it."""
    labels = results.labels("train")
    n = len(labels.ids)
    asked = _asked(results).get("train", 0)
    sure = int((labels.covered & (labels.confidence >= SURE)).sum())
    steps = [("training rows", n, "")]
    if asked:
        steps.append(("asked the LLM", asked, percent(asked / n) + " of the rows"))
    steps += [
        ("with votes", int(labels.covered.sum()), "at least one labeling function"),
        (f"{SURE:.0%} sure", sure, "label model"),
    ]
    if "distill" in results.steps:
        steps.append(("student trained on", results.facts("distill")["rows"], ""))
    return steps


def what_each_part_gave(results: Results, measured: str | None) -> str:
    """Say in a sentence what each part gave, from the measured rows."""
    names = {
        "heuristics_majority_vote": "heuristics by majority vote",
        "llm_alone": "the LLM alone",
        "label_model": "the label model over all votes",
        "student": "the student on the label model",
        "student_gold": "the same student on gold",
    }
    said = []
    for key, name in names.items():
        row = measured_row(results, measured, key)
        if row is not None:
            said.append(f"{name} {percent(row['accuracy']['value'], 1)}")
    return f"Accuracy on {measured}: " + ", ".join(said) + "." if said else ""


def percent(value: float | None, digits: int = 0) -> str:
    """Write a share as a percentage, or a dash where there is none."""
    return "-" if value is None or value != value else f"{100 * value:.{digits}f} %"
