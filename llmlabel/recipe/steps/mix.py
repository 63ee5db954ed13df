"""Sample what was kept to the wanted shares, and write it as a data set with index and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.corpus.mixing import (
    MixPlan,
    count_cells,
    draw,
    joined_cells,
    plan_mix,
    score_bins,
)
from llmlabel.engine import PartResult
from llmlabel.errors import ConfigError, DataError, did_you_mean
from llmlabel.io.runs import write_json
from llmlabel.recipe.corpus_config import MixStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.parts import part_files, read_columns, work_on, write_card

__all__ = ["KIND", "mix_part"]

SCORE = "score"


@dataclass(frozen=True)
class Part:
    """A part file of the step ``filter``."""

    id: str
    documents: str


def mix_part(part: Part, plan: MixPlan, edges: Sequence[float], seed: int) -> PartResult:
    """Return the documents of a part as often as the plan takes them."""
    table = pq.read_table(part.documents)
    ids = table["id"].to_pylist()
    copies = draw(plan, _values(table, plan.columns, edges), ids, seed=seed)
    rows = np.repeat(np.arange(len(copies)), copies)
    words = table["words"].to_numpy()[rows].sum()
    facts = {"documents": len(rows), "distinct": int((copies > 0).sum()), "words": int(words)}
    return PartResult({"documents": table.take(pa.array(rows))}, facts)


def _values(
    table: pa.Table, columns: Sequence[str], edges: Sequence[float]
) -> dict[str, Sequence[Any]]:
    out: dict[str, Sequence[Any]] = {}
    for name in columns:
        if name == SCORE and edges:
            scores = np.array(table[SCORE].to_pylist(), float)
            out[name] = score_bins(scores, edges)
        else:
            found = table[name].cast(pa.string()).to_pylist()
            out[name] = ["" if v is None else v for v in found]
    return out


def _run(context: Context) -> Mapping[str, Any]:
    config: MixStep = context.config
    files = part_files(context.input("filter"), "documents")
    columns = list(config.targets)
    _check_columns(config, context)
    counted: list[pl.DataFrame] = []
    for file in files:
        table = read_columns(file, [*columns, "words"])
        words = table["words"].to_numpy().astype(float)
        counted.append(count_cells(_values(table, columns, config.scores), words))
    if not counted:
        raise DataError("the step 'mix' has nothing to mix: no document was kept")
    plan = plan_mix(
        joined_cells(counted), config.targets, tokens=config.words, max_copies=config.max_copies
    )
    parts = [Part(f.stem, str(f)) for f in files]
    seed = context.recipe.config.seed
    made = work_on(context, partial(mix_part, plan=plan, edges=config.scores, seed=seed), parts)
    facts = {
        **made.facts,
        "wanted": plan.shares,
        "shares": _shares(made.files("documents"), config),
    }
    index = [
        {"file": str(f.relative_to(context.folder.path)), "documents": p.rows["documents"]}
        for p in made.parts
        for f in [p.files["documents"]]
    ]
    write_json({"files": index, **facts}, context.folder.path / "index.json")
    write_card(context, facts)
    return facts


def _shares(files: Sequence[Any], config: MixStep) -> dict[str, dict[str, float]]:
    """Return the shares of words that came out."""
    out: dict[str, dict[str, float]] = {c: {} for c in config.targets}
    for file in files:
        table = read_columns(file, [*config.targets, "words"])
        words = table["words"].to_numpy().astype(float)
        values = _values(table, list(config.targets), config.scores)
        for column, cells in values.items():
            for value, count in zip(cells, words.tolist(), strict=True):
                out[column][value] = out[column].get(value, 0.0) + count
    return {
        c: {v: round(n / max(sum(cells.values()), 1), 4) for v, n in sorted(cells.items())}
        for c, cells in out.items()
    }


def _check_columns(config: MixStep, context: Context) -> None:
    files = part_files(context.input("filter"), "documents")
    known = sorted({name for f in files for name in pq.read_schema(f).names})
    for name in config.targets:
        if files and name not in known:
            guess = did_you_mean(name, known)
            raise ConfigError(
                f"mix targets: no document has a column {name!r}{guess} (known: {', '.join(known)})"
            )


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("clean", "dedup", "distill", "filter")]


KIND = StepKind(version=1, run=_run, uses=_uses, resumes=True)
