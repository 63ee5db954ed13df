"""A model card: what a student is, what taught it, how right it is, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmlabel.distill.export import Exported
from llmlabel.report.cost import llm_costs
from llmlabel.report.overview import measured_split, percent
from llmlabel.report.results import Results

__all__ = ["model_card"]

_LIBRARIES: Mapping[str, str] = {
    "sklearn": "sklearn",
    "transformers": "transformers",
    "onnx": "onnx",
}


def model_card(
    name: str, described: Mapping[str, Any], exported: Exported, results: Results | None
) -> str:
    """Return a README.md for a folder with an exported student.

    Parameters
    ----------
    name
        Of the model.
    described
        What the student says of itself.
    exported
        How it was exported.
    results
        Of the run that made it; None where only the student is there.
    """
    head = [
        "---",
        f"library_name: {_LIBRARIES[exported.form]}",
        "pipeline_tag: text-classification",
        "tags:\n- llmlabel\n- weak-supervision\n- distillation",
        "---",
        "",
        f"# {name}",
        "",
    ]
    parts = [*head]
    if results is not None:
        parts += _purpose(results)
    parts += ["## Use", "", f"Needs {', '.join(exported.needs)}. FOLDER is this folder.", ""]
    parts += ["```python", exported.usage, "```", ""]
    parts += [
        f"Its probabilities differ from those of the student it was exported from by at most "
        f"{exported.difference:.1e} on the texts on which both were compared.",
        "",
    ]
    if results is not None:
        parts += [*_quality(results), *_training(results)]
    parts += ["## Student", "", *_facts(described), ""]
    parts += _limits(described, results)
    return "\n".join(parts)


def _purpose(results: Results) -> list[str]:
    task = results.recipe["task"]
    classes = [
        f"- **{c}**: {text}" if text else f"- **{c}**" for c, text in task["classes"].items()
    ]
    told = results.recipe.get("description") or ""
    return [told, "", f"It labels {task.get('description') or task['name']}:", "", *classes, ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(r)} |" for r in rows), ""]


def _quality(results: Results) -> list[str]:
    split = measured_split(results)
    if split is None:
        return ["## Quality", "", "Nothing was measured: the data had no gold labels.", ""]
    rows = [
        [
            r["name"],
            str(r["n"]),
            _interval(r["accuracy"]),
            _interval(r["macro_f1"]),
            "-" if r["ece"] is None else f"{r['ece']:.3f}",
        ]
        for r in results.evaluation[split]
    ]
    head = ["who labels", "rows", "accuracy % (95 % interval)", "macro-F1 %", "ECE"]
    return [
        "## Quality",
        "",
        f"Against the gold labels of the split `{split}`.",
        "",
        *_table(head, rows),
    ]


def _interval(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def _training(results: Results) -> list[str]:
    rows = results.facts("load").get("rows", {})
    said = ", ".join(f"{n:,} {split}" for split, n in rows.items())
    learned = results.lf_summary("train").to_table().to_pylist()
    kinds = {lf["name"]: lf["kind"] for lf in results.lf_kinds()}
    lfs = [
        [r["name"], kinds[r["name"]], percent(r["Coverage"], 1), percent(r.get("Learned Acc."), 1)]
        for r in learned
    ]
    model = results.facts("aggregate").get("model")
    out = [
        "## Data and labels",
        "",
        f"Rows: {said}. {_gold_used(results)} The votes of {len(lfs)} labeling functions were denoised by the label model `{model}`.",
        "",
        *_table(["labeling function", "kind", "coverage", "learned accuracy"], lfs),
    ]
    costs = [c for c in llm_costs(results) if not c["name"].startswith("· ")]
    if costs:
        out += _table(
            ["prompt", "rows asked", "calls paid", "US $"],
            [[c["name"], c["asked"], c["paid"], c["usd"] or "-"] for c in costs],
        )
    return out


def _gold_used(results: Results) -> str:
    """Say where labels that people gave went in."""
    used = []
    for step, what in (("aggregate", "the label model"), ("distill", "the student")):
        rows = results.facts(step).get("gold_rows")
        if rows:
            used.append(f"{what} ({rows} rows)")
    calibrated = [s for s in results.steps if results.facts(s).get("calibration_rows")]
    used += [f"the confidences of {s.removeprefix('ask-')}" for s in calibrated]
    if not used:
        return "No gold label went in but for measuring (and whatever examples a prompt shows)."
    return f"Gold labels went into {', '.join(used)}."


def _facts(described: Mapping[str, Any]) -> list[str]:
    plain = {
        k: v for k, v in described.items() if not isinstance(v, list | Mapping) and v is not None
    }
    return [f"- {name.replace('_', ' ')}: {value}" for name, value in plain.items()]


def _limits(described: Mapping[str, Any], results: Results | None) -> list[str]:
    out = ["## Limits", ""]
    out.append("- It knows the classes above and no other; every text gets one of them.")
    out.append("- It was taught by votes, and repeats the errors that its teachers share.")
    never = described.get("classes_without_rows")
    if never:
        out.append(f"- It has never seen, and never says: {', '.join(never)}.")
    found = results.selective() if results is not None else None
    if found is not None:
        count = {h["of"]: len(h["right"]) for h in found["held"]}
        out += [
            f"- {_promise(r['of'])} at least {percent(r['target'])} of the time (95 % confidence, "
            f"on {count[r['of']]} rows that it had not met) where its confidence is at least "
            f"{r['threshold']:.3f}."
            for r in found["targets"]
            if r["threshold"] <= 1
        ]
    return [*out, ""]


def _promise(of: str) -> str:
    return "Right" if of == "gold" else f"In agreement with the {of}"
