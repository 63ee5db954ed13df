"""A small corpus with its recipe, changed as a test needs it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from llmlabel.recipe import load_recipe, run
from llmlabel.report import Results

_WORDS = [
    "river",
    "stone",
    "garden",
    "window",
    "letter",
    "winter",
    "bread",
    "market",
    "teacher",
    "village",
    "bridge",
    "forest",
    "ship",
    "music",
    "paper",
    "morning",
    "doctor",
    "island",
    "harvest",
    "engine",
    "mountain",
    "kitchen",
    "library",
    "soldier",
    "painter",
]

RECIPE: dict[str, Any] = {
    "name": "small",
    "task": {"name": "quality", "classes": {"KEEP": "prose", "DROP": "adverts"}},
    "data": {"corpus": "documents", "id": "id"},
    "steps": [
        {"step": "clean"},
        {"step": "dedup"},
        {"step": "sample", "rows": 40},
        {
            "step": "label",
            "lfs": [
                {"lf": "keyword", "name": "advert", "label": "DROP", "words": ["cheap", "offer"]},
                {"lf": "keyword", "name": "prose", "label": "KEEP", "words": ["because", "went"]},
            ],
        },
        {"step": "aggregate", "model": "majority_vote"},
        {"step": "distill", "tfidf": "hashed"},
        {"step": "filter"},
        {"step": "report"},
    ],
}


def prose(seed: Any, sentences: int = 6) -> str:
    """Return a text that is like no other one."""
    draw = random.Random(str(seed))
    pick = lambda: draw.choice(_WORDS)  # noqa: E731
    return " ".join(
        f"The {pick()} of the {pick()} went to the {pick()} because a {pick()} had the {pick()}."
        for _ in range(sentences)
    )


def advert(seed: Any) -> str:
    draw = random.Random(str(seed))
    return " ".join(
        f"Cheap {draw.choice(_WORDS)}, special offer on {draw.choice(_WORDS)}!" for _ in range(8)
    )


def some_rows(n: int, first: int = 0) -> list[dict[str, Any]]:
    """Return documents, two of three of which are prose."""
    return [
        {
            "id": f"d{i}",
            "text": advert(i) if i % 3 == 2 else prose(i),
            "source": ("web", "book", "forum", "web")[i % 4],
        }
        for i in range(first, first + n)
    ]


@dataclass(frozen=True)
class Small:
    """A recipe's folder with a corpus."""

    folder: Path

    def shard(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write a shard: JSONL, or Parquet by its name."""
        file = self.folder / "documents" / name
        file.parent.mkdir(exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(list(rows)), file)
        else:
            file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        return file

    def recipe(self, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Small:
        """Write the recipe."""
        data = copy.deepcopy(RECIPE)
        change(data)
        with (self.folder / "recipe.yaml").open("w") as handle:
            YAML().dump(data, handle)
        (self.folder / "here.yaml").write_text("engine: {use: local, workers: 1}\n")
        return self

    def only(self, *steps: str, **changed: Mapping[str, Any]) -> Small:
        """Write the recipe with some of its steps, changed or added."""

        def change(data: dict[str, Any]) -> None:
            known = {s["step"]: s for s in data["steps"]}
            data["steps"] = [
                {**known.get(name, {"step": name}), **changed.get(name, {})} for name in steps
            ]

        return self.recipe(change)

    def run(self, out: str = "out", until: str | None = None) -> Results:
        """Run it in this process."""
        recipe = load_recipe(self.folder, config=self.folder / "here.yaml")
        return Results.read(run(recipe, self.folder / out, until=until))


@pytest.fixture
def small(tmp_path: Path) -> Small:
    folder = tmp_path / "small"
    folder.mkdir()
    return Small(folder)


@pytest.fixture
def texts() -> Any:
    """The functions that make texts and rows."""

    class Texts:
        prose = staticmethod(prose)
        advert = staticmethod(advert)
        rows = staticmethod(some_rows)

    return Texts


@pytest.fixture
def part_rows() -> Callable[[Results, str, str], list[dict[str, Any]]]:
    """Return what reads all rows of a step's table."""

    def read(results: Results, step: str, table: str) -> list[dict[str, Any]]:
        files = sorted((results.path(step, "parts") / table).glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    return read
