"""What a filter made of a corpus: the funnel, what each step dropped, shares, duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup

from llmlabel.report import charts
from llmlabel.report.overview import percent
from llmlabel.report.results import Results

__all__ = ["corpus", "corpus_tiles"]

_NAMES: Final = {
    "text": "no text",
    "language": "other language, or unsure",
    "gopher_quality": "Gopher quality",
    "gopher_repetition": "Gopher repetition",
    "c4": "C4",
    "fineweb": "FineWeb",
    "benchmarks": "benchmark texts",
    "personal": "personal data",
    "dedup": "duplicates",
    "filter": "low score",
}
_LEFT: Final = {
    "text": "with text",
    "language": "in the languages wanted",
    "filter": "of a sufficient score",
}
_NO_VALUE: Final = "(none)"
_SHOWN: Final = 6
_ROWS: Final = 25
_VALUES: Final = 12


def corpus(results: Results) -> dict[str, Any] | None:
    """Return what the report says of a corpus; None for a recipe without one."""
    if "filter" not in results.steps:
        return None
    facts, clean = results.facts("filter"), results.facts("clean")
    dropped = sorted(facts["dropped"].items(), key=lambda item: list(_NAMES).index(item[0]))
    return {
        "funnel": _funnel(clean, facts, dropped, results.facts("mix")),
        "dropped": [_dropped(name, count, facts) for name, count in dropped],
        "samples": list(_samples(results, facts)),
        "scores": _scores(facts),
        "shares": [
            _shares(name, facts[name])
            for name in ("source", "language")
            if set(facts[name]) != {_NO_VALUE}
        ],
        "duplicates": _duplicates(results),
        "personal": _personal(clean),
        "set_aside": _set_aside(results),
        "not_read": ", ".join(clean["files_not_read"][:_ROWS]),
        "too_short": ", ".join(
            f"{name} {n:,}" for name, n in clean["benchmark_texts_too_short"].items() if n
        ),
        "mix": _mix(results),
        "files": results.steps["mix" if "mix" in results.steps else "filter"].path / "parts",
        "decisions": results.steps["filter"].path / "parts" / "decisions",
    }


def corpus_tiles(results: Results) -> list[dict[str, str]]:
    """Return a corpus's figures to look at first."""
    facts, clean = results.facts("filter"), results.facts("clean")
    n, kept = facts["documents"], facts["kept"]
    tiles = [
        {"name": "documents", "value": f"{n:,}", "note": _shards(clean)},
        {"name": "kept", "value": percent(kept / n, 1), "note": f"{kept:,} documents"},
        {"name": "words kept", "value": f"{facts['words']:,}", "note": "punctuation counts"},
    ]
    aside = sum(clean.get("set_aside", {}).values())
    if aside:
        tiles.append({"name": "set aside", "value": f"{aside:,}", "note": "could not be read"})
    return tiles


def _funnel(
    clean: Mapping[str, Any],
    facts: Mapping[str, Any],
    dropped: list[tuple[str, int]],
    mix: Mapping[str, Any],
) -> Markup:
    left = facts["documents"]
    steps = [("documents read", left, _shards(clean))]
    for name, count in dropped:
        left -= count
        steps.append((_LEFT.get(name, f"without {_NAMES[name]}"), left, f"{count:,} dropped"))
    if mix:
        steps.append(("in the mix", mix["documents"], f"{mix['distinct']:,} different ones"))
    return charts.funnel(steps)


def _shards(clean: Mapping[str, Any]) -> str:
    n = clean["shards"]
    return f"{n:,} shard{'' if n == 1 else 's'}"


def _dropped(name: str, count: int, facts: Mapping[str, Any]) -> dict[str, str]:
    reasons = {
        key.split(": ", 1)[1].removeprefix(f"{name}."): number
        for key, number in facts["reasons"].items()
        if key.startswith(f"{name}: ")
    }
    first = sorted(reasons.items(), key=lambda item: -item[1])[:5]
    return {
        "name": _NAMES[name],
        "count": f"{count:,}",
        "share": percent(count / facts["documents"], 1),
        "reasons": ", ".join(f"{reason} ({number:,})" for reason, number in first),
    }


