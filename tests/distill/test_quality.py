"""Students trained on gold labels of real data reach what the plan says they can."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmlabel.distill import fit_linear
from llmlabel.embed import embed, load_encoder


def read(folder: Path, split: str) -> tuple[list[str], list[str]]:
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [r["text"] for r in rows], [r["label"] for r in rows]


@pytest.mark.parametrize(("name", "least"), [("tickets", 0.866), ("youtube", 0.952)])
def test_gold_students_reach_the_reference(
    minilm: None, shared_data: Path, name: str, least: float
) -> None:
    texts, labels = read(shared_data / name, "train")
    new, gold = read(shared_data / name, "test")
    classes = sorted(set(labels))
    encoder = load_encoder("auto", threads=1)
    student = fit_linear(
        texts,
        np.eye(len(classes))[[classes.index(label) for label in labels]],
        classes,
        encoder=encoder,
        embeddings=embed(texts, encoder),
    )
    assert (student.predict(new) == gold).mean() >= least
