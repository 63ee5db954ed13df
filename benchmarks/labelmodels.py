"""Our label models against Snorkel, crowd-kit and FlyingSquid: accuracy, calibration, scale.

    python -m benchmarks.labelmodels --quick --json

Nothing is tuned on gold labels here: they measure. Peers run in environments of their own
(~/.cache/llmlabel-bench, made with pip; skipped with the reason where that fails), every
worker with one BLAS thread. crowd-kit's models label the rows of fit alone, so they are
fitted on train and test votes together.

Figures of the model under test, two_rate, in percentage points or as named:

worst_covered_minus_mv
    The worst of the real sets: accuracy on test rows with votes, less majority vote's.
mean_covered_minus_best_peer
    Mean of that accuracy over the real sets, less that of the peer with the highest mean.
synthetic_share_not_below_mv
    Of 300 synthetic sets, the share on which it is not more than .5 below majority vote.
speed_over_snorkel_1m_20, speed_over_snorkel_1m_100
    Seconds of Snorkel at 100 epochs over ours, fit and predict, 1,000,000 rows, 2 classes,
    10 % coverage.
peak_mb_1m_100
    Ours at 1,000,000 x 100: peak resident memory of the process, libraries included.
ece_100_gold
    Mean over the real sets of the calibration error on covered test rows, fitted with the gold
    labels of 100 covered train rows (mean of 3 draws).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/labelmodels.py`

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.labelmodel_sets import BenchSet, real_sets, synthetic_bench_sets
from benchmarks.peers.environments import Answer, Unavailable, run_worker
from benchmarks.shared import ROOT, require_shared
from benchmarks.synthetic import big_votes
from llmlabel import registry
from llmlabel.evaluate import accuracy, ece, macro_f1, nll
from llmlabel.schema import ABSTAIN

TESTED: Final = "ours:two_rate"
BASELINE: Final = "ours:majority_vote"
SLOW_OURS: Final = ("mace", "glad")  # crowd-kit's, one data frame per step
PEERS: Final = (
    "snorkel:100",
    "flyingsquid:triplet_mean",
    "crowdkit:DawidSkene",
    "crowdkit:OneCoinDawidSkene",
    "crowdkit:MACE",
    "crowdkit:GLAD",
)
SEEDED: Final = ("snorkel", "flyingsquid")
SLACK: Final = 0.5  # points below majority vote that still count as not below
RESULTS: Final = ROOT / "benchmarks" / "results" / "labelmodels.json"
SHORT_S: Final = 8.0
METRICS: Final = ("covered", "all", "macro_f1", "nll", "ece", "seconds")

Floats = npt.NDArray[np.float64]
Rows = dict[str, dict[str, dict[str, float]]]  # by model, by set

console = Console(stderr=True, width=None if sys.stderr.isatty() else 150)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    synthetic: int
    peer_synthetic: int
    limit: float  # seconds for a peer's fits of a group of sets
    seeds: tuple[int, ...]
    scale: tuple[tuple[int, int, float], ...]  # m, k, coverage
    skipped: tuple[str, ...]


FULL: Final = Plan(
    300,
    300,
    120,
    (0, 1, 2),
    ((20, 2, 0.1), (100, 2, 0.1), (20, 5, 0.1), (20, 10, 0.1), (20, 2, 0.3), (100, 2, 0.3)),
    (),
)
QUICK: Final = Plan(
    300,
    38,  # each kind of set twice
    25,
    (0,),
    ((20, 2, 0.1), (100, 2, 0.1)),
    ("crowdkit:MACE", "crowdkit:GLAD", "ours:mace", "ours:glad"),
)


def main() -> None:
    """Measure, print tables to stderr, and figures to stdout."""
    parser = argparse.ArgumentParser(description="label models against each other")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="within 5 minutes: fewer peers' sets")
    parser.add_argument("--scale", action="store_true", help="that alone; the rest as saved")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    require_shared()
    started = time.perf_counter()
    plan = QUICK if options.quick else FULL
    skipped: dict[str, str] = {}
    if options.scale:
        print(json.dumps(scale_again(plan, skipped, save=options.save)))
        return
    real, ece_gold = measure_real(plan, skipped)
    synthetic = measure_synthetic(plan, skipped)
    scale = measure_scale(plan, skipped)
    found = figures(real, synthetic, scale, ece_gold)
    found["seconds"] = round(time.perf_counter() - started, 1)
    show_real(real)
    show_synthetic(summary(synthetic))
    show_scale(scale)
    for model, reason in skipped.items():
        console.print(f"skipped {model}: {reason}", markup=False)
    if options.save:
        kept = {
            "figures": found,
            "quick": options.quick,
            "real": real,
            "synthetic": summary(synthetic),
            "scale": scale,
            "ece_100_gold": ece_gold,
            "skipped": skipped,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))


def scale_again(plan: Plan, skipped: dict[str, str], *, save: bool) -> dict[str, Any]:
    """Measure time and memory alone; return the saved figures with the new ones."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    kept["scale"] = measure_scale(plan, skipped)
    show_scale(kept["scale"])
    kept["figures"] |= scale_figures(kept["scale"])
    if save:
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return dict(kept["figures"])


