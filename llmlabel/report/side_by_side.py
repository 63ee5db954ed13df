"""Teacher and student in one table, and how right the student is where it is sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from llmlabel.report import charts
from llmlabel.report.overview import percent
from llmlabel.report.results import Results
from llmlabel.schema import ABSTAIN

__all__ = ["comparison", "risk_coverage", "selective"]


def comparison(results: Results) -> dict[str, Any] | None:
    """Return the rows of the table; None where nothing was compared."""
    found = results.comparison()
    if found is None or not found["rows"]:
        return None
    rows = [_row(r) for r in found["rows"]]
    said = []
    student: Mapping[str, Any] = next((r for r in found["rows"] if r["key"] == "student"), {})
    if student.get("temperature") is not None:
        said.append(
            f"The student's temperature, fitted on the valid rows with gold, is {student['temperature']:.2f}."
        )
    contest = results.facts("distill").get("contest")
    if contest:
        said.append(
            f"On {contest['rows']} rows held out of training its log-loss against the labels was "
            f"{contest['encoder']:.3f}, the linear student's {contest['linear']:.3f}: the "
            f"{contest['taken']} student was taken."
        )
    return {"rows": rows, "note": " ".join(said)}


def _row(r: Mapping[str, Any]) -> dict[str, str]:
    def number(name: str, form: str) -> str:
        value = r.get(name)
        return "-" if value is None else format(value, form)

    return {
        "name": r["name"],
        "accuracy": percent(r["accuracy"]["value"], 1),
        "f1": percent(r["macro_f1"]["value"], 1),
        "agrees": percent(r.get("agrees"), 1) if r.get("agrees") is not None else "-",
        "ece": number("ece", ".3f"),
        "ece_after": number("ece_after", ".3f"),
        "p": _p(r.get("p_against_student")),
        "ms_1": number("ms_1", ".1f"),
        "ms_32": number("ms_32", ".1f"),
        "texts_per_s": number("texts_per_s", ",.0f"),
        "megabytes": number("megabytes", ",.1f"),
        "usd": number("usd_per_million", ",.2f"),
    }


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def selective(results: Results) -> dict[str, Any] | None:
    """Return what the student answers at some wanted accuracies; None without held-back rows."""
    found = results.selective()
    if found is None:
        return None
    rows = [
        {
            "target": percent(r["target"]),
            "of": r["of"],
            "threshold": "never" if r["threshold"] > 1 else f"{r['threshold']:.3f}",
            "answered": percent(r["answered"], 1),
            "accuracy": percent(r["accuracy"], 1),
        }
        for r in found["targets"]
    ]
    return {
        "held": [{"of": h["of"], "split": h["split"], "n": len(h["right"])} for h in found["held"]],
        "rows": rows,
        "curve": risk_coverage(results),
    }


def risk_coverage(results: Results) -> Markup:
    """Draw how right the student is of its surest rows, on the held-back and the test rows."""
    found = results.selective()
    if found is None:
        return Markup("")
    first = found["held"][0]
    curves = [(f"{first['split']}, by {first['of']}", "plain", first["sureness"], first["right"])]
    gold = results.gold("test") if "test" in results.splits else None
    if gold is not None and (gold != ABSTAIN).any():
        said = results.labels("test", of="predictions").probabilities[gold != ABSTAIN]
        right = said.argmax(axis=1) == gold[gold != ABSTAIN]
        curves.append(("test, by gold", "student", said.max(axis=1), right))
    points = []
    for name, kind, sureness, right in curves:
        order = np.argsort(-np.asarray(sureness, float), kind="stable")
        hits = np.cumsum(np.asarray(right, float)[order])
        answered = np.arange(1, len(order) + 1)
        start = min(len(order), 10) - 1  # of fewer rows the share says nothing
        points.append((name, kind, answered[start:] / len(order), (hits / answered)[start:]))
    return charts.lines(points, "share of rows answered, the surest first", "right")
