"""Sample what was kept to the wanted shares, and write it as a data set with index and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

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
from llmlabel.errors import ConfigError, DataError
from llmlabel.io.runs import write_json
from llmlabel.recipe.corpus_config import MixStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.parts import (
    Made,
    as_strings,
    check_columns,
    made_parts,
    part_files,
    read_columns,
    work_on,
    write_card,
)

__all__ = ["KIND", "check_mix", "mix_part"]

SCORE: Final = "score"
_CLOSE: Final = 1e-6


def mix_part(
    part: Made, documents: str, plan: MixPlan, edges: Sequence[float], seed: int
) -> PartResult:
    """Return the documents of a part as often as the plan takes them."""
    table = pq.read_table(Path(documents) / f"{part.name}.parquet")
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
        elif name not in table.column_names:
            out[name] = [""] * table.num_rows
        else:
            out[name] = ["" if v is None else v for v in as_strings(table[name])]
    return out


def _run(context: Context) -> Mapping[str, Any]:
    config: MixStep = context.config
    files = part_files(context.input("filter"), "documents")
    columns = list(config.targets)
    check_columns(files, columns, "mix targets")
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
    work = partial(
        mix_part,
        documents=str(files[0].parent.absolute()),  # a cluster's workers stand elsewhere
        plan=plan,
        edges=config.scores,
        seed=context.recipe.config.seed,
    )
    made = work_on(context, work, made_parts(files))
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


def check_mix(config: MixStep, recipe: Recipe) -> None:
    """Check what a ``mix`` step says before anything runs.

    Raises
    ------
    ConfigError
        Shares that do not sum to 1; edges of scores that do not rise, or that no target
        uses; scores, and no student that gives any.
    """
    for column, shares in config.targets.items():
        if shares != "equal" and abs(sum(shares.values()) - 1) > _CLOSE:
            total = sum(shares.values())
            raise ConfigError(f"targets.{column}: expected shares that sum to 1, got {total:g}")
    if list(config.scores) != sorted(set(config.scores)):
        raise ConfigError(f"scores: expected rising edges, got {config.scores}")
    if config.scores and SCORE not in config.targets:
        raise ConfigError(f"scores: gives edges, but targets names no {SCORE!r} to use them")
    if SCORE in config.targets and all(s.step != "distill" for s in recipe.config.steps):
        raise ConfigError(f"targets.{SCORE}: there are no scores without a step 'distill'")
    if SCORE in config.targets and not config.scores:
        raise ConfigError(f"targets.{SCORE}: name the edges of its bins with scores: [0.5, 0.9]")


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("clean", "dedup", "distill", "filter")]


KIND = StepKind(
    version=2,
    run=_run,
    uses=_uses,
    resumes=True,
    check=check_mix,
)