def measure_real(plan: Plan, skipped: dict[str, str]) -> tuple[Rows, dict[str, float]]:
    """Measure every model on the real sets; and the tested one's calibration with 100 gold rows."""
    sets = real_sets()
    arrays = pack(sets)
    jobs = [(model, seed) for model in all_models(plan) for seed in seeds_of(model, plan)]
    answers = run_all(
        jobs,
        lambda model, seed: run_worker(model, arrays, seed=seed, limit=plan.limit * 2),
        skipped,
        "real sets",
    )
    rows = collect(sets, answers)
    return rows, {s.name: ece_with_gold(s, 100) for s in sets}


def measure_synthetic(plan: Plan, skipped: dict[str, str]) -> Rows:
    """Measure ours on all synthetic sets, peers on the first few."""
    sets = list(synthetic_bench_sets(plan.synthetic))
    ours, few = pack(sets), pack(sets[: plan.peer_synthetic])
    models = [m for m in all_models(plan) if m not in ("ours:mace", "ours:glad")]
    answers = run_all(
        [(model, 0) for model in models],
        lambda model, seed: run_worker(
            model, ours if model.startswith("ours:") else few, seed=seed, limit=plan.limit
        ),
        skipped,
        "synthetic sets",
    )
    return collect(sets, answers)


