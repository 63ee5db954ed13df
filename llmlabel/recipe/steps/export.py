"""Write the curated passages for an index: a table, a vector store, a framework's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmlabel.io import read_table, write_table
from llmlabel.rag.chunks import texts_with_headings
from llmlabel.rag.exports import write_framework_documents
from llmlabel.rag.qdrant import QdrantStore
from llmlabel.rag.store import LanceStore
from llmlabel.recipe.rag_config import ExportStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.chunk import AFTER
from llmlabel.recipe.steps.curate import unit_vectors

__all__ = ["KIND"]


def _run(context: Context) -> Mapping[str, Any]:
    config: ExportStep = context.config
    passages = read_table(context.input("chunk") / AFTER)
    folder = context.folder.path
    vectors: Any = None
    if {"lancedb", "qdrant"} & set(config.to):
        vectors = unit_vectors(texts_with_headings(passages), config.encoder)
    for form in config.to:
        if form == "parquet":
            write_table(passages, folder / "passages.parquet")
        elif form == "langchain" or form == "llama_index":
            write_framework_documents(passages, form, folder / f"{form}.jsonl")
        elif form == "lancedb":
            LanceStore(folder / form).write(passages, vectors)
        else:
            store = QdrantStore(folder / form)
            store.write(passages, vectors)
            store.close()
    return {"passages": passages.num_rows, "to": ", ".join(config.to)}


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name == "chunk"]


KIND = StepKind(version=1, run=_run, uses=_uses)
