"""What the commands do; `app` declares their options."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from llmlabel.cli.terminal import console, counting, percent, run_display, table, warnings_as_lines
from llmlabel.errors import ConfigError
from llmlabel.io import STDIN, atomic_write, count_rows, open_sink
from llmlabel.io.shipped import shipped_folder
from llmlabel.llm.costs import Range
from llmlabel.recipe import PlannedStep, Recipe, explain_row, load_recipe, plan, retry, run
from llmlabel.recipe.analyzing import Analysis, analyze_run
from llmlabel.recipe.explain import recipe_of
from llmlabel.recipe.exporting import export_run, push_to_hub
from llmlabel.recipe.load import find_recipe
from llmlabel.recipe.predict import Backend, DeferTo, load_predictor, predict_file
from llmlabel.report import Results, build

_SUGGESTIONS = 12
_BY = {
    "gold": "held-back gold labels",
    "LLM": "the LLM's answers on rows that it had not met",
    "label model": "the label model's word on held-back rows",
}

__all__ = [
    "analyze_command",
    "explain_command",
    "export_command",
    "init_command",
    "plan_command",
    "predict_command",
    "report_command",
    "retry_command",
    "run_command",
]


def run_command(
    name: str, out: Path | None, config: Path | None, until: str | None, *, as_json: bool
) -> None:
    """Run a recipe and show what came out."""
    recipe = load_recipe(name, config=config)
    with warnings_as_lines(), run_display() as display:
        folder = run(recipe, out, observer=display, until=until)
    results = Results.read(folder)
    if as_json:
        typer.echo(json.dumps(results.as_dict(), indent=2))
        return
    _show_results(results)


def plan_command(name: str, out: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Say what a run would do."""
    recipe = load_recipe(name, config=config)
    with warnings_as_lines():
        steps = plan(recipe, out)
    if as_json:
        listed = [
            {
                "step": s.name,
                "done": s.done,
                "cost": asdict(s.cost) if s.cost else None,
                "free": s.free,
            }
            for s in steps
        ]
        typer.echo(json.dumps({"recipe": recipe.name, "steps": listed}, indent=2))
        return
    rows = [[s.name, "kept" if s.done else "will run", *_cost_cells(s)] for s in steps]
    columns = ["step", "state", "LLM calls", "cached", "to ask", "tokens in", "tokens out", "US $"]
    table(f"Plan for {recipe.name}", columns, rows, left=["step", "state"])
    for s in steps:
        for warning in s.cost.warnings if s.cost and not s.free else ():
            console.print(f"[yellow]warning:[/yellow] {s.name}: {warning}", highlight=False)


def _cost_cells(step: PlannedStep) -> list[str]:
    cost = step.cost
    if cost is None:
        return [""] * 6
    if step.free:
        return [str(cost.total), str(cost.cached), f"{cost.calls} ({step.free})", "", "", "0"]
    return [
        str(cost.total),
        str(cost.cached),
        str(cost.calls),
        _range(cost.prompt_tokens, 0),
        _range(cost.completion_tokens, 0),
        "no price" if cost.usd is None else _range(cost.usd, 4),
    ]


def _range(found: Range, digits: int) -> str:
    low, high = round(found.low, digits), round(found.high, digits)
    if low == high:
        return f"{found.expected:,.{digits}f}"
    return f"{found.expected:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def analyze_command(
    name: str,
    out: Path | None,
    config: Path | None,
    split: str,
    *,
    with_effects: bool,
    as_json: bool,
) -> None:
    """Show the labeling functions' table and what to do next, voting first where the recipe has changed."""
    folder = Path(name)
    if not (folder / "run.json").is_file():
        recipe: Recipe = load_recipe(name, config=config)
        with warnings_as_lines(), run_display() as display:
            folder = run(recipe, out, observer=display, until="aggregate")
    found = analyze_run(Results.read(folder), split, with_effects=with_effects)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
        return
    _show_lfs(found.rows(), split)
    _show_next(found)


