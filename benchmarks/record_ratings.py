"""Write the recipe pretraining-filter's recorded ratings as answers to the texts that it asks about.

    python -m benchmarks.record_ratings [--recipe FOLDER]

A recorded answer belongs to a text to the letter, so the documents are cleaned as the recipe's step
``clean`` does it. The ratings themselves are kept by id in ``data/ratings.jsonl``; those of rows
that are no longer asked about are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.shared import RECORDED, ROOT, read_jsonl
from llmlabel.corpus.cleaning import clean_batch
from llmlabel.io import list_shards, read_shard
from llmlabel.llm import load_prompt, write_recorded
from llmlabel.recipe import Recipe, load_recipe
from llmlabel.recipe.corpus_config import CleanStep
from llmlabel.recipe.steps.clean import cleaning_of, read_options
from llmlabel.schema import Task

RECIPE = ROOT / "recipes" / "pretraining-filter"


def record_ratings(
    ratings: Path,
    rows: Iterable[Mapping[str, Any]],
    task: Task,
    target: Path,
    *,
    prompt_name: str = "document-quality",
    model: str = "recorded-llm",
) -> int:
    """Write the ratings of the given rows in the OpenAI Batch output format.

    Parameters
    ----------
    ratings
        JSON Lines: ``id`` and the fields of the prompt's answer.
    rows
        The rows as they will be asked about; of those with the same id, the first.
    task
        What the recipe labels; it is part of what was asked.
    target
        The file to write.
    prompt_name, model
        What was asked, and who answered.

    Returns
    -------
    The number of answers written.
    """
    prompt = load_prompt(prompt_name)
    fields = list(prompt.schema(task)["properties"])
    said = {r["id"]: {f: r[f] for f in fields} for r in read_jsonl(ratings)}
    asked: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if (row_id := str(row["id"])) in said:
            asked.setdefault(row_id, row)
    answers = {row_id: said[row_id] for row_id in asked}
    return write_recorded(
        target, answers, prompt, task, asked.values(), model=model, created=RECORDED + 2 * 86_400
    )


def asked_rows(recipe: Recipe) -> list[Mapping[str, Any]]:
    """Return the documents that the recipe may ask about, as it asks: cleaned, and the test rows."""
    config = next(step for step in recipe.config.steps if isinstance(step, CleanStep))
    how = cleaning_of(recipe, config, sketched=False)
    rows: list[Mapping[str, Any]] = []
    for shard in list_shards(recipe.resolve(str(recipe.config.data.corpus))).shards:
        for batch in read_shard(shard, read_options(recipe, config)):
            rows += clean_batch(batch.documents, how).documents.to_pylist()
    return rows + read_jsonl(recipe.resolve(str(recipe.config.data.test)))


def main() -> None:
    """Write ``data/answers.jsonl`` of a recipe and say how many answers it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    recipe = load_recipe(parser.parse_args().recipe)
    data = recipe.folder / "data"
    answers = data / "answers.jsonl"
    count = record_ratings(data / "ratings.jsonl", asked_rows(recipe), recipe.task, answers)
    total = len(read_jsonl(data / "ratings.jsonl"))
    print(f"{answers}: {count} answers; {total - count} ratings without a row")


if __name__ == "__main__":
    main()
