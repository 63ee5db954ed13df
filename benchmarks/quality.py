"""What the benchmarks of quality share: their options, their table, their JSON."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.shared import ROOT, require_shared
from benchmarks.shared_recipes import figures
from llmlabel.recipe import Recipe

RESULTS = ROOT / "benchmarks" / "results"


def main(name: str, title: str, make: Callable[[Path], Recipe], *, needs_shared: bool) -> None:
    """Run a recipe in a folder of its own and print what each part reaches on its test rows.

    Parameters
    ----------
    name
        Of the results file.
    title
        Of the table.
    make
        From a folder to the recipe.
    needs_shared
        Whether the recipe reads ../shared.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds anyway")
    parser.add_argument("--save", action="store_true", help=f"write benchmarks/results/{name}.json")
    options = parser.parse_args()
    if needs_shared:
        require_shared()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        named, rows = figures(make(Path(folder) / "recipe"), Path(folder) / "run")
    found = {**named, "seconds": round(time.perf_counter() - started, 1)}
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps({"figures": found, "test": _short(rows)}, indent=2)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))
    else:
        _show(title, rows)


def _short(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kept = ("key", "name", "n", "accuracy", "macro_f1", "coverage", "ece")
    return [{k: r[k] for k in kept} for r in rows]


def _show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title=title)
    for column in ("who labels", "rows", "accuracy %", "macro-F1 %", "ECE"):
        table.add_column(column, justify="left" if column == "who labels" else "right")
    for r in rows:
        ece = "-" if r["ece"] is None else f"{r['ece']:.3f}"
        table.add_row(r["name"], str(r["n"]), _cell(r["accuracy"]), _cell(r["macro_f1"]), ece)
    Console().print(table)


def _cell(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
