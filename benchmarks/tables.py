"""Write the tables of docs/benchmarks.md from the committed results.

    python -m benchmarks.tables

Between ``<!-- NAME -->`` and ``<!-- /NAME -->`` stands the table of results/NAME.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.corpus_tables import corpus_tables
from benchmarks.shared import ROOT
from llmlabel.io import atomic_write
from llmlabel.io.runs import read_json

DOCS = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"


def render(text: str) -> str:
    """Return the page with every table made anew from its results."""
    for file in sorted(RESULTS.glob("*.json")):
        name, found = file.stem, read_json(file)
        if "test" in found:
            table = _quality(found["test"])
        elif "same_decisions" in found:
            table = corpus_tables(found)
        else:
            table = _figures(found.get("figures", found))
        if "at_512" in found:
            table = f"{_engines(found)}\n\n{table}"
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marked.sub(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)  # type: ignore[misc]
    return text


def _quality(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "| who labels | rows | accuracy % | macro-F1 % | ECE |\n|---|---:|---:|---:|---:|"
    lines = [
        f"| {r['name']} | {r['n']} | {_interval(r['accuracy'])} | {_interval(r['macro_f1'])} | "
        f"{'-' if r['ece'] is None else format(r['ece'], '.3f')} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


_ENGINES = {
    "aiohttp": "bare aiohttp",
    "ours": "llmlabel",
    "openai_aiohttp": "`openai` on its aiohttp transport",
    "openai": "`openai` by default",
    "curator": "curator",
}


def _engines(found: Mapping[str, Any]) -> str:
    own = found if isinstance(found["curator"], str) else found["curator"]
    lost = {
        "ours": found["rows_lost_with_faults"],
        "openai": found["openai_rows_lost_with_faults"],
        "curator": own["rows_lost_with_faults"],
    }
    after = {"ours": found, "curator": own}
    lines = []
    for name, shown in _ENGINES.items():
        if name not in found["at_64"]["work_s"]:
            continue
        cells = [f"{found[at]['work_s'][name]:.2f} s" for at in ("at_64", "at_512")]
        cells += [f"{found[at]['over_aiohttp'][name]:.2f}" for at in ("at_64", "at_512")]
        cells += [str(lost.get(name, ""))]
        cells += [
            f"{after[name]['repeated_after_kill']}" if name in after else "",
            f"{after[name]['rerun_seconds']:.2f} s" if name in after else "",
        ]
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    head = (
        "| | 64 in flight | 512 in flight | over aiohttp, 64 | 512 | rows lost with faults | "
        "repeated after kill -9 | rerun, whole process |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *lines])


def _figures(found: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in found.items() if not isinstance(v, list | dict)}
    lines = [f"| {name} | {_number(value)} |" for name, value in plain.items()]
    return "\n".join(["| figure | value |\n|---|---:|", *lines])


def _interval(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    with atomic_write(DOCS) as part:
        part.write_text(render(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
