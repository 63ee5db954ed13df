"""Draw the documents of a corpus that are labeled and learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.corpus.mixing import uniforms
from llmlabel.errors import DataError
from llmlabel.io import write_table
from llmlabel.io.growing import join_tables
from llmlabel.recipe.corpus_config import SampleStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.dedup import kept_rows
from llmlabel.recipe.steps.parts import as_strings, check_columns, part_files, read_columns

__all__ = ["KIND", "ROWS", "draw_rows"]

ROWS: Final = "rows.parquet"


def draw_rows(
    groups: pl.DataFrame, ids: Sequence[Any], rows: int, seed: int
) -> npt.NDArray[np.intp]:
    """Return which of n documents are drawn, each group as often as the others.

    A group that has fewer gives its place to the others. Whether a document is drawn depends
    on its id and the seed, not on the order of shards.

    Parameters
    ----------
    groups
        n rows; equal rows are one group. Without columns, all documents are.
    ids
        Of the documents.
    rows
        How many.

    Examples
    --------
    >>> groups = pl.DataFrame({"source": ["web"] * 8 + ["book"] * 2})
    >>> drawn = draw_rows(groups, range(10), 4, seed=0)
    >>> groups[drawn]["source"].to_list().count("book")
    2
    """
    chance = uniforms(ids, seed)
    frame = pl.DataFrame({**groups.to_dict(), "_u": chance})
    if groups.width:
        # The first of every group, then the second of every group, and so on.
        frame = frame.with_columns(_turn=pl.col("_u").rank("ordinal").over(groups.columns))
    else:
        frame = frame.with_columns(_turn=pl.lit(0))
    order = frame.with_row_index("_row").sort("_turn", "_u")["_row"].to_numpy()
    drawn: npt.NDArray[np.intp] = np.sort(order[:rows]).astype(np.intp)
    return drawn


def _run(context: Context) -> Mapping[str, Any]:
    config: SampleStep = context.config
    files = part_files(context.input("clean"), "documents")
    dedup = context.inputs["dedup"].path if "dedup" in context.inputs else None
    check_columns(files, config.by, "sample by")
    found, places, repeated = _candidates(files, dedup, config.by)
    if len(found) < 2:
        raise DataError(
            f"the step 'sample' has {len(found)} documents to draw from and needs 2; "
            "the steps before it dropped the rest"
        )
    groups = found.select(config.by)
    drawn = draw_rows(groups, found["id"].to_list(), config.rows, context.recipe.config.seed)
    rows = _read(files, places[drawn], context.recipe.task.text[0])
    write_table(rows, context.folder.path / ROWS)
    return {
        "rows": rows.num_rows,
        "of": len(found),
        "repeated_ids": repeated,
        "groups": _counts(groups[drawn]) if config.by else [],
    }


def _candidates(
    files: Sequence[Path], dedup: Path | None, by: Sequence[str]
) -> tuple[pl.DataFrame, npt.NDArray[np.intp], int]:
    """Return the documents to draw from, the part and row of each, and how many share an id.

    Answers and labels are kept by id, so of documents with one id only the first can be drawn.
    """
    found, places = [], []
    for at, file in enumerate(files):
        table = read_columns(file, ["id", *by])
        rows = np.flatnonzero(kept_rows(dedup, file.stem, table.num_rows))
        table = table.take(pa.array(rows))
        texts = {name: as_strings(table[name]) for name in table.column_names}
        found.append(pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String)))
        places.append(np.column_stack([np.full(len(rows), at), rows]))
    everything = pl.concat(found)
    first = everything["id"].is_first_distinct().to_numpy()
    return everything.filter(first), np.concatenate(places)[first], int((~first).sum())


def _counts(groups: pl.DataFrame) -> list[list[Any]]:
    """Return the largest groups with how many documents each has."""
    counted = groups.group_by(groups.columns).len()
    ordered = counted.sort(
        "len", *groups.columns, descending=[True, *[False] * groups.width], nulls_last=True
    )
    return [[*map(str, row[:-1]), row[-1]] for row in ordered.head(50).rows()]


def _read(files: Sequence[Path], places: npt.NDArray[Any], text: str) -> pa.Table:
    """Read the drawn documents, part by part."""
    tables = []
    for at in np.unique(places[:, 0]):
        table = pq.read_table(files[int(at)])
        tables.append(table.take(pa.array(places[places[:, 0] == at, 1])))
    rows = join_tables(tables).unify_dictionaries()
    return rows.rename_columns([text if n == "text" else n for n in rows.column_names])


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("clean", "dedup")]


KIND = StepKind(version=2, run=_run, uses=_uses)
