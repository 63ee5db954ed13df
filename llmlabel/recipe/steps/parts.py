"""The parts of a corpus that steps hand on: how they are made and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.engine import MapResult, Part, PartResult, map_shards
from llmlabel.errors import DataError, did_you_mean
from llmlabel.io.growing import as_text
from llmlabel.recipe.steps.base import Context
from llmlabel.report.dataset_card import dataset_card

__all__ = [
    "PARTS",
    "Made",
    "as_strings",
    "check_columns",
    "made_parts",
    "part_files",
    "read_columns",
    "work_on",
    "write_card",
]

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


@dataclass(frozen=True)
class Made:
    """A part that an earlier step has made.

    Parameters
    ----------
    id
        What it was made of.
    name
        Its part files' name.
    """

    id: str
    name: str


def made_parts(files: Sequence[Path]) -> list[Made]:
    """Return the parts of part files: of ``00003-web.parquet``, that of ``web``."""
    return [Made(file.stem.split("-", 1)[1], file.stem) for file in files]


def read_columns(file: Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a part file; those that it lacks are null."""
    wanted = list(dict.fromkeys(columns))
    names = pq.read_schema(file).names
    known = [c for c in wanted if c in names]
    table = pq.read_table(file, columns=known)
    for name in wanted:
        if name not in known:
            table = table.append_column(name, pa.nulls(table.num_rows))
    return table.select(wanted)


def as_strings(column: pa.ChunkedArray) -> list[str | None]:
    """Return a column's values as text, lists and mappings as JSON."""
    try:
        found: list[str | None] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        return [as_text(value) for value in column.to_pylist()]
    return found


def check_columns(files: Sequence[Path], columns: Sequence[str], where: str) -> None:
    """Check that each column stands in some part.

    Raises
    ------
    DataError
        One does not; says the nearest.
    """
    known = sorted({name for file in files for name in pq.read_schema(file).names})
    for name in columns:
        if files and name not in known:
            raise DataError(
                f"{where}: no document has a column {name!r}{did_you_mean(name, known)} "
                f"(known: {', '.join(known)})"
            )


def write_card(context: Context, facts: Mapping[str, Any]) -> None:
    """Write the README.md of the documents that a step has made."""
    steps = {name: step.facts for name, step in context.inputs.items()}
    config = context.recipe.config
    card = dataset_card(config.name, config.description, {**steps, context.config.step: facts})
    (context.folder.path / PARTS / "README.md").write_text(card, encoding="utf-8")
