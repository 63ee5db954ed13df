"""The benchmark of duplicates: its truth, its recall and our worker."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.corpus_duplicates import Truth, contest, memory, recall, synthetic
from benchmarks.peers.environments import Unavailable

WORDS = [f"word{i}" for i in range(300)]
BASE = list(np.random.default_rng(0).choice(WORDS, 100))
TEXTS = [" ".join(BASE), " ".join([*BASE[:50], "new", *BASE[51:]]), " ".join(WORDS)]
OURS = [sys.executable, "-m", "benchmarks.corpus_duplicates", "--worker"]


def test_true_similarity_is_of_sets_of_five_words():
    truth = Truth(TEXTS)
    assert truth(0, 1) == truth(1, 0) == pytest.approx(91 / 101)
    assert truth(0, 2) == 0.0
    pairs = np.array([0, 0]), np.array([1, 2])
    assert truth.precision(pairs, 0.5) == 0.5


def test_recall_is_by_cluster_and_edit_rate():
    ids = ["a", "b", "syn/0/a", "syn/0.05/b", "c"]
    wanted = synthetic(ids)
    assert {rate: (a.tolist(), b.tolist()) for rate, (a, b) in wanted.items()} == {
        "0": ([0], [2]),
        "0.05": ([1], [3]),
    }
    linked = np.array([0, 4]), np.array([4, 2])  # a and its copy through c
    assert recall(linked, 5, wanted) == {"0": 1.0, "0.05": 0.0}


def test_our_worker_answers_as_the_peers_do():
    found = contest(OURS, TEXTS * 10, {"runs": [0.55, 0.99]})
    near = {
        frozenset((a % 3, b % 3)) for a, b in zip(found["left_0"], found["right_0"], strict=True)
    }
    assert near == {frozenset((0, 1)), frozenset((0,)), frozenset((1,)), frozenset((2,))}
    assert len(found["left_1"]) == 3 * 45
    assert found["seconds_sketch"] > 0
    assert found["seconds_two"] > 0


def test_a_worker_that_fails_says_its_last_line():
    with pytest.raises(Unavailable, match="boom"):
        contest([sys.executable, "-c", "raise SystemExit('boom')"], TEXTS, {})


def test_memory_is_counted_per_document():
    found = memory(4000)
    assert found["dedup_signature_bytes_per_document"] == 528
    assert found["dedup_memory_bytes_per_document"] > 0
    assert found["dedup_pairs_seconds_per_million"] > 0
