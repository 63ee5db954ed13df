"""Find duplicates among all documents that are left, and keep one of each cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmlabel.corpus.cleaning import read_sketches
from llmlabel.corpus.clusters import Clusters, find_duplicates
from llmlabel.corpus.sketches import Sketches, joined_sketches, load_sketches, save_sketches
from llmlabel.corpus.stored import Matches, match_stored
from llmlabel.errors import ConfigError, DataError
from llmlabel.io import write_table
from llmlabel.io.growing import join_tables
from llmlabel.io.runs import RunFolder
from llmlabel.recipe.corpus_config import DedupStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.parts import check_columns, part_files, read_columns

__all__ = ["DUPLICATES", "KIND", "check_dedup", "kept_rows"]

DUPLICATES: Final = "duplicates.parquet"
SKETCHES: Final = "sketches"
_STORED: Final = "stored"  # kind of a document that a corpus of before has


def kept_rows(step: Path | None, part: str, rows: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which documents of a part are no duplicates that go, shape (rows,)."""
    keep = np.ones(rows, np.bool_)
    if step is not None:
        found = pq.read_table(step / DUPLICATES, filters=[("part", "==", part)])
        gone = found.filter(pc.invert(found["keep"]))
        keep[gone["row"].to_numpy()] = False
    return keep


def _run(context: Context) -> Mapping[str, Any]:
    config: DedupStep = context.config
    clean = context.input("clean")
    sketches = joined_sketches([read_sketches(f) for f in part_files(clean, "sketches")])
    columns = ["id", "characters", *([config.column] if config.column else [])]
    files = part_files(clean, "documents")
    check_columns(files, columns, f"dedup keep: {config.keep}")
    tables = [read_columns(f, columns) for f in files]
    rows = join_tables(tables)
    context.progress(0, 1)
    found = find_duplicates(
        sketches,
        threshold=config.threshold,
        keep=config.keep,
        values=_values(config, rows, tables),
        ids=rows["id"].to_pylist(),
    )
    parts = np.repeat([f.stem for f in files], [t.num_rows for t in tables])
    places = np.concatenate([np.arange(t.num_rows) for t in tables]) if tables else np.zeros(0, int)
    table = _table(found, rows["id"], parts, places)
    keep = found.keep
    if config.against is not None:
        stored = load_sketches(_sketches_of(context.recipe, config.against))
        matches = match_stored(sketches, stored, threshold=config.threshold)
        there = keep & (matches.row >= 0)
        again = _stored(matches, np.flatnonzero(there), config.against, rows["id"], parts, places)
        keep = keep & ~there
        table = pa.concat_tables([table, again])
    write_table(table, context.folder.path / DUPLICATES)
    save_sketches(_taken(sketches, keep), context.folder.path / SKETCHES)
    context.progress(1, 1)
    kinds = {
        k: int((table["kind"].to_numpy(zero_copy_only=False) == k).sum()) for k in _kinds(table)
    }
    return {
        "documents": len(keep),
        "left": int(keep.sum()),
        "dropped": int((~keep).sum()),
        "kinds": kinds,
        "clusters": int((found.kind == "kept").sum()),
        "pairs_not_compared": found.skipped,
    }


def _kinds(table: pa.Table) -> list[str]:
    return sorted(set(table["kind"].to_pylist()) - {"kept"})


def _values(config: DedupStep, rows: pa.Table, tables: Sequence[pa.Table]) -> Any:
    if config.keep == "first":
        return None
    if config.keep == "longest":
        return rows["characters"].to_numpy()
    assert config.column is not None
    kinds = {t.schema.field(config.column).type for t in tables} - {pa.null()}
    numbers = {k for k in kinds if pa.types.is_integer(k) or pa.types.is_floating(k)}
    # Numbers in the order of text would keep "9" before "10", and say nothing.
    if (numbers and kinds - numbers) or (config.keep == "best" and kinds != numbers):
        said = " and ".join(sorted(map(str, kinds)))
        wanted = "numbers" if config.keep == "best" else "values of one kind"
        raise DataError(
            f"dedup keep: {config.keep}: expected {wanted}, got {said}", field=config.column
        )
    return rows[config.column].to_pylist()


def _table(found: Clusters, ids: pa.ChunkedArray, parts: Any, places: Any) -> pa.Table:
    """Return a row for each document of a cluster of two and more."""
    rows = np.flatnonzero(found.kind != "")
    return pa.table(
        {
            "part": pa.array(parts[rows].tolist(), pa.string()),
            "row": pa.array(places[rows], pa.int64()),
            "id": ids.take(pa.array(rows)).cast(pa.string()),
            "cluster": pa.array(found.cluster[rows], pa.int64()),
            "kept": ids.take(pa.array(found.keeper[rows])).cast(pa.string()),
            "kind": pa.array(found.kind[rows].tolist(), pa.string()),
            "similarity": pa.array(found.similarity[rows], pa.float32()),
            "keep": pa.array(found.keep[rows]),
        }
    )


def _stored(
    found: Matches, rows: Any, against: str, ids: pa.ChunkedArray, parts: Any, places: Any
) -> pa.Table:
    """Return a row for each document that the corpus of before has."""
    return pa.table(
        {
            "part": pa.array(parts[rows].tolist(), pa.string()),
            "row": pa.array(places[rows], pa.int64()),
            "id": ids.take(pa.array(rows)).cast(pa.string()),
            "cluster": pa.array(np.full(len(rows), -1), pa.int64()),
            "kept": pa.array([f"{against}#{r}" for r in found.row[rows].tolist()], pa.string()),
            "kind": pa.array([_STORED] * len(rows), pa.string()),
            "similarity": pa.array(found.similarity[rows], pa.float32()),
            "keep": pa.array(np.zeros(len(rows), bool)),
        }
    )


def _taken(sketches: Sketches, keep: Any) -> Sketches:
    return Sketches(sketches.exact[keep], sketches.minhash[keep], sketches.shingle)


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name == "clean"]


def _external(config: DedupStep, recipe: Recipe) -> Mapping[str, Any]:
    if config.against is None:
        return {}
    # Names, sizes and times, not bytes: half a kilobyte for each document of that corpus.
    files = sorted(_sketches_of(recipe, config.against).iterdir())
    return {"against": [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]}


def _sketches_of(recipe: Recipe, against: str) -> Path:
    """Return the folder of sketches that a recipe names, or those of the run that it names."""
    folder = recipe.resolve(against)
    if not (folder / "run.json").is_file():
        return folder
    _, steps = RunFolder.read(folder)
    if "dedup" not in steps or not steps["dedup"].done:
        raise ConfigError(f"against: {folder}: this run has no sketches (no step 'dedup' is done)")
    return steps["dedup"].path / SKETCHES


def check_dedup(config: DedupStep, recipe: Recipe) -> None:
    """Check what a ``dedup`` step says before anything runs.

    Raises
    ------
    ConfigError
        The sketches of an earlier corpus are not there.
    """
    if config.against is None:
        return
    try:
        load_sketches(_sketches_of(recipe, config.against))
    except DataError as error:
        raise ConfigError(
            f"against: {error}", hint="name a run folder with a step 'dedup', or its sketches"
        ) from None


KIND = StepKind(
    version=2,
    run=_run,
    uses=_uses,
    external=_external,
    check=check_dedup,
)
