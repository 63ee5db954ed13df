"""Curation of documents and retrieval before and after it: the help desk's, and SciFact.

    python -m benchmarks.rag [--quick] [--json] [--save]

helpdesk_before, helpdesk_after, p_value
    nDCG@10 of the hybrid search over 150 questions of customers, and the paired bootstrap's
    p, as the recipe recipes/rag-curation measures it (..._bm25, ..._dense beside it). A second
    copy of a document takes a place and counts as nothing; a merged document counts as the
    one that stands for it.
helpdesk_after_plain, helpdesk_before_plain
    The same without that: every id for itself, copies that are gone counted as missed.
flaws_dropped, good_dropped
    By known flaw, the share of documents left out, merged or masked; of good ones, left out.
    Developed on the documents of even number; flaws_dropped_odd is of the others.
scifact_bm25, scifact_hybrid, scifact_dense
    nDCG@10 of the 809 train queries, which nothing was tuned on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/rag.py`

import pyarrow.parquet as pq

from benchmarks.rag_curation import flaws, scale
from benchmarks.rag_retrieval import chunk_figures, scifact_figures
from benchmarks.shared import ROOT, read_jsonl, require_shared
from llmlabel.io.runs import read_json
from llmlabel.rag.combined import ByDocument
from llmlabel.rag.metrics import measure
from llmlabel.recipe import load_recipe, run
from llmlabel.recipe.steps.retrieve import searchers
from llmlabel.report import Results

RECIPE = ROOT / "recipes" / "rag-curation"
K = 10


def helpdesk() -> dict[str, Any]:
    """Run the recipe and read its figures back."""
    with tempfile.TemporaryDirectory() as folder:
        results = Results.read(run(load_recipe(RECIPE), Path(folder) / "run", until="retrieve"))
        found = read_json(results.path("retrieve", "retrieval.json"))["methods"]
        out: dict[str, Any] = {}
        for method, r in found.items():
            suffix = "" if method == "hybrid" else f"_{method}"
            out[f"helpdesk_before{suffix}"] = round(r["before"][f"ndcg@{K}"], 4)
            out[f"helpdesk_after{suffix}"] = round(r["after"][f"ndcg@{K}"], 4)
            out[f"p_value{suffix}"] = round(r["p_value"], 5)
        for when, file in (("before", "passages.before.parquet"), ("after", "passages.parquet")):
            out[f"helpdesk_{when}_plain"] = _plain(results.path("chunk", file))
    return out


def _plain(file: Path) -> float:
    passages = pq.read_table(file)
    rows = read_jsonl(RECIPE / "questions.jsonl")
    of = dict(zip(passages["id"].to_pylist(), passages["document"].to_pylist(), strict=True))
    hybrid = ByDocument(searchers(passages, ["hybrid"], "auto")["hybrid"], of)
    hits = hybrid.search([r["question"] for r in rows], K)
    qrels = {r["id"]: r["relevant"] for r in rows}
    return round(measure(hits.ids, [r["id"] for r in rows], qrels).mean(f"ndcg@{K}"), 4)


def curation() -> dict[str, Any]:
    """Return what became of the documents of each known flaw, and of good ones."""
    found = flaws()
    return {
        "flaws_dropped": found["flaws_dropped"],
        "good_dropped": found["good_dropped"],
        "flaws_dropped_odd": found["odd_half"]["flaws_dropped"],
        "good_dropped_odd": found["odd_half"]["good_dropped"],
        "flaw_precision": found["precision"],
        "flaw_recall": found["recall"],
    }


def measure_all(quick: bool) -> dict[str, Any]:
    """Measure everything."""
    sized = scale(20_000 if quick else 100_000)
    found = scifact_figures(whole=not quick)
    found.pop("scifact_seconds")
    return {
        **helpdesk(),
        **curation(),
        **{name: _rounded(value) for name, value in found.items()},
        **{f"curation_{name}": value for name, value in sized.items()},
        **{n: _rounded(v) for n, v in chunk_figures(1_000 if quick else 4_000).items()},
        "load_average": os.getloadavg()[0],
    }


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer made-up passages and ways")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--save", action="store_true", help="to benchmarks/results/rag.json")
    options = parser.parse_args(arguments)
    require_shared()
    found = measure_all(options.quick)
    if options.save:
        target = ROOT / "benchmarks" / "results" / "rag.json"
        target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<32} {value}")


if __name__ == "__main__":
    main()
