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
from llmlabel.errors import DataError, did_you_mean
from llmlabel.io import write_table
from llmlabel.recipe.corpus_config import SampleStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.dedup import kept_rows
from llmlabel.recipe.steps.parts import part_files, read_columns

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
        n rows; equal rows are one group.
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
    frame = groups.with_columns(_u=pl.Series(chance))
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
    _check_columns(config, files)
    found, places = [], []
    for at, file in enumerate(files):
        table = read_columns(file, ["id", *config.by])
        rows = np.flatnonzero(kept_rows(dedup, file.stem, table.num_rows))
        found.append(table.take(pa.array(rows)))
        places.append(np.column_stack([np.full(len(rows), at), rows]))
    everything = pa.concat_tables(found).unify_dictionaries() if found else pa.table({"id": []})
    if everything.num_rows < 2:
        raise DataError(
            f"the step 'sample' has {everything.num_rows} documents to draw from; "
            "the steps before it dropped the rest"
        )
    groups = pl.DataFrame({c: everything[c].cast(pa.string()).to_pylist() for c in config.by})
    ids = everything["id"].to_pylist()
    seed = context.recipe.config.seed
    drawn = draw_rows(
        groups if config.by else pl.DataFrame({"_": ids}).select([]), ids, config.rows, seed
    )
    rows = _read(files, np.concatenate(places)[drawn], context.recipe.task.text[0])
    write_table(rows, context.folder.path / ROWS)
    by = groups[drawn].group_by(config.by).len().sort("len", descending=True) if config.by else None
    return {
        "rows": rows.num_rows,
        "of": everything.num_rows,
        "groups": [] if by is None else [[*map(str, r[:-1]), r[-1]] for r in by.head(50).rows()],
    }


def _check_columns(config: SampleStep, files: Sequence[Path]) -> None:
    known = sorted({name for f in files for name in pq.read_schema(f).names})
    for name in config.by:
        if files and name not in known:
            guess = did_you_mean(name, known)
            raise DataError(
                f"sample by: no document has a column {name!r}{guess} (known: {', '.join(known)})"
            )


def _read(files: Sequence[Path], places: npt.NDArray[Any], text: str) -> pa.Table:
    """Read the drawn documents, part by part."""
    tables = []
    for at in np.unique(places[:, 0]):
        table = pq.read_table(files[int(at)])
        tables.append(table.take(pa.array(places[places[:, 0] == at, 1])))
    rows = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    return rows.rename_columns([text if n == "text" else n for n in rows.column_names])


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("clean", "dedup")]


KIND = StepKind(version=1, run=_run, uses=_uses)