def _samples(results: Results, facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield some documents of each step, the same ones in every run of the seed."""
    files = sorted((results.path("filter", "parts") / "samples").glob("*.parquet"))
    most = sorted(facts["dropped"], key=lambda step: -facts["dropped"][step])
    found: dict[str, list[dict[str, Any]]] = {step: [] for step in [*most, ""]}
    for file in files:
        table = pq.read_table(file)
        for step, rows in found.items():
            here = table.filter(pc.equal(table["step"], step)).sort_by("chance")
            both = [*rows, *here.slice(0, _SHOWN).to_pylist()]
            found[step] = sorted(both, key=lambda row: row["chance"])[:_SHOWN]
    for step, rows in found.items():
        if rows:
            count = facts["dropped"].get(step, facts["kept"])
            yield {"name": _NAMES.get(step, "kept"), "count": f"{count:,}", "rows": rows}


def _scores(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    if not facts["scored"]:
        return None
    counts = [facts["scores"].get(str(i), 0) for i in range(20)]
    label = f"histogram of the student's probability of {facts['class']}"
    return {
        "class": facts["class"],
        "threshold": f"{facts['threshold']:.3g}",
        "chart": charts.histogram_of(counts, label),
    }


def _shares(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    n = sum(v["documents"] for v in found.values())
    kept = max(sum(v["kept"] for v in found.values()), 1)
    order = sorted(found.items(), key=lambda item: (-item[1]["documents"], item[0]))
    shown, rest = order[:_VALUES], [counts for _, counts in order[_VALUES:]]
    if rest:
        together = {k: sum(counts[k] for counts in rest) for k in ("documents", "kept")}
        shown.append((f"{len(rest):,} others", together))
    rows = [
        {
            "name": value,
            "documents": f"{v['documents']:,}",
            "kept": f"{v['kept']:,}",
            "stays": percent(v["kept"] / v["documents"]),
            "bar": charts.bar(v["kept"] / v["documents"]),
            "before": percent(v["documents"] / n, 1),
            "after": percent(v["kept"] / kept, 1),
        }
        for value, v in shown
    ]
    return {"name": name, "rows": rows}


def _duplicates(results: Results) -> dict[str, Any] | None:
    if "dedup" not in results.steps:
        return None
    facts = results.facts("dedup")
    table = pq.read_table(results.path("dedup", "duplicates.parquet"))
    sizes = table.group_by("kept").aggregate([("id", "count"), ("similarity", "min")])
    largest = sizes.sort_by([("id_count", "descending"), ("kept", "ascending")]).slice(0, 10)
    return {
        "clusters": f"{facts['clusters']:,}",
        "dropped": f"{facts['dropped']:,}",
        "kinds": ", ".join(f"{kind} {n:,}" for kind, n in facts["kinds"].items()),
        "skipped": facts["pairs_not_compared"],
        "largest": [
            {
                "kept": r["kept"],
                "size": f"{r['id_count']:,}",
                "similarity": f"{r['similarity_min']:.2f}",
            }
            for r in largest.to_pylist()
        ],
    }


def _personal(clean: Mapping[str, Any]) -> str:
    found = {k.removeprefix("personal_"): n for k, n in clean.items() if k.startswith("personal_")}
    return ", ".join(f"{kind} {n:,}" for kind, n in found.items() if n)


def _set_aside(results: Results) -> list[dict[str, Any]]:
    files: list[Path] = sorted((results.path("clean", "parts") / "set_aside").glob("*.parquet"))
    rows: list[dict[str, Any]] = []
    for file in files:
        rows += pq.read_table(file).slice(0, _ROWS).to_pylist()
    return rows[:_ROWS]


def _mix(results: Results) -> dict[str, Any] | None:
    if "mix" not in results.steps:
        return None
    facts = results.facts("mix")
    rows = [
        {"column": column, "value": value, "wanted": percent(share, 1), "got": percent(got, 1)}
        for column, shares in facts["wanted"].items()
        for value, share in shares.items()
        for got in [facts["shares"][column].get(value, 0.0)]
    ]
    return {"documents": f"{facts['documents']:,}", "words": f"{facts['words']:,}", "rows": rows}
