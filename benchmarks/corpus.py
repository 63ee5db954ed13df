"""Filtering a corpus: filters, duplicates, quality and the engine, each beside others.

    python -m benchmarks.corpus [--quick] [--json] [--save]

Everything is measured on ../shared/data/web. What the figures mean stands in the modules, which
also run alone: `corpus_filters`, `corpus_duplicates`, `corpus_quality`, `corpus_engine`. A peer
that cannot be installed is named on stderr, and its figures are null.

filters_over_datatrove
    All four families together, documents per second of one core, ours over datatrove's; by
    family under ``filters_over_datatrove_FAMILY``.
same_decisions
    By family, the share of documents on which datatrove decides the same.
dedup_docs_per_second, dedup_docs_per_second_2, dedup_over_rensa, dedup_over_datatrove
    MinHash, text to clusters, one process (and two).
dedup_recall, dedup_precision
    Recall by edit rate.
quality_auc, quality_accuracy
    The student (MiniLM and TF-IDF) that was distilled from the label model, cross-fitted, on
    246 documents with human labels, which nothing is chosen by. The accuracy is at the
    threshold of the recipe's ``threshold: auto`` (see `corpus_quality`); at .5 it is
    quality_accuracy_half.
ray_equals_local, ray_parts_lost, ray_parts_twice
    The cleaning step on two nodes, of which one is killed half-way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/corpus.py`

from benchmarks.peers.environments import Unavailable
from benchmarks.shared import ROOT, require_shared

__all__ = ["flat", "main", "measure"]

RESULTS: Final = ROOT / "benchmarks" / "results" / "corpus.json"
_THREADS: Final = ("OMP", "OPENBLAS", "MKL")


def filters(quick: bool) -> dict[str, Any]:
    """Return the figures of the filters; without datatrove those that need it are None."""
    from benchmarks import corpus_filters as part

    texts = part.documents(300 if quick else 1500)
    try:
        found = flat(part.filters(texts, runs=1 if quick else 3))
    except Unavailable as reason:
        print(f"skipped datatrove's filters: {reason}", file=sys.stderr)
        found = {"filters_over_datatrove": None, "same_decisions": None}
    return {**found, **part.languages(texts), **part.normalizing(texts)}


def flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures with the ratios and speeds by family under names of their own.

    Examples
    --------
    >>> flat({"filters_over_datatrove_by_family": {"c4": 30.0}, "same_decisions": {"c4": 1.0}})
    {'filters_over_datatrove_c4': 30.0, 'same_decisions': {'c4': 1.0}}
    """
    out: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, Mapping) and not name.startswith("same_"):
            stem = name.removesuffix("_by_family")
            out |= {stem if key == "all" else f"{stem}_{key}": v for key, v in value.items()}
        else:
            out[name] = value
    return out


def duplicates(quick: bool) -> dict[str, Any]:
    """Return the figures of near duplicates."""
    from benchmarks.corpus_duplicates import duplicates as measured

    found = measured(quick)
    for peer in ("rensa", "datatrove"):
        reason = found.pop(f"{peer}_unavailable", None)
        if reason is not None:
            print(f"skipped {peer}'s duplicates: {reason}", file=sys.stderr)
            found[f"dedup_over_{peer}"] = None
    # Beside the filters' figures, these say whose documents per second they are.
    renamed = {"datatrove_docs_per_second": "datatrove_dedup_docs_per_second"}
    return {renamed.get(name, name): value for name, value in found.items()}


def quality(quick: bool) -> dict[str, Any]:
    """Return the figures of the label model and its students."""
    from benchmarks.corpus_quality import quality as measured

    return measured(quick)


def engine(quick: bool) -> dict[str, Any]:
    """Return the figures of the engine, of a process on one thread, where Ray may print."""
    limits = {f"{name}_NUM_THREADS": "1" for name in _THREADS}
    limits |= {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.corpus_engine", *(["--quick"] if quick else [])]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **limits}, stdout=subprocess.PIPE, check=True
    )
    return dict(json.loads(done.stdout))


PARTS: Final[tuple[Callable[[bool], dict[str, Any]], ...]] = (filters, duplicates, engine, quality)


def measure(quick: bool) -> dict[str, Any]:
    """Measure everything."""
    out: dict[str, Any] = {}
    load = os.getloadavg()[0]
    for part in PARTS:
        started = time.perf_counter()
        out |= part(quick)
        print(f"{part.__name__}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return {**out, "load_average": round(load, 2)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer documents and turns: minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--save", action="store_true", help="to benchmarks/results/corpus.json")
    options = parser.parse_args(arguments)
    require_shared()
    found = measure(options.quick)
    if options.save:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found) if options.json else "\n".join(f"{k:42} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