def explain_command(folder: Path, row_id: str, *, as_json: bool) -> None:
    """Show one row's votes, their weights and where they came from."""
    with warnings_as_lines():
        found = explain_row(folder, row_id)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{found['id']} ({found['split']}): {found['text']}\n")
    ranked = sorted(found["probabilities"].items(), key=lambda item: -item[1])
    said = ", ".join(f"{name} {percent(p)} %" for name, p in ranked[:3])
    student = f"; the student says {found['student']}" if found["student"] else ""
    typer.echo(f"label: {found['label'] or 'none, no LF votes'} ({said}){student}")
    rows = [
        [
            v["lf"],
            v["vote"],
            "" if v["confidence"] is None else f"{percent(v['confidence'], 0)} %",
            "-" if v["weight"] is None else f"{v['weight']:+.2f}",
            v["why"] or "",
            _call(v["provenance"]),
        ]
        for v in found["votes"]
    ]
    columns = ["labeling function", "vote", "sure", "weight", "why", "LLM call"]
    table("Votes", columns, rows, left=["labeling function", "vote", "why", "LLM call"])
    if found["label"] and "log_odds" in found:
        typer.echo(
            f"log-odds of {found['label']} against {found['against']}: prior "
            f"{found['prior']:+.2f}, votes above, abstains {found['silence']:+.2f}, "
            f"together {found['log_odds']:+.2f}"
        )


def _call(call: dict[str, Any] | None) -> str:
    if call is None:
        return ""
    tokens = (
        ""
        if call["prompt_tokens"] is None
        else (f", {call['prompt_tokens']} + {call['completion_tokens']} tokens")
    )
    waited = f", {call['latency_s']:.1f} s" if call["latency_s"] else ""
    return f"{call['prompt']} v{call['prompt_version']}, {call['model']}{tokens}{waited}"


def retry_command(folder: Path, config: Path | None) -> None:
    """Ask again about what failed."""
    recipe = recipe_of(Results.read(folder))
    if config is not None:
        recipe = load_recipe(recipe.file, config=config)
    with warnings_as_lines(), run_display() as display:
        failed = retry(recipe, folder, observer=display)
    if failed:
        left = sum(s.facts.get("failed", 0) for s in Results.read(folder).steps.values())
        console.print(f"{failed} rows had failed; {left} still do", highlight=False)
    else:
        console.print("no row has failed: nothing to do", highlight=False)


def report_command(folder: Path, out: Path | None) -> None:
    """Write the report page of a run."""
    target = out or folder / "report.html"
    page = build(folder)
    with atomic_write(target) as part:
        part.write_text(page, encoding="utf-8")
    typer.echo(str(target))


def predict_command(
    model: Path,
    file: Path,
    out: Path | None,
    text: list[str] | None,
    *,
    target_accuracy: float | None,
    defer_to: DeferTo,
    backend: Backend,
) -> None:
    """Label rows with a student."""
    total = None if str(file) == STDIN else count_rows(file)
    with warnings_as_lines():
        predictor = load_predictor(
            model,
            text=text,
            target_accuracy=target_accuracy,
            defer_to=defer_to,
            backend=backend,
            rows=total,
        )
        rows = left = asked = 0
        with open_sink(out) as sink, counting("rows", total) as done:
            for part in predict_file(model, file, predictor=predictor, on_progress=done):
                sink.write(part)
                rows += part.num_rows
                left += part["label"].null_count
                if "answered_by" in part.column_names:
                    asked += part["answered_by"].to_pylist().count("llm")
    if out is None:
        return
    by = f", {asked} of them by the LLM" if asked else ""
    without = f", {left} left" if left else ""
    how = f"computed by {predictor.backend}"
    if predictor.of:
        how += f"; sure enough by {_BY[predictor.of]}"
    said = f"{rows - left} rows labeled{by}{without}: {out} ({how})"
    console.print(said, highlight=False)


def export_command(
    model: Path, folder: Path, form: str | None, repository: str | None, *, public: bool
) -> None:
    """Write a student as a folder that loads without llmlabel."""
    with warnings_as_lines():
        done = export_run(model, folder, form)
    console.print(
        f"{done.exported.form}: {folder}, probabilities within {done.exported.difference:.1e} of "
        "the student's; README.md says how to load it",
        highlight=False,
    )
    if repository is not None:
        console.print(f"pushed: {push_to_hub(folder, repository, private=not public)}")


def init_command(name: str, folder: Path) -> None:
    """Copy a shipped recipe, with the prompts it names, to a new folder."""
    source = find_recipe(name).parent
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: exists and is not empty; name a new folder")
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", ".*"))
    _make_own(folder)
    console.print(f"{folder} is yours. Next: llmlabel run {folder}", highlight=False)


