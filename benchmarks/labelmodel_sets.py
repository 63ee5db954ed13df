"""The sets of labelmodels.py: votes and gold of real data, or synthetic ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared import SHARED, read_jsonl
from benchmarks.synthetic import synthetic_sets
from llmlabel.votes import VoteMatrix

__all__ = ["BenchSet", "real_sets", "synthetic_bench_sets"]

REAL = ("youtube", "sms", "imdb_votes", "hausa")


@dataclass(frozen=True, eq=False)
class BenchSet:
    """Votes to fit on, votes to score with their gold; gold of `fit` for calibration only."""

    name: str
    fit: VoteMatrix
    fit_gold: npt.NDArray[np.int64]
    score: VoteMatrix
    gold: npt.NDArray[np.int64]


def real_sets() -> list[BenchSet]:
    """Return the real sets, fitted on train and scored on test; youtube with LLM votes too."""
    found = [_real(name) for name in REAL]
    return [*found, _with_llm(found[0])]


def synthetic_bench_sets(count: int) -> Iterator[BenchSet]:
    """Yield synthetic sets, fitted and scored on the same rows."""
    for made in synthetic_sets(count):
        yield BenchSet(made.name, made.L, made.gold, made.L, made.gold)


def _real(name: str) -> BenchSet:
    meta = json.loads((SHARED / name / "meta.json").read_text(encoding="utf-8"))
    classes = list(meta["classes"])
    lfs = [f"{j}" if isinstance(lf, dict) else str(lf) for j, lf in enumerate(meta["lfs"])]
    splits = []
    for split in ("train", "test"):
        rows = _rows(name, split)
        votes = np.array([list(r["votes"]) for r in rows])
        gold = np.array([_index(r["label"], classes) for r in rows])
        splits.append((VoteMatrix(votes, lfs, classes), gold))
    (train, train_gold), (test, test_gold) = splits
    return BenchSet(name, train, train_gold, test, test_gold)


def _with_llm(base: BenchSet) -> BenchSet:
    answers = {a["id"]: a["label"] for a in read_jsonl(SHARED / base.name / "llm_answers.jsonl")}
    known = {name: c for c, name in enumerate(base.fit.classes)}

    def more(L: VoteMatrix, split: str) -> VoteMatrix:
        said = [known.get(answers.get(r["id"], ""), -1) for r in _rows(base.name, split)]
        return VoteMatrix(np.column_stack([L.votes, said]), (*L.lf_names, "llm"), L.classes)

    return BenchSet(
        f"{base.name}_llm",
        more(base.fit, "train"),
        base.fit_gold,
        more(base.score, "test"),
        base.gold,
    )


def _rows(name: str, split: str) -> list[dict[str, Any]]:
    lines = SHARED / name / f"{split}.jsonl"
    if lines.exists():
        return read_jsonl(lines)
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(SHARED / name / f"{split}.parquet").to_pylist()
    return rows


def _index(label: Any, classes: list[str]) -> int:
    return classes.index(label) if isinstance(label, str) else int(label)
