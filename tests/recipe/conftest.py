"""A small recipe in a folder of its own, to be bent by tests."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

TEXTS = {
    "SPAM": ["please subscribe to my channel", "check out my video", "free gift cards, click here"],
    "HAM": ["what a lovely song", "this song makes me cry", "best singer of the decade"],
}

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "task": {"name": "spam", "classes": {"HAM": "a remark", "SPAM": "promotion"}},
    "data": {"train": "train.jsonl", "test": "test.jsonl", "id": "id", "gold": "label"},
    "steps": [
        {"step": "embed", "encoder": "tfidf-svd"},
        {
            "step": "label",
            "lfs": [
                {
                    "lf": "keyword",
                    "name": "ask",
                    "label": "SPAM",
                    "words": ["subscribe", "check out"],
                },
                {"lf": "regex", "name": "song", "label": "HAM", "pattern": "song|singer"},
                {"lf": "regex", "name": "free", "label": "SPAM", "pattern": r"\bfree\b"},
            ],
        },
        {"step": "aggregate"},
        {"step": "distill"},
        {"step": "evaluate"},
        {"step": "report"},
    ],
}


def write_rows(path: Path, copies: int, prefix: str) -> None:
    rows = [
        {"id": f"{prefix}{i}-{label}-{j}", "text": f"{text} {i}", "label": label}
        for i in range(copies)
        for label, texts in TEXTS.items()
        for j, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


Make = Callable[..., Path]


@pytest.fixture
def make_recipe(tmp_path: Path) -> Make:
    """Return a function that writes the small recipe, changed by a function, and its data."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        folder = tmp_path / "tiny"
        folder.mkdir(exist_ok=True)
        write_rows(folder / "train.jsonl", 10, "a")
        write_rows(folder / "test.jsonl", 4, "b")
        data = copy.deepcopy(RECIPE)
        change(data)
        with (folder / "recipe.yaml").open("w") as handle:
            YAML().dump(data, handle)
        return folder

    return make
