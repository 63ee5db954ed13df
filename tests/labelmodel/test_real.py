"""Votes of real labeling functions: Dawid-Skene stays near or above majority vote."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet
import pytest

from llmlabel.evaluate import evaluate
from llmlabel.labelmodel import DawidSkene, MajorityVote
from llmlabel.votes import VoteMatrix

SETS = ["youtube", "sms", "hausa", "imdb_votes"]


def read(folder, split):
    meta = json.loads((folder / "meta.json").read_text())
    if (folder / f"{split}.jsonl").is_file():
        text = (folder / f"{split}.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line]
    else:
        rows = pyarrow.parquet.read_table(folder / f"{split}.parquet").to_pylist()
    votes = [row["votes"] for row in rows]
    names = [f"lf{j}" for j in range(len(votes[0]))]
    gold = np.array([meta["classes"].index(row["label"]) for row in rows])
    return VoteMatrix(votes, names, meta["classes"]), gold


@pytest.mark.parametrize("name", SETS)
def test_sane_beside_majority_vote(shared_data, name):
    train, _ = read(shared_data / name, "train")
    test, gold = read(shared_data / name, "test")
    found = {}
    for model in (MajorityVote(), DawidSkene()):
        fitted = model.fit(train)
        measured = evaluate(
            gold, fitted.predict_proba(test), test.classes, covered=fitted.covered(test)
        )
        found[type(model).__name__] = measured
    ours, majority = found["DawidSkene"], found["MajorityVote"]
    # Room for the noise of 200 to 2,300 rows, none for a collapse; a majority vote is
    # sure of itself, so the log-likelihood must gain.
    assert ours.covered_accuracy.value > majority.covered_accuracy.value - 0.03
    assert ours.nll < majority.nll
