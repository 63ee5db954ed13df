"""Search the passages before and after curation with the same questions, and compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pyarrow as pa

from llmlabel.embed import load_encoder
from llmlabel.io import cache_dir, read_table
from llmlabel.io.runs import write_json
from llmlabel.rag.chunks import texts_with_headings
from llmlabel.rag.combined import ByDocument, Hybrid, Reranked, Score
from llmlabel.rag.cross_encoder import load_cross_encoder
from llmlabel.rag.metrics import Comparison, Quality, compare, measure
from llmlabel.rag.retrieval import BM25, Dense, Searcher
from llmlabel.recipe.rag_config import Method, RetrieveStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.chunk import AFTER, BEFORE
from llmlabel.recipe.steps.curate import ACTIONS
from llmlabel.recipe.steps.questions import QUESTIONS

__all__ = ["KIND", "RESULTS", "searchers"]

RESULTS: Final = "retrieval.json"
_SHOWN: Final = 12

Qrels = dict[str, dict[str, int]]


def searchers(
    passages: pa.Table, methods: Sequence[Method], encoder: str
) -> dict[Method, Searcher]:
    """Return searches over passages, whose texts stand below their titles and headings."""
    ids, texts = passages["id"].to_pylist(), texts_with_headings(passages)
    made: dict[Method, Searcher] = {"bm25": BM25(ids, texts)}
    if set(methods) & {"dense", "hybrid"}:
        loaded = load_encoder(encoder, fit_texts=texts)
        made["dense"] = Dense.of(ids, texts, loaded, cache_dir() / "embeddings")
        made["hybrid"] = Hybrid([made["bm25"], made["dense"]])
    return {name: made[name] for name in methods}


def _run(context: Context) -> Mapping[str, Any]:
    config: RetrieveStep = context.config
    asked = read_table(context.input("questions") / QUESTIONS)
    one = _merged(context)
    qrels = {row["id"]: _mapped(json.loads(row["relevant"]), one) for row in asked.to_pylist()}
    asked = asked.filter(pa.array([bool(qrels[i]) for i in asked["id"].to_pylist()]))
    score = None
    if config.rerank is not None:
        beside = context.recipe.resolve(config.rerank)
        score = load_cross_encoder(beside if beside.is_dir() else config.rerank)
    measured: dict[str, dict[str, Quality]] = {}
    for done, (name, file) in enumerate((("before", BEFORE), ("after", AFTER))):
        context.progress(done, 2)
        passages = read_table(context.input("chunk") / file)
        measured[name] = _measure(passages, asked, qrels, one, config, score)
    context.progress(2, 2)
    found = {
        method: compare(measured["before"][method], measured["after"][method], f"ndcg@{config.k}")
        for method in config.by
    }
    texts = dict(zip(asked["id"].to_pylist(), asked["question"].to_pylist(), strict=True))
    result = {
        "questions": asked.num_rows,
        "metric": f"ndcg@{config.k}",
        "methods": {
            method: {
                "before": measured["before"][method].means(),
                "after": measured["after"][method].means(),
                **_told(found[method], texts),
            }
            for method in config.by
        },
    }
    write_json(result, context.folder.path / RESULTS)
    best = config.by[-1]
    return {
        "questions": asked.num_rows,
        "method": best,
        "before": round(found[best].before, 4),
        "after": round(found[best].after, 4),
        "p_value": round(found[best].p_value, 5),
    }


def _measure(
    passages: pa.Table,
    asked: pa.Table,
    qrels: Qrels,
    one: Mapping[str, str],
    config: RetrieveStep,
    score: Score | None,
) -> dict[str, Quality]:
    ids = passages["id"].to_pylist()
    document = dict(zip(ids, passages["document"].to_pylist(), strict=True))
    texts = dict(zip(ids, texts_with_headings(passages), strict=True))
    questions = asked["question"].to_pylist()
    out: dict[str, Quality] = {}
    for name, searcher in searchers(passages, config.by, config.encoder).items():
        if score is not None:
            searcher = Reranked(searcher, texts, score)
        if config.of == "documents":
            searcher = ByDocument(searcher, document)
        hits = searcher.search(questions, config.k)
        ks = tuple(sorted({min(5, config.k), config.k}))
        found = np.array([_once(row, one) for row in hits.ids.tolist()], object)
        out[name] = measure(found, asked["id"].to_pylist(), qrels, ks=ks)
    return out


def _merged(context: Context) -> dict[str, str]:
    """Return, for documents that another stands for, that one."""
    if "curate" not in context.inputs:
        return {}
    actions = read_table(context.input("curate") / ACTIONS)
    pairs = zip(actions["id"].to_pylist(), actions["into"].to_pylist(), strict=True)
    return {i: into for i, into in pairs if into is not None}


def _mapped(relevant: Mapping[str, int], one: Mapping[str, str]) -> dict[str, int]:
    """Return grades with copies counted as the document that stands for them."""
    out: dict[str, int] = {}
    for name, grade in relevant.items():
        key = one.get(name, name)
        out[key] = max(out.get(key, 0), int(grade))
    return out


def _once(row: Sequence[str], one: Mapping[str, str]) -> list[str]:
    """Return a ranking in which the second copy of a document is no hit, but takes a place."""
    out: list[str] = []
    for place, name in enumerate(row):
        key = one.get(name, name)
        out.append(f"(copy {place}) {key}" if key and key in out else key)
    return out


def _told(found: Comparison, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a comparison as plain data, with the questions that it is about."""
    return {
        "difference": asdict(found.difference),
        "p_value": found.p_value,
        "wins": len(found.wins),
        "losses": len(found.losses),
        "ties": found.ties,
        "won": [{"question": texts[q], "by": d} for q, d in found.wins[:_SHOWN]],
        "lost": [{"question": texts[q], "by": d} for q, d in found.losses[:_SHOWN]],
    }


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("curate", "chunk", "questions")]


KIND = StepKind(version=1, run=_run, uses=_uses)