def measure_scale(plan: Plan, skipped: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Time ours and Snorkel, each alone in a process, one after the other."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for m, k, coverage in plan.scale:
            votes, _ = big_votes(1_000_000, m, k, coverage=coverage)
            path = Path(folder) / "votes.npy"
            np.save(path, votes)
            del votes
            arrays = {"fit_0": np.array(str(path)), "k_0": np.array(k)}
            row: dict[str, Any] = {"rows": 1_000_000, "lfs": m, "classes": k, "coverage": coverage}
            for model in (TESTED, "snorkel:100"):
                console.print(f"1,000,000 x {m}, {k} classes: {model}", markup=False)
                try:
                    row[model] = timed(model, arrays)
                except (Unavailable, KeyError) as reason:
                    skipped[f"{model} at 1,000,000 x {m}"] = str(reason)
            found[f"{m}_lfs_{k}_classes_{coverage:g}"] = row
    return found


def timed(model: str, arrays: Mapping[str, Any]) -> dict[str, float]:
    """Return seconds and memory of a fresh process; the median of three where it is short."""
    answers: list[Answer] = []
    while not answers or (len(answers) < 3 and sum(a.seconds[0] for a in answers) < SHORT_S):
        answers.append(run_worker(model, arrays, limit=600))
    return {
        "seconds": float(np.median([a.seconds[0] for a in answers])),
        "peak_mb": max(a.peak_mb for a in answers),
    }


def all_models(plan: Plan) -> list[str]:
    """Return the built-in models that are in the plan, then peers."""
    ours = [f"ours:{name}" for name in registry.names("label_models")]
    return [model for model in (*ours, *PEERS) if model not in plan.skipped]


def seeds_of(model: str, plan: Plan) -> tuple[int, ...]:
    """Return the plan's seeds for a model that has any, else one."""
    return plan.seeds if model.partition(":")[0] in SEEDED else plan.seeds[:1]


def pack(sets: Sequence[BenchSet]) -> dict[str, Any]:
    """Return the arrays that worker.py reads."""
    arrays: dict[str, Any] = {}
    for i, s in enumerate(sets):
        arrays[f"fit_{i}"] = s.fit.votes
        arrays[f"k_{i}"] = np.array(len(s.fit.classes))
        if s.score is not s.fit:
            arrays[f"score_{i}"] = s.score.votes
    return arrays


def run_all(
    jobs: Sequence[tuple[str, int]],
    work: Callable[[str, int], Answer],
    skipped: dict[str, str],
    what: str,
) -> list[tuple[str, Answer]]:
    """Run workers, two at a time."""
    done: list[tuple[str, Answer]] = []

    def one(job: tuple[str, int]) -> tuple[str, Answer] | None:
        model, seed = job
        try:
            answer = work(model, seed)
        except Unavailable as reason:
            skipped[f"{model} on {what}"] = str(reason)
            return None
        console.print(f"{what}: {model}, {len(answer.proba)} sets", markup=False)
        for why in sorted(set(answer.failed.values())):
            count = list(answer.failed.values()).count(why)
            skipped[f"{model} on {count} {what}"] = why
        return model, answer

    with ThreadPoolExecutor(2) as pool:
        done.extend(answer for answer in pool.map(one, jobs) if answer is not None)
    return done


def collect(sets: Sequence[BenchSet], answers: Sequence[tuple[str, Answer]]) -> Rows:
    """Score every answer; seeds of one model are averaged."""
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    for model, answer in answers:
        of_model = runs.setdefault(model, {})
        for i, proba in answer.proba.items():
            measured = scores(sets[i], np.asarray(proba, np.float64))
            measured["seconds"] = answer.seconds[i]
            of_model.setdefault(sets[i].name, []).append(measured)
    return {
        model: {
            name: {key: float(np.mean([s[key] for s in seeds])) for key in METRICS}
            for name, seeds in of_model.items()
        }
        for model, of_model in runs.items()
    }


def scores(s: BenchSet, proba: Floats) -> dict[str, float]:
    """Score probabilities of the rows of a set; ties count by expectation."""
    proba = proba / proba.sum(axis=1, keepdims=True)
    covered, k = s.score.covered(), proba.shape[1]
    gold, found = s.gold[covered], proba[covered]
    return {
        "covered": 100 * accuracy(gold, found, k),
        "all": 100 * accuracy(s.gold, proba, k),
        "macro_f1": 100 * macro_f1(gold, found, k),
        "nll": nll(gold, found),
        "ece": ece(gold, found),
    }


def ece_with_gold(s: BenchSet, count: int) -> float:
    """Return the tested model's calibration error, fitted with `count` gold rows, of 3 draws."""
    rows, covered = np.flatnonzero(s.fit.covered()), s.score.covered()
    errors = []
    for seed in range(3):
        drawn = np.random.default_rng(seed).choice(rows, count, replace=False)
        known = np.full(len(s.fit), ABSTAIN)
        known[drawn] = s.fit_gold[drawn]
        model = registry.load(TESTED.partition(":")[2], "label_models")()
        found = model.fit(s.fit, gold=known).predict_proba(s.score)
        errors.append(ece(s.gold[covered], found[covered]))
    return float(np.mean(errors))


def figures(
    real: Rows,
    synthetic: Rows,
    scale: Mapping[str, Mapping[str, Any]],
    ece_gold: Mapping[str, float],
) -> dict[str, float | None]:
    """Return the named figures; None where what they need was skipped."""
    against = [real[TESTED][s]["covered"] - row["covered"] for s, row in real[BASELINE].items()]
    full = [m for m in PEERS if len(real.get(m, {})) == len(real[TESTED])]
    best = max((mean_of(real[m], "covered") for m in full), default=None)
    behind = [
        synthetic[TESTED][s]["covered"] - r["covered"] for s, r in synthetic[BASELINE].items()
    ]
    return {
        "worst_covered_minus_mv": round(min(against), 2),
        "mean_covered_minus_best_peer": None
        if best is None
        else round(mean_of(real[TESTED], "covered") - best, 2),
        "synthetic_share_not_below_mv": round(float(np.mean(np.array(behind) >= -SLACK)), 3),
        **scale_figures(scale),
        "ece_100_gold": round(float(np.mean(list(ece_gold.values()))), 4),
    }


def scale_figures(scale: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the named figures of time and memory."""
    wide = scale.get("100_lfs_2_classes_0.1", {}).get(TESTED)
    return {
        "speed_over_snorkel_1m_20": speed(scale.get("20_lfs_2_classes_0.1", {})),
        "speed_over_snorkel_1m_100": speed(scale.get("100_lfs_2_classes_0.1", {})),
        "peak_mb_1m_100": round(wide["peak_mb"], 0) if wide else None,
    }


def speed(row: Mapping[str, Any]) -> float | None:
    """Return how many times as long as ours Snorkel took."""
    if TESTED not in row or "snorkel:100" not in row:
        return None
    return round(float(row["snorkel:100"]["seconds"] / row[TESTED]["seconds"]), 1)


def mean_of(rows: Mapping[str, Mapping[str, float]], metric: str) -> float:
    """Return the mean of a metric over sets."""
    return float(np.mean([row[metric] for row in rows.values()]))


def summary(rows: Rows) -> dict[str, dict[str, float]]:
    """Return each model's means over its synthetic sets, and ours on the same sets."""
    found = {}
    for model, of_set in rows.items():
        gaps = np.array(
            [row["covered"] - rows[BASELINE][s]["covered"] for s, row in of_set.items()]
        )
        tested = np.array(
            [rows[TESTED][s]["covered"] - rows[BASELINE][s]["covered"] for s in of_set]
        )
        if not len(gaps):
            continue
        found[model] = {
            "sets": len(gaps),
            "minus_mv": float(gaps.mean()),
            "worst_minus_mv": float(gaps.min()),
            "share_not_below_mv": float((gaps >= -SLACK).mean()),
            "tested_minus_mv_there": float(tested.mean()),
            **{metric: mean_of(of_set, metric) for metric in METRICS},
        }
    return found


def show_real(rows: Rows) -> None:
    """Print a table per metric: models by sets."""
    names = list(rows[BASELINE])
    for metric in METRICS:
        table = Table(title=f"real sets, test rows: {metric}")
        table.add_column("model")
        for name in (*names, "mean"):
            table.add_column(name, justify="right")
        form = ".1f" if metric in ("covered", "all", "macro_f1") else ".3f"
        for model, of_set in rows.items():
            cells = [f"{of_set[n][metric]:{form}}" if n in of_set else "-" for n in names]
            whole = len(of_set) == len(names)
            table.add_row(model, *cells, f"{mean_of(of_set, metric):{form}}" if whole else "-")
        console.print(table)


def show_synthetic(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print the means over synthetic sets."""
    table = Table(title="synthetic sets (tested: two_rate less majority vote on the same sets)")
    table.add_column("model")
    keys = [k for k in next(iter(rows.values())) if k not in ("all", "macro_f1")]
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for model, row in rows.items():
        table.add_row(
            model, *(f"{row[key]:.0f}" if key == "sets" else f"{row[key]:.2f}" for key in keys)
        )
    console.print(table)


def show_scale(scale: Mapping[str, Mapping[str, Any]]) -> None:
    """Print seconds and memory at 1,000,000 rows."""
    table = Table(title="1,000,000 rows: fit and predict, one thread, a process each")
    for column in ("lfs", "classes", "coverage", "ours s", "MB", "snorkel s", "MB", "times"):
        table.add_column(column, justify="right")
    for row in scale.values():
        cells = [str(row["lfs"]), str(row["classes"]), str(row["coverage"])]
        for model in (TESTED, "snorkel:100"):
            found = row.get(model)
            cells += [f"{found['seconds']:.2f}", f"{found['peak_mb']:.0f}"] if found else ["-", "-"]
        table.add_row(*cells, str(speed(row) or "-"))
    console.print(table)


if __name__ == "__main__":
    main()
