"""Read the documents of a folder, whatever their format; what cannot be read is set aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from llmlabel.errors import DataError, did_you_mean
from llmlabel.io import fingerprint_path, write_table
from llmlabel.rag.documents import Documents, read_documents
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind

__all__ = ["DOCUMENTS", "GOLD", "KIND", "read_all"]

DOCUMENTS: Final = "documents.parquet"
GOLD: Final = "gold.parquet"
"""Known flaws by id, of documents that have one; only measuring reads it."""


def _run(context: Context) -> Mapping[str, Any]:
    recipe = context.recipe
    folder = recipe.resolve(str(recipe.config.data.documents))
    found = read_all(recipe)
    if not found.documents.num_rows:
        raise DataError("no document in it could be read", file=folder)
    documents, gold = found.documents, recipe.config.data.gold
    if gold is not None:
        if gold not in documents.column_names:
            guess = did_you_mean(gold, documents.column_names)
            raise DataError(f"the column of known flaws is missing{guess}", file=folder, field=gold)
        known = pa.table({"id": documents["id"], "flaw": documents[gold].cast(pa.string())})
        write_table(known, context.folder.path / GOLD)
        documents = documents.drop_columns([gold])
    write_table(documents, context.folder.path / DOCUMENTS)
    if found.set_aside.num_rows:
        write_table(found.set_aside, context.folder.path / "set_aside.parquet")
    return found.counts()


def read_all(recipe: Recipe) -> Documents:
    """Read the documents that a recipe names."""
    data = recipe.config.data
    folder = recipe.resolve(str(data.documents))
    return read_documents(folder, text=recipe.task.text[0], id=data.id or "id")


def _external(_: Any, recipe: Recipe) -> Mapping[str, Any]:
    data = recipe.config.data
    return {
        "documents": fingerprint_path(recipe.resolve(str(data.documents))),
        "text": list(recipe.task.text),
        "id": data.id,
        "gold": data.gold,
    }


KIND = StepKind(version=1, run=_run, uses=lambda _, __: (), external=_external)
