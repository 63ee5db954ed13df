"""Read the rows, check them, and put the gold labels where no labeler can see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import DataError, did_you_mean
from llmlabel.io import check_rows, read_table, write_table
from llmlabel.recipe.config import SPLITS
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.steps.sample import ROWS

__all__ = ["KIND", "load_split"]


def load_split(
    recipe: Recipe, split: str, sampled: Path | None = None
) -> tuple[pa.Table, pa.Table | None]:
    """Read and check one split.

    Parameters
    ----------
    sampled
        The documents drawn from a corpus, which are its training rows.

    Returns
    -------
    rows
        ``id``, the text columns and all others but gold.
    gold
        ``id`` and ``label`` of the rows that have a gold label, or None.
    """
    data = recipe.config.data
    named, id_column = getattr(data, split), data.id
    if named is None and sampled is not None:
        file, id_column = sampled, "id"
    else:
        file = recipe.resolve(named)
    as_text = [*recipe.task.text, *(name for name in (id_column, data.gold) if name)]
    table = read_table(file, text_columns=as_text)
    rows = check_rows(table, text=recipe.task.text, id_column=id_column, file=file, prefix=split)
    if data.gold is None:
        return rows, None
    if data.gold not in rows.column_names:
        if split == "train" and (data.valid or data.test):  # rows to be labeled need no gold
            return rows, None
        guess = did_you_mean(data.gold, rows.column_names)
        raise DataError(f"the gold column is missing{guess}", file=file, field=data.gold)
    gold = pa.table({"id": rows["id"], "label": rows[data.gold].cast(pa.string())})
    gold = gold.filter(pc.fill_null(pc.not_equal(gold["label"], ""), False))
    _check_gold(gold, recipe, file, data.gold)
    return rows.drop_columns([data.gold]), gold


def _check_gold(gold: pa.Table, recipe: Recipe, file: Any, column: str) -> None:
    names = recipe.task.names
    wrong = gold.filter(pc.invert(pc.is_in(gold["label"], pa.array(names, pa.string()))))
    if wrong.num_rows:
        label = wrong["label"][0].as_py()
        guess = did_you_mean(label, names)
        raise DataError(
            f"{label!r} is no class of the task{guess} (classes: {', '.join(names)})",
            file=file,
            row=wrong["id"][0].as_py(),
            field=column,
        )


def _run(context: Context) -> Mapping[str, Any]:
    facts: dict[str, Any] = {"rows": {}, "gold": {}}
    seen: dict[str, str] = {}
    for split in SPLITS:
        if split not in context.recipe.splits:
            continue
        rows, gold = load_split(context.recipe, split, _sampled(context))
        _check_overlap(rows, split, seen)
        write_table(rows, context.folder.path / f"rows.{split}.parquet")
        facts["rows"][split] = rows.num_rows
        if gold is not None and gold.num_rows:
            write_table(gold, context.folder.path / f"gold.{split}.parquet")
            facts["gold"][split] = gold.num_rows
    return facts


def _sampled(context: Context) -> Path | None:
    return context.input("sample") / ROWS if "sample" in context.inputs else None


def _check_overlap(rows: pa.Table, split: str, seen: dict[str, str]) -> None:
    """Ids must differ across splits: answers and labels are kept by id."""
    ids = rows["id"].to_pylist()
    twice = next((i for i in ids if i in seen), None)
    if twice is not None:
        raise DataError(
            f"the id stands in the splits {seen[twice]!r} and {split!r}; ids must differ", row=twice
        )
    seen.update(dict.fromkeys(ids, split))


def _external(_: Any, recipe: Recipe) -> Mapping[str, Any]:
    data = recipe.config.data
    paths = [p for p in (data.train, data.valid, data.test) if p is not None]
    return {"data": data.model_dump(), "task": recipe.task.as_dict(), **file_prints(recipe, *paths)}


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name == "sample"]


KIND = StepKind(version=1, run=_run, uses=_uses, external=_external)
