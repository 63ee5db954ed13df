"""Write the recipe pretraining-filter's recorded ratings as answers to the texts that it asks about.

    python -m benchmarks.record_ratings TABLE [TABLE ...] [--recipe FOLDER]

A recorded answer belongs to a text to the letter, so the answers can only be written once the
documents have been cleaned: TABLE is a file of cleaned rows (columns ``id`` and ``text``), such as
a part of a run's step ``clean``, or ``data/labeled.jsonl``. The ratings themselves are kept by id
in ``data/ratings.jsonl``; those of rows that no table has are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.shared import RECORDED, ROOT, read_jsonl
from llmlabel.io import read_table
from llmlabel.llm import load_prompt, write_recorded
from llmlabel.recipe import load_recipe
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


def main() -> None:
    """Write ``data/answers.jsonl`` of a recipe and say how many answers it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    args = parser.parse_args()
    rows = [row for table in args.tables for row in read_table(table).to_pylist()]
    data = args.recipe / "data"
    task = load_recipe(args.recipe).task
    count = record_ratings(data / "ratings.jsonl", rows, task, data / "answers.jsonl")
    total = len(read_jsonl(data / "ratings.jsonl"))
    print(f"{data / 'answers.jsonl'}: {count} answers; {total - count} ratings without a row")


if __name__ == "__main__":
    main()
