"""One page for a run: what went in, who labels how well, and who said what about which row."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from llmlabel.analysis import conflicts
from llmlabel.io.runs import read_json
from llmlabel.report import charts
from llmlabel.report.corpus import corpus, corpus_tiles
from llmlabel.report.cost import llm_costs
from llmlabel.report.overview import (
    funnel_steps,
    measured_row,
    measured_split,
    percent,
    tiles,
    what_each_part_gave,
)
from llmlabel.report.rag import rag, rag_tiles
from llmlabel.report.results import Results
from llmlabel.report.side_by_side import comparison, selective

__all__ = ["build"]

_FACTS: Final = 8  # of one kind, in the table of steps


def build(folder: str | Path) -> str:
    """Return the report of a run as one HTML text that loads nothing from elsewhere.

    Parameters
    ----------
    folder
        A run folder whose votes have been aggregated, or whose corpus has been filtered.

    Raises
    ------
    ConfigError
        The folder is no run, or has no labels yet.
    """
    results = Results.read(folder)
    if not {"filter", "chunk"} & set(results.steps):
        results.path("aggregate", "model.json")  # says it where there are no labels yet
    style = _resource("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(_resource),
    )
    return environment.get_template("template.html.j2").render(
        **_context(results),
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=f"sha256-{digest}",
        version=version("llmlabel"),
    )


def _resource(name: str) -> str:
    return files("llmlabel.report").joinpath(name).read_text(encoding="utf-8")


def _context(results: Results) -> dict[str, Any]:
    filtered, searched = corpus(results), rag(results)
    context: dict[str, Any] = {
        "recipe": results.recipe,
        "corpus": filtered,
        "rag": searched,
        "labeled": "aggregate" in results.steps,
        "tiles": corpus_tiles(results) if filtered else rag_tiles(results) if searched else [],
        "warnings": _warnings(results),
        "steps": _steps(results),
    }
    if context["labeled"]:
        labeling = _labeling(results)
        labeling["tiles"] = [*context["tiles"], *labeling["tiles"]]
        context |= labeling
    context["sections"] = _sections(context)
    return context


def _labeling(results: Results) -> dict[str, Any]:
    measured = measured_split(results)
    return {
        "tiles": tiles(results, measured),
        "funnel": charts.funnel(funnel_steps(results)),
        "parts": what_each_part_gave(results, measured),
        "evaluation": [_evaluation(s, rows) for s, rows in _ordered(results, measured)],
        "slices": _slices(results, measured),
        "comparison": comparison(results),
        "selective": selective(results),
        "lf_split": "train",
        "measured_split": measured,
        **_lf_table(results),
        "costs": llm_costs(results),
        "conflict_map": _conflict_map(results),
        "confidence": _confidence(results),
        "reliability": _reliability(results, measured),
        "confusion": _confusion(results, measured),
        "contested": [_contested(c) for c in results.contested()],
    }


def _slices(results: Results, measured: str | None) -> list[dict[str, str]]:
    found = results.slices(measured) if measured else []
    order = list(dict.fromkeys(r["slice"] for r in found))
    rows = sorted(found, key=lambda r: order.index(r["slice"]))
    return [
        {
            "slice": r["slice"],
            "name": r["name"],
            "n": f"{r['n']:,}",
            "accuracy": percent(r["accuracy"]["value"], 1),
            "interval": f"{percent(r['accuracy']['low'], 1)} to {percent(r['accuracy']['high'], 1)}",
        }
        for r in rows
    ]


def _ordered(results: Results, measured: str | None) -> list[tuple[str, Any]]:
    return sorted(results.evaluation.items(), key=lambda item: item[0] != measured)


def _warnings(results: Results) -> list[str]:
    out = []
    for name in results.steps:
        if not name.startswith("ask-"):
            continue
        facts = results.facts(name)
        if facts["failed"]:
            out.append(
                f"{facts['failed']} calls of {name} failed for good ({facts['first_failure']}); those "
                f"rows got no vote from it. llmlabel retry {results.folder} asks them again."
            )
        if facts["invalid"]:
            out.append(
                f"{facts['invalid']} answers of {name} were outside the schema; "
                "they count as no vote, not as an abstain."
            )
        if facts["recorded"]:
            out.append(f"{name}: the answers are recorded ones; no LLM was called in this run.")
    if results.facts("aggregate").get("converged") is False:
        out.append("The label model stopped before it converged.")
    if results.facts("aggregate").get("fell_back"):
        out.append(
            "The label model foretold the votes of left-out labeling functions worse than the "
            "majority vote does; what is shown as label model is the majority vote."
        )
    return out


def _evaluation(split: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kinds = {"student": "student", "student_gold": "gold", "llm_alone": "llm"}
    drawn = [
        charts.Interval(
            r["name"], r["accuracy"]["value"], r["accuracy"]["low"], r["accuracy"]["high"],
            kinds.get(r["key"], "weak" if "majority" in r["key"] else "plain"),
        )
        for r in rows
    ]  # fmt: skip
    notes = {r["note"] for r in rows if r.get("note")}
    note = "Rows without a vote count as wrong. Ties count by expectation. " + " ".join(
        sorted(notes)
    )
    return {
        "name": split,
        "note": note.strip(),
        "chart": charts.intervals(drawn),
        "rows": [
            {
                "name": r["name"],
                "n": f"{r['n']:,}",
                "accuracy": percent(r["accuracy"]["value"], 1),
                "accuracy_interval": _interval(r["accuracy"]),
                "f1": percent(r["macro_f1"]["value"], 1),
                "f1_interval": _interval(r["macro_f1"]),
                "coverage": percent(r["coverage"], 1),
                "ece": "-" if r["ece"] is None else f"{r['ece']:.3f}",
            }
            for r in rows
        ],
    }


def _lf_table(results: Results) -> dict[str, Any]:
    kinds = {lf["name"]: lf["kind"] for lf in results.lf_kinds()}
    rows = []
    has_gold = results.gold("train") is not None
    for r in results.lf_summary("train").to_table().to_pylist():
        empirical, learned = r.get("Emp. Acc."), r.get("Learned Acc.")
        rows.append(
            {
                "name": r["name"],
                "kind": kinds[r["name"]],
                "polarity": _polarity(r["Polarity"], len(results.classes)),
                "coverage": percent(r["Coverage"], 1),
                "coverage_bar": charts.bar(r["Coverage"]),
                "overlaps": percent(r["Overlaps"], 1),
                "conflicts": percent(r["Conflicts"], 1),
                "conflicts_bar": charts.bar(r["Conflicts"], "weak"),
                "correct": r.get("Correct"),
                "incorrect": r.get("Incorrect"),
                "empirical": percent(empirical, 1),
                "empirical_bar": charts.bar(empirical, _good(empirical)),
                "learned": percent(learned, 1),
                "learned_bar": charts.bar(learned, _good(learned)),
            }
        )
    return {"lfs": rows, "has_gold": has_gold}


def _polarity(names: Sequence[str], k: int) -> str:
    if len(names) <= 2:
        return ", ".join(names)
    return f"{len(names)} of {k} classes" if len(names) < k else f"all {k} classes"


def _good(share: float | None) -> str:
    return "plain" if share is None or share >= 0.6 else "bad"


def _conflict_map(results: Results) -> Markup:
    votes = results.votes("train")
    return charts.heat_map(
        conflicts(votes), votes.lf_names, votes.lf_names, as_percent=True,
        label="share of rows on which two labeling functions vote differently",
    )  # fmt: skip


def _confidence(results: Results) -> Markup:
    labels = results.labels("train")
    sure = labels.confidence[labels.covered]
    mean = float(sure.mean()) if sure.size else 0.0
    return charts.histogram(sure, f"histogram of the label model's confidence, mean {mean:.2f}")


def _reliability(results: Results, measured: str | None) -> Markup | None:
    curves = []
    for key, name, kind in (
        ("label_model", "label model", "plain"),
        ("student", "student", "student"),
    ):
        row = measured_row(results, measured, key)
        if row is not None and row.get("reliability"):
            c = row["reliability"]
            curves.append(
                (
                    name,
                    kind,
                    np.array(c["confidence"]),
                    np.array(c["accuracy"]),
                    np.array(c["count"]),
                )
            )
    return charts.reliability(curves) if curves else None


def _confusion(results: Results, measured: str | None) -> dict[str, Any] | None:
    key = "student" if measured_row(results, measured, "student") else "label_model"
    row = measured_row(results, measured, key)
    if row is None or row.get("confusion") is None:
        return None
    matrix = np.array(row["confusion"], float)
    columns = [*results.classes, "(no vote)"][: matrix.shape[1]]
    if matrix.shape[1] > len(results.classes) and not matrix[:, -1].any():
        matrix, columns = matrix[:, :-1], columns[:-1]
    chart = charts.heat_map(
        matrix,
        results.classes,
        columns,
        as_percent=False,
        label=f"confusion matrix of the {row['name']}",
    )
    return {"who": row["name"], "chart": chart}


def _contested(c: Mapping[str, Any]) -> dict[str, Any]:
    text = c["text"]
    ranked = sorted(c["probabilities"].items(), key=lambda item: -item[1])
    gold = c.get("gold")
    return {
        "id": c["id"],
        "text": text,
        "short": text[:90] + ("…" if len(text) > 90 else ""),
        "label": c["label"],
        "confidence": percent(c["confidence"]),
        "gold": gold,
        "mark": "" if gold is None else ("right" if gold == c["label"] else "wrong"),
        "student": c.get("student"),
        "posterior": ", ".join(f"{name} {percent(p)}" for name, p in ranked[:3]),
        "votes": [
            {
                "lf": v["lf"],
                "vote": v["vote"],
                "sure": "" if v["confidence"] is None else percent(v["confidence"]),
                "why": v["why"] or "",
            }
            for v in c["votes"]
        ],
    }


def _steps(results: Results) -> list[dict[str, str]]:
    out = []
    for name, step in results.steps.items():
        if name == "report":  # of an earlier page: this one is not in its own table
            continue
        manifest = read_json(step.path / "manifest.json")
        facts = ", ".join(f"{k} {_short(v)}" for k, v in manifest["facts"].items() if v is not None)
        out.append(
            {
                "name": name,
                "seconds": f"{manifest['seconds']:.1f}",
                "facts": facts,
                "folder": step.path.name,
            }
        )
    return out


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_first([f'{k} {_short(v)}' for k, v in value.items()])})"
    if isinstance(value, (list, tuple)):
        return f"({_first([_short(v) for v in value])})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _first(parts: Sequence[str]) -> str:
    more = [f"... {len(parts):,} in all"] if len(parts) > _FACTS else []
    return ", ".join([*parts[:_FACTS], *more]) or "none"


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if context["corpus"]:
        found += [("corpus", "Corpus"), ("dropped", "Dropped")]
        if context["corpus"]["duplicates"]:
            found.append(("duplicates", "Duplicates"))
        if context["corpus"]["set_aside"]:
            found.append(("aside", "Set aside"))
    if context["rag"]:
        parts = {"retrieval": "Retrieval", "curation": "Curation", "set_aside": "Set aside"}
        places = {"set_aside": "aside"}
        found += [(places.get(p, p), t) for p, t in parts.items() if context["rag"][p]]
    if context["labeled"]:
        found += _labeling_sections(context)
    return [*found, ("made", "How it was made")]


def _labeling_sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("funnel", "Funnel")]
    if context["costs"]:
        found.append(("cost", "LLM cost"))
    found += [(f"quality-{s['name']}", f"Quality on {s['name']}") for s in context["evaluation"]]
    found += [
        ("lfs", "Labeling functions"),
        ("conflicts", "Conflicts"),
        ("confidence", "Confidence"),
    ]
    if context["confusion"]:
        found.append(("confusion", "Confusion"))
    if context["contested"]:
        found.append(("contested", "Contested rows"))
    return found


def _interval(found: Mapping[str, float | None]) -> str:
    if found.get("low") is None:
        return "-"
    return f"{100 * (found['low'] or 0):.1f} to {100 * (found['high'] or 0):.1f}"