def _make_own(folder: Path) -> None:
    """Give a copied recipe its folder's name and a prompt of its own to edit."""
    file = folder / "recipe.yaml"
    text = file.read_text(encoding="utf-8")
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "recipe"
    text = re.sub(r"(?m)^name: .*$", f"name: {own}", text, count=1)
    for prompt in re.findall(r"(?m)^    prompt: (\S+)$", text):
        shipped = shipped_folder("prompts") / f"{prompt}.md"
        if shipped.is_file():
            shutil.copyfile(shipped, folder / shipped.name)
            text = re.sub(rf"(?m)^    prompt: {prompt}$", f"    prompt: {shipped.name}", text)
    file.write_text(text, encoding="utf-8")
    load_recipe(folder)  # says at once if the copy were not a recipe


def _show_next(found: Analysis) -> None:
    effect = found.effects
    if effect is not None and effect.label_model_accuracy is not None:
        said = f"with all LFs the label model is right on {percent(effect.label_model_accuracy)} %"
        if effect.student_accuracy is not None:
            said += f", a quick student on {percent(effect.student_accuracy)} %"
        typer.echo(f"{said} of the gold rows; effects are points lost without the LF")
    if not found.suggestions:
        return
    typer.echo("\nWhat to do next")
    for i, step in enumerate(found.suggestions[:_SUGGESTIONS], 1):
        typer.echo(f"{i:3}. {step.what}")
        for example in step.examples:
            shown = " ".join(example.split())
            typer.echo(f"       {shown[:100]}{'...' if len(shown) > 100 else ''}")
    more = len(found.suggestions) - _SUGGESTIONS
    if more > 0:
        typer.echo(f"     and {more} more: --json")


def _show_results(results: Results) -> None:
    for name, step in results.steps.items():
        facts = step.facts
        if facts.get("failed"):
            console.print(
                f"[yellow]warning:[/yellow] {facts['failed']} calls of {name} failed, the first: "
                f"{escape(str(facts['first_failure']))}. llmlabel retry {results.folder}",
                highlight=False,
            )
        if facts.get("invalid"):
            console.print(
                f"[yellow]warning:[/yellow] {facts['invalid']} answers of {name} are outside the "
                f"schema, the first: {escape(str(facts['first_invalid']))}",
                highlight=False,
            )
    for split, measured in results.evaluation.items():
        rows = [
            [
                r["name"],
                str(r["n"]),
                _with_interval(r["accuracy"]),
                _with_interval(r["macro_f1"]),
                percent(r.get("coverage")),
                percent(r.get("ece")),
            ]
            for r in measured
        ]
        columns = ["who labels", "rows", "accuracy %", "macro-F1 %", "coverage %", "ECE %"]
        table(
            f"{split}: measured on gold labels (95 % intervals)", columns, rows, left=["who labels"]
        )
    page = results.folder / "report.html"
    if page.is_file():
        console.print(f"report: {page}", highlight=False)
    if results.student is not None:
        console.print(f"student: {results.student}", highlight=False)


def _with_interval(value: Any) -> str:
    if value is None:
        return "-"
    return f"{percent(value['value'])} ({percent(value['low'])} to {percent(value['high'])})"


def _show_lfs(rows: list[dict[str, Any]], split: str) -> None:
    shares = {
        "Coverage": "covers",
        "Overlaps": "overlaps",
        "Conflicts": "conflicts",
        "Alone": "alone",
        "Emp. Acc.": "right",
        "Learned Acc.": "learned",
        "Relabeled": "relabels",
    }
    points = {"Model Effect": "model", "Student Effect": "student"}
    known = [name for name in (*shares, *points) if name in rows[0]]
    gold = "Correct" in rows[0]

    def cells(row: dict[str, Any]) -> list[str]:
        votes_for = row["Polarity"]
        named = ", ".join(votes_for) if len(votes_for) <= 2 else f"{len(votes_for)} classes"
        out = [row["name"], named]
        out += [str(row["Correct"] + row["Incorrect"])] if gold else []
        for name in known:
            value = row[name]
            said = percent(value) if name in shares else f"{100 * value:+.1f}"
            out.append(said)
        return out

    titles = ["name", "votes for", *(["gold votes"] if gold else [])]
    titles += [f"{shares[n]} %" if n in shares else f"{points[n]} pts" for n in known]
    table(
        f"Labeling functions on {split}",
        titles,
        [cells(row) for row in rows],
        left=["name", "votes for"],
    )
