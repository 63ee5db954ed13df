"""The parts of a corpus that steps hand on: how they are made and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.engine import MapResult, Part, PartResult, map_shards
from llmlabel.recipe.steps.base import Context

__all__ = ["PARTS", "part_files", "read_columns", "work_on"]

PARTS: Final = "parts"
"""Folder of a step's part files; it outlives a kill, since parts know whether they are whole."""


def work_on(
    context: Context, fn: Callable[[Any], PartResult | Iterator[PartResult]], shards: Sequence[Any]
) -> MapResult:
    """Map a function over shards with the engine that the ``--config`` file names.

    Parameters
    ----------
    fn
        See `map_shards`.
    shards
        What each call gets.
    """
    engine = context.recipe.endpoints.engine
    done = 0

    def count(_: Part) -> None:
        nonlocal done
        done += 1
        context.progress(done, len(shards))

    context.progress(0, len(shards))
    return map_shards(
        fn,
        shards,
        out=context.folder.path / PARTS,
        key=context.folder.key,
        engine=engine.use,
        workers=engine.workers,
        address=engine.address,
        max_in_flight=engine.max_in_flight,
        on_done=count,
    )


def part_files(step: Path, table: str) -> list[Path]:
    """Return a table's part files of a step that is done, in the shards' order."""
    return sorted((step / PARTS / table).glob("*.parquet"))


def read_columns(file: Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a part file; those that it lacks are null."""
    known = [c for c in columns if c in pq.read_schema(file).names]
    table = pq.read_table(file, columns=known)
    for name in columns:
        if name not in known:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table.select(list(columns))
