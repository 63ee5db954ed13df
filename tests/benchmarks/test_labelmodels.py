"""The benchmark's own arithmetic, and a worker process on our side of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.labelmodel_sets import BenchSet, synthetic_bench_sets
from benchmarks.labelmodels import (
    BASELINE,
    TESTED,
    collect,
    figures,
    pack,
    scores,
    speed,
    summary,
)
from benchmarks.peers.environments import PACKAGES, run_worker
from llmlabel.votes import VoteMatrix


def one_set():
    L = VoteMatrix([[0], [1], [-1], [1]], ["a"], ["N", "Y"])
    gold = np.array([0, 1, 1, 0])
    return BenchSet("tiny", L, gold, L, gold)


def test_ties_count_by_expectation_and_uncovered_rows_in_all_alone():
    found = scores(one_set(), np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]))
    assert found["covered"] == pytest.approx(100 * 2.5 / 3)
    assert found["all"] == pytest.approx(100 * 3.5 / 4)


def test_a_worker_gives_what_the_model_gives():
    sets = list(synthetic_bench_sets(3))
    rows = collect(sets, [(m, run_worker(m, pack(sets))) for m in (BASELINE, TESTED)])
    assert set(rows[TESTED]) == {"synthetic-0", "synthetic-1", "synthetic-2"}
    means = summary(rows)
    assert means[BASELINE]["minus_mv"] == 0
    assert means[BASELINE]["share_not_below_mv"] == 1
    assert means[TESTED]["tested_minus_mv_there"] == means[TESTED]["minus_mv"]


def test_failures_of_a_worker_are_kept_with_their_reason():
    sets = list(synthetic_bench_sets(1))
    answer = run_worker("ours:no_such_model", pack(sets))
    assert not answer.proba
    assert "no_such_model" in answer.failed[0]
    late = run_worker(BASELINE, pack(sets), limit=0)
    assert late.failed[0] == "time limit"


def test_every_project_says_how_it_is_installed():
    models = {"snorkel", "flyingsquid", "crowdkit"}
    assert set(PACKAGES) == models | {"curator", "setfit", "rensa", "datatrove"}
    with pytest.raises(KeyError):
        run_worker("nobody:x", {})


def test_figures():
    def row(covered):
        return {"covered": covered, "all": 0.0, "macro_f1": 0, "nll": 0, "ece": 0, "seconds": 0}

    real = {
        BASELINE: {"a": row(80.0), "b": row(70.0)},
        TESTED: {"a": row(82.0), "b": row(69.5)},
        "snorkel:100": {"a": row(81.0), "b": row(69.0)},
        "crowdkit:MACE": {"a": row(99.0)},  # no answer on b: no peer to compare means with
    }
    scale = {"20_lfs_2_classes_0.1": {TESTED: {"seconds": 2}, "snorkel:100": {"seconds": 50}}}
    found = figures(real, real, scale, {"a": 0.02, "b": 0.04})
    assert found["worst_covered_minus_mv"] == -0.5
    assert found["mean_covered_minus_best_peer"] == 0.75
    assert found["synthetic_share_not_below_mv"] == 1
    assert found["speed_over_snorkel_1m_20"] == 25
    assert found["speed_over_snorkel_1m_100"] is None
    assert found["ece_100_gold"] == pytest.approx(0.03)
    assert speed({}) is None
