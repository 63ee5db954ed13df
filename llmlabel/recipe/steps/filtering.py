"""Score every document that is left, decide, and write what stays and why the rest went."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.corpus.mixing import uniforms
from llmlabel.distill import Student, load_student
from llmlabel.engine import PartResult
from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.io import add_columns, read_table
from llmlabel.labelmodel import LabelSet
from llmlabel.recipe.corpus_config import FilterStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.dedup import DUPLICATES
from llmlabel.recipe.steps.distill import HELD_OUT
from llmlabel.recipe.steps.parts import (
    PARTS,
    Made,
    as_strings,
    made_parts,
    part_files,
    work_on,
    write_card,
)

__all__ = ["KIND", "check_filter", "class_kept", "filter_part"]

_BATCH: Final = 2_000
_SHOWN: Final = 400
_SAMPLES: Final = 6  # dropped documents per step and batch that a report may show
BINS: Final = 20
NO_VALUE: Final = "(none)"
OTHERS: Final = "(others)"
_VALUES: Final = 200  # of a column, above which rare ones are not told apart


@dataclass(frozen=True)
class Deciding:
    """What decides.

    Parameters
    ----------
    parts
        The parts of the step ``clean``.
    student
        Folder of the student, or None: all that is left stays.
    kept
        The class that stays.
    threshold
        Its least probability.
    duplicates
        File of the step ``dedup``, or None.
    seed
        Of the samples that are shown.
    """

    parts: str
    student: str | None
    kept: str
    threshold: float
    duplicates: str | None
    seed: int


def filter_part(part: Made, how: Deciding) -> Iterator[PartResult]:
    """Decide on the documents of a part.

    Yields tables ``documents`` (those that stay), ``decisions`` (all) and ``samples``.
    """
    documents, dropped = (
        Path(how.parts) / table / f"{part.name}.parquet" for table in ("documents", "dropped")
    )
    with pq.ParquetFile(dropped) as file:
        for batch in file.iter_batches(_BATCH):
            yield _told_before(pa.Table.from_batches([batch]), how)
    gone = _duplicates(part, how)
    first = 0
    with pq.ParquetFile(documents) as file:
        for batch in file.iter_batches(_BATCH):
            table = pa.Table.from_batches([batch])
            rows = range(first, first + table.num_rows)
            yield _decide(table, [gone.get(r) for r in rows], how)
            first += table.num_rows


def _told_before(dropped: pa.Table, how: Deciding) -> PartResult:
    """Pass on what cleaning has dropped."""
    n = dropped.num_rows
    steps = np.array(dropped["step"].to_pylist(), object)
    reasons = np.array(dropped["reason"].to_pylist(), object)
    return _result(dropped, steps, reasons, np.full(n, np.nan), how)


def _decide(table: pa.Table, duplicate: Sequence[str | None], how: Deciding) -> PartResult:
    n = table.num_rows
    reasons = np.array([r or "" for r in duplicate], object)
    steps = np.where(reasons != "", "dedup", "").astype(object)
    scores = np.full(n, np.nan)
    left = np.flatnonzero(steps == "")
    if how.student is not None and left.size:
        student = _student(how.student)
        texts = table["text"].take(pa.array(left)).to_pylist()
        column = list(student.classes).index(how.kept)
        scores[left] = student.predict_proba(texts)[:, column]
        low = scores < how.threshold  # never of what has no score
        steps[low], reasons[low] = "filter", f"less likely {how.kept} than {how.threshold:.2g}"
    return _result(table, steps, reasons, scores, how)


def _result(
    table: pa.Table,
    steps: npt.NDArray[np.object_],
    reasons: npt.NDArray[np.object_],
    scores: npt.NDArray[np.float64],
    how: Deciding,
) -> PartResult:
    stays = steps == ""
    score = pa.array(scores, pa.float64(), mask=np.isnan(scores))
    decisions = pa.table(
        {
            "id": table["id"].cast(pa.string()),
            "keep": pa.array(stays),
            "step": pa.array(steps.tolist(), pa.string()),
            "reason": pa.array(reasons.tolist(), pa.string()),
            "score": score,
        }
    )
    tables = {"decisions": decisions, "samples": _samples(table, steps, reasons, how.seed)}
    if stays.any():
        kept = pa.array(stays)
        tables["documents"] = add_columns(table.filter(kept), {"score": score.filter(kept)})
    return PartResult(tables, _facts(table, steps, reasons, scores))


def _samples(
    table: pa.Table, steps: npt.NDArray[np.object_], reasons: npt.NDArray[np.object_], seed: int
) -> pa.Table:
    """Return a few dropped documents of each step, and a few kept ones, to be looked at."""
    chance = uniforms(table["id"].to_pylist(), seed)
    rows = [
        row
        for step in np.unique(steps.astype(str))
        for row in sorted(np.flatnonzero(steps == step), key=chance.__getitem__)[:_SAMPLES]
    ]
    at = pa.array(rows, pa.int64())
    texts = [t[:_SHOWN] for t in table["text"].take(at).to_pylist()]
    return pa.table(
        {
            "id": table["id"].take(at).cast(pa.string()),
            "step": pa.array(steps[rows].tolist(), pa.string()),
            "reason": pa.array(reasons[rows].tolist(), pa.string()),
            "text": pa.array(texts, pa.string()),
            "chance": pa.array(chance[rows], pa.float64()),
        }
    )


def _facts(
    table: pa.Table,
    steps: npt.NDArray[np.object_],
    reasons: npt.NDArray[np.object_],
    scores: npt.NDArray[np.float64],
) -> dict[str, Any]:
    """Return counts that add up over parts."""
    stays = steps == ""
    known = ~np.isnan(scores)
    counts, _ = np.histogram(scores[known], BINS, (0, 1))
    words = table["words"].to_numpy()
    return {
        "documents": len(steps),
        "kept": int(stays.sum()),
        "words": int(words[stays].sum()),
        "dropped": {s: int((steps == s).sum()) for s in sorted(set(steps.tolist()) - {""})},
        "reasons": dict(
            Counter(f"{s}: {_short(s, r)}" for s, r in zip(steps, reasons, strict=True) if s)
        ),
        "scores": {str(i): int(c) for i, c in enumerate(counts) if c},
        **{name: _shares(table, name, stays) for name in ("source", "language")},
    }


def _short(step: str, reason: str) -> str:
    """Leave out what only one document has: of which it is a duplicate, the words that leaked."""
    return reason.split(":")[0] if step in ("dedup", "benchmarks") else reason


def _shares(table: pa.Table, column: str, stays: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return how many documents of each value stay.

    Of a column that names nearly every document apart, as an address does, only values that
    are frequent in a batch are told, so that the facts of a corpus stay small.
    """
    known = column in table.column_names
    values = as_strings(table[column]) if known else [None] * table.num_rows
    counts = Counter(value or NO_VALUE for value in values)
    least = len(values) / _VALUES if len(counts) > _VALUES else 0
    out: dict[str, dict[str, int]] = {}
    for value, kept in zip(values, stays.tolist(), strict=True):
        name = value or NO_VALUE
        name = name if counts[name] >= least else OTHERS
        entry = out.setdefault(name, {"documents": 0, "kept": 0})
        entry["documents"] += 1
        entry["kept"] += int(kept)
    return out


