"""What curation made of documents, and what it did to retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmlabel.io.runs import read_json
from llmlabel.report import charts
from llmlabel.report.overview import percent
from llmlabel.report.results import Results

__all__ = ["rag", "rag_tiles"]

_SHOWN: Final = 8
_METHODS: Final = {"bm25": "BM25", "dense": "dense", "hybrid": "hybrid"}


def rag(results: Results) -> dict[str, Any] | None:
    """Return what the report says of documents; None for a recipe without any."""
    if "chunk" not in results.steps or "documents" not in results.steps:
        return None
    return {
        "passages": results.facts("chunk"),
        "curation": _curation(results),
        "retrieval": _retrieval(results),
        "questions": results.facts("questions"),
        "set_aside": _set_aside(results),
    }


def rag_tiles(results: Results) -> list[dict[str, str]]:
    """Return the figures to look at first."""
    curate, chunk = results.facts("curate"), results.facts("chunk")
    n = results.facts("documents")["read"]
    tiles = [
        {"name": "documents", "value": f"{n:,}", "note": f"{curate.get('kept', n):,} kept"},
        {
            "name": "passages",
            "value": f"{chunk['passages']:,}",
            "note": f"at most {chunk['longest']} tokens; {chunk['before']:,} before",
        },
    ]
    found = results.facts("retrieve")
    if found:
        tiles.append(
            {
                "name": f"nDCG, {found['method']}",
                "value": f"{found['after']:.3f}",
                "note": f"{found['before']:.3f} before, p = {found['p_value']:.3g}",
            }
        )
    return tiles


def _curation(results: Results) -> dict[str, Any] | None:
    if "curate" not in results.steps:
        return None
    actions = pq.read_table(results.path("curate", "actions.parquet"))
    rows = []
    for action, flaws in results.facts("curate")["actions"].items():
        for flaw, count in flaws.items():
            if not flaw:
                continue
            found = actions.filter(
                pc.and_(pc.equal(actions["action"], action), pc.equal(actions["flaw"], flaw))
            )
            rows.append(
                {
                    "flaw": flaw,
                    "action": action,
                    "count": f"{count:,}",
                    "share": percent(count / actions.num_rows, 1),
                    "examples": [
                        {"id": r["id"], "reason": r["reason"], "into": r["into"]}
                        for r in found.slice(0, _SHOWN).to_pylist()
                    ],
                }
            )
    candidates: list[Mapping[str, Any]] = []
    if results.facts("curate")["contradiction_candidates"]:
        table = pq.read_table(results.path("curate", "contradictions.parquet"))
        candidates = table.slice(0, _SHOWN).select(["left", "right", "reason"]).to_pylist()
    file = results.path("curate", "measured.json")
    measured = read_json(file) if file.is_file() else None
    return {"rows": rows, "contradictions": candidates, "measured": measured}


def _retrieval(results: Results) -> dict[str, Any] | None:
    if "retrieve" not in results.steps:
        return None
    found = read_json(results.path("retrieve", "retrieval.json"))
    metric = found["metric"]
    rows, drawn = [], []
    for method, r in found["methods"].items():
        name = _METHODS[method]
        low, high = r["difference"]["low"], r["difference"]["high"]
        rows.append(
            {
                "name": name,
                "before": _figures(r["before"]),
                "after": _figures(r["after"]),
                "difference": f"{r['difference']['value']:+.3f} ({low:+.3f} to {high:+.3f})",
                "p": "< 0.001" if r["p_value"] < 0.001 else f"{r['p_value']:.3f}",
                "wins": r["wins"],
                "losses": r["losses"],
                "ties": r["ties"],
            }
        )
        for when, kind in (("before", "weak"), ("after", "student")):
            value = r[when][metric]
            drawn.append(charts.Interval(f"{name}, {when}", value, value, value, kind))
    last = list(found["methods"].values())[-1]
    return {
        "metric": metric,
        "metrics": list(next(iter(found["methods"].values()))["before"]),
        "questions": found["questions"],
        "rows": rows,
        "chart": charts.intervals(drawn),
        "won": last["won"],
        "lost": last["lost"],
        "method": _METHODS[list(found["methods"])[-1]],
    }


def _figures(values: Mapping[str, float]) -> list[str]:
    return [f"{v:.3f}" for v in values.values()]


def _set_aside(results: Results) -> list[Mapping[str, Any]]:
    file = results.path("documents", "set_aside.parquet")
    rows: list[Mapping[str, Any]] = pq.read_table(file).to_pylist() if file.is_file() else []
    return rows[:25]
