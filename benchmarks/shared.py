"""The data of ../shared as recipes read it, made in a folder of its own and never committed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmlabel.io import write_table
from llmlabel.llm import load_prompt, write_recorded
from llmlabel.schema import Task

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
RECORDED = 1_795_392_000  # 2026-11-23, the day in the meta.json files


def require_shared() -> None:
    """End with a clear line where the real data is absent."""
    if not SHARED.is_dir():
        print(f"error: this benchmark reads {SHARED}, which is not here", file=sys.stderr)
        raise SystemExit(1)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def split_rows(name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each split of a shared data set."""
    return {s: read_jsonl(SHARED / name / f"{s}.jsonl") for s in ("train", "valid", "test")}


def record_answers(
    name: str,
    prompt_file: Path | str,
    task: Task,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    target: Path,
) -> None:
    """Write a data set's plain recorded answers in the OpenAI Batch output format."""
    prompt = load_prompt(prompt_file)
    fields = list(prompt.schema(task)["properties"])
    said = {
        a["id"]: {f: a[f] for f in fields} for a in read_jsonl(SHARED / name / "llm_answers.jsonl")
    }
    asked = [row for split in rows.values() for row in split if row["id"] in said]
    write_recorded(target, said, prompt, task, asked, model="recorded-llm", created=RECORDED)


def write_splits(rows: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """Write each split as Parquet."""
    import pyarrow as pa

    for split, content in rows.items():
        write_table(pa.Table.from_pylist([dict(r) for r in content]), folder / f"{split}.parquet")
