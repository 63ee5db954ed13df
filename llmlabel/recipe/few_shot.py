"""Examples for an ``ask`` step: answered rows that each prompt shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmlabel.embed import embed, load_encoder
from llmlabel.errors import DataError
from llmlabel.io import cache_dir, read_table
from llmlabel.llm import Prompt, table_texts
from llmlabel.llm.examples import Example, ExamplePool, select_examples
from llmlabel.recipe.config import ExamplesConfig
from llmlabel.recipe.load import Recipe

__all__ = ["choose_examples"]


def choose_examples(
    config: ExamplesConfig,
    recipe: Recipe,
    prompt: Prompt,
    ids: Sequence[str],
    texts: Sequence[str],
) -> list[tuple[Example, ...]]:
    """Return the examples that each row's prompt shows, never the row itself.

    Raises
    ------
    DataError
        The file lacks a column, or an answer is outside the prompt's schema.
    """
    near = config.select in ("nearest", "diverse")
    pool, pool_texts = _read_pool(config, recipe, prompt)
    vectors = None
    if near:
        encoder = load_encoder(config.encoder, fit_texts=[*pool_texts, *texts])
        folder = cache_dir() / "embeddings"
        pool = ExamplePool(
            pool.ids,
            pool.examples,
            pool.classes,
            embed(pool_texts, encoder, cache_dir=folder).astype(np.float64),
        )
        vectors = embed(texts, encoder, cache_dir=folder)
    chosen = select_examples(
        pool, ids, texts, config.n, config.select, vectors=vectors, seed=recipe.config.seed
    )
    return [pool.pick(row) for row in chosen]


def _read_pool(
    config: ExamplesConfig, recipe: Recipe, prompt: Prompt
) -> tuple[ExamplePool, list[str]]:
    task, file = recipe.task, recipe.resolve(config.file)
    fields = list(prompt.schema(task)["properties"])
    table = read_table(file, text_columns=[*task.text])
    for name in (*task.text, *fields):
        if name not in table.column_names:
            raise DataError(
                "is missing: examples need the texts and every answer field", file=file, field=name
            )
    rows = table.to_pylist()
    texts = table_texts(table, task.text)
    examples = tuple(
        Example(text, {f: row[f] for f in fields}, row)
        for text, row in zip(texts, rows, strict=True)
    )
    ids = tuple(str(row.get("id", f"example-{i}")) for i, row in enumerate(rows))
    classes = None
    if config.balance is not None:
        values = [str(row[config.balance]) for row in rows]
        classes = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return ExamplePool(ids, examples, classes), texts
