"""Cut documents into passages, before and after curation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.io import read_table, write_table
from llmlabel.io.runs import StepFolder
from llmlabel.rag.chunks import Chunking, chunk_documents
from llmlabel.rag.tokenizers import WORDS, default_tokenizer, fast_tokenizer
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.rag_config import ChunkStep
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.recipe.steps.curate import documents_of, unit_vectors
from llmlabel.recipe.steps.documents import DOCUMENTS, read_all

__all__ = ["AFTER", "BEFORE", "KIND", "first_passages"]

BEFORE: Final = "passages.before.parquet"
AFTER: Final = "passages.parquet"


def _run(context: Context) -> Mapping[str, Any]:
    config: ChunkStep = context.config
    before = _cut(documents_of(context), config)
    context.progress(1, 2)
    after = before
    if "curate" in context.inputs:
        after = _cut(read_table(context.input("curate") / DOCUMENTS), config)
    for file, passages in ((BEFORE, before), (AFTER, after)):
        write_table(passages, context.folder.path / file)
    context.progress(2, 2)
    return {
        "before": before.num_rows,
        "passages": after.num_rows,
        "tokens": pc.sum(after["tokens"]).as_py() or 0,
        "longest": pc.max(after["tokens"]).as_py() or 0,
    }


def first_passages(recipe: Recipe, step: StepFolder) -> pa.Table:
    """Return the passages, to plan what asking about them costs.

    Before the step has run, those of all documents, cut by structure: curation leaves fewer.
    """
    if step.done:
        return read_table(step.path / AFTER)
    config = next(s for s in recipe.config.steps if isinstance(s, ChunkStep))
    plain = config.model_copy(update={"by": "structure"}) if config.by == "semantic" else config
    return _cut(read_all(recipe).documents, plain)


def _cut(documents: pa.Table, config: ChunkStep) -> pa.Table:
    if config.tokenizer == "auto":
        tokenizer = default_tokenizer()
    elif config.tokenizer == "words":
        tokenizer = WORDS
    else:
        tokenizer = fast_tokenizer(config.tokenizer)
    encode = partial(unit_vectors, encoder=config.encoder) if config.by == "semantic" else None
    how = Chunking(config.by, config.size, config.overlap)
    return chunk_documents(documents, how, tokenizer=tokenizer, encode=encode)


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name in ("documents", "curate")]


KIND = StepKind(version=1, run=_run, uses=_uses)