@functools.lru_cache(maxsize=2)
def _student(folder: str) -> Student:
    return load_student(folder)


def _duplicates(part: Made, how: Deciding) -> dict[int, str]:
    """Return why the documents of a part that go as duplicates go, by row."""
    if how.duplicates is None:
        return {}
    found = pq.read_table(how.duplicates, filters=[("part", "==", part.name)])
    return {
        r["row"]: f"{r['kind']} duplicate: of {r['kept']}"
        for r in found.to_pylist()
        if not r["keep"]
    }


def _run(context: Context) -> Mapping[str, Any]:
    config: FilterStep = context.config
    # Whole paths: a cluster's workers stand in other folders.
    clean = context.input("clean").absolute()
    kept = class_kept(context.recipe, config)
    student = None
    if "distill" in context.inputs:
        student = context.input("distill").absolute() / "student"
    _student.cache_clear()  # another one may stand there since: see `retry`
    how = Deciding(
        str(clean / PARTS),
        None if student is None else str(student),
        kept,
        0.0 if student is None else _threshold(context, kept),
        str(context.input("dedup").absolute() / DUPLICATES) if "dedup" in context.inputs else None,
        context.recipe.config.seed,
    )
    shards = made_parts(part_files(clean, "documents"))
    result = work_on(context, partial(filter_part, how=how), shards)
    said = {"class": kept, "threshold": round(how.threshold, 6), "scored": student is not None}
    first = {name: result.facts[name] for name in ("documents", "kept", "words", "dropped")}
    facts = {**first, **said, **result.facts}
    write_card(context, facts)
    return facts


def check_filter(config: FilterStep, recipe: Recipe) -> None:
    """Check what a ``filter`` step says before anything runs.

    Raises
    ------
    ConfigError
        An unknown class; a threshold, and no student whose probabilities it is for.
    """
    class_kept(recipe, config)
    if config.threshold != "auto" and all(s.step != "distill" for s in recipe.config.steps):
        raise ConfigError(
            "the step 'filter' has a threshold, but there is no student to score documents: "
            "put a step 'distill' before it"
        )


def class_kept(recipe: Recipe, config: FilterStep) -> str:
    """Return the class that stays.

    Raises
    ------
    UnknownNameError
        The task has no such class.
    """
    names = recipe.task.names
    if config.keep is not None and config.keep not in names:
        raise UnknownNameError("class", config.keep, names, where="the step 'filter'")
    return config.keep or names[0]


def _threshold(context: Context, kept: str) -> float:
    """Return the least probability of the class that stays.

    A student of few documents hedges: its probabilities lie about the share of the class
    that it has learned from, and half of them would say little. So it keeps as many of the
    training documents, each asked of a student that has not met it, as the label model does.
    """
    config: FilterStep = context.config
    if config.threshold != "auto":
        return float(config.threshold)
    held = context.input("distill") / f"{HELD_OUT}.train.parquet"
    if not held.is_file():
        return 0.5
    said = LabelSet.from_table(read_table(held))
    labels = LabelSet.from_table(read_table(context.input("aggregate") / "labels.train.parquet"))
    at = {row: i for i, row in enumerate(labels.ids)}
    known = labels.probabilities[[at[row] for row in said.ids]]
    column = labels.classes.index(kept)
    share = float((known.argmax(axis=1) == column).mean())
    return float(np.quantile(said.probabilities[:, column], 1 - share))


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("clean", "dedup", "aggregate", "distill")]


KIND = StepKind(
    version=2,
    run=_run,
    uses=_uses,
    resumes=True,
    check=check_filter,
)
