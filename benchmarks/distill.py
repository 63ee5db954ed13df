"""Students: from votes without gold, beside the same student on gold, SetFit, and their speed.

    python -m benchmarks.distill [--quick] [--json] [--save]

All students see the training texts of ../shared; none sees a gold label unless its row says
so. Labels come from a label model over the recorded votes, two_rate or dawid_skene, or from the
LLM alone, whichever gives the student that is best on the validation rows (..._label_model
says which); no other choice looks at gold. On YouTube ten heuristics
and seven questions of an LLM that read every row, on SMS 73 rules, on tickets the shipped
recipe's heuristics and the LLM, which read all training rows or 300 drawn with the seed. Means
of five seeds, of three for those with 100 gold rows (the seed draws the folds, the LLM's rows and the gold rows), with the 95 %
interval of the mean of a seed (t) and, for youtube_student_low, the bootstrap's lower bound
over the test rows.

youtube_student, youtube_student_low, sms_f1, tickets_student, tickets_student_300
    Test accuracy in percent (F1 of spam for SMS) of `fit_linear` as recipes call it.
..._gold, ..._gold_100, ..._with_gold_100
    The same student on all gold rows, on 100 of them, and on the labels and those 100.
tickets_llm, youtube_llm
    The LLM alone.
share_answered_at_97
    Of tickets' test rows, where the student is sure enough to be right at 97 % with 95 %
    confidence: the threshold is found on out-of-fold training rows, right meaning as the LLM
    says; accuracy_answered_at_97 is what that gives.
predict_over_default
    Texts per second of the student, labels and all, over SentenceTransformer.encode alone.
head_reload_max_abs_difference
    Of logits, a LoRA student of MiniLM saved and loaded in a new process.
encoder (without --quick)
    `fit_better`: a fine-tuned MiniLM, or the linear student where that does better.
setfit (without --quick)
    SetFit 1.2 on the LLM's 300 tickets rows, on the same rows as linear_300_rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/distill.py`

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy.stats import t as student_t

from benchmarks.peers.environments import Unavailable, python_of
from benchmarks.shared import ROOT, SHARED, read_jsonl, require_shared
from benchmarks.shared_recipes import youtube_recipe
from llmlabel.distill import EncoderOptions, Labels, fit_better, fit_linear, out_of_fold
from llmlabel.distill.selective import selective_cut
from llmlabel.embed import embed, load_encoder
from llmlabel.evaluate import evaluate
from llmlabel.io import cache_dir
from llmlabel.labelmodel import DawidSkene, TwoRateModel
from llmlabel.recipe import Recipe, load_recipe, run
from llmlabel.report import Results
from llmlabel.votes import VoteMatrix

SPLITS: Final = ("train", "valid", "test")
SEEDS: Final = range(5)
ASKED: Final = 300
KNOWN: Final = 100
TARGET: Final = 0.97
RECIPE: Final[dict[str, Any]] = {"keep": "auto", "rounds": 2}  # as the step `distill` calls it

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Split:
    """Texts, their vectors, their gold."""

    texts: list[str]
    vectors: Any
    gold: Ints


@dataclass(frozen=True, eq=False)
class Set:
    """A data set: its splits, the votes on the training rows, which LFs read which prompt."""

    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    votes: VoteMatrix
    groups: Mapping[str, str]
    llm: Ints | None
    llm_test: Ints | None
    model: str = "two_rate"

    def labels(self, asked: Ints | None = None) -> tuple[Matrix, npt.NDArray[np.bool_]]:
        """Return the label model's probabilities and which rows have votes.

        With `asked`, the LLM read those rows alone.
        """
        votes = self.votes
        if asked is not None:
            L = np.array(votes.votes)
            prompted = np.array([votes.lf_names.index(name) for name in self.groups])
            left = np.setdiff1d(np.arange(len(L)), asked)
            L[np.ix_(left, prompted)] = -1
            votes = VoteMatrix(L, votes.lf_names, votes.classes)
        if self.model == "llm":
            assert self.llm is not None
            read = self.llm >= 0
            if asked is not None:
                read &= np.isin(np.arange(len(read)), asked)
            return np.eye(len(self.classes))[np.maximum(self.llm, 0)], read
        model: Any = DawidSkene()
        if self.model == "two_rate":
            model = TwoRateModel(groups=dict(self.groups)) if self.groups else TwoRateModel()
        return model.fit(votes).predict_proba(votes), votes.covered()


def split_of(texts: Sequence[str], gold: Sequence[int]) -> Split:
    """Return a split with the default encoder's vectors."""
    vectors = embed(list(texts), load_encoder(), cache_dir=cache_dir() / "embeddings")
    return Split(list(texts), np.asarray(vectors), np.asarray(gold, np.intp))


def from_recipe(recipe: Recipe, out: Path) -> Set:
    """Return a recipe's set: the LLM is asked about all rows of its recorded answers."""
    results = Results.read(run(recipe, out, until="label"))
    votes = results.votes("train")
    groups = {lf["name"]: lf["prompt"] for lf in results.lf_kinds() if lf.get("prompt")}
    splits = {}
    for name in SPLITS:
        gold = results.gold(name)
        assert gold is not None
        splits[name] = split_of(results.rows(name)["text"].to_pylist(), gold.tolist())
    return Set(
        tuple(results.classes),
        splits["train"],
        splits["valid"],
        splits["test"],
        votes,
        groups,
        np.asarray(votes["llm"], np.intp),
        np.asarray(results.votes("test")["llm"], np.intp),
    )


def tickets_recipe(folder: Path) -> Recipe:
    """Copy the shipped recipe; the LLM reads every training row, by the answers of ../shared."""
    import shutil

    from benchmarks.shared import record_answers, split_rows

    shutil.copytree(ROOT / "recipes" / "support-tickets", folder)
    file = folder / "recipe.yaml"
    text = file.read_text(encoding="utf-8").replace(
        "{train: 300, test: all}", "{train: all, test: all}"
    )
    file.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "prompts" / "support-tickets.md", folder / "support-tickets.md")
    recipe = load_recipe(folder)
    rows = split_rows("tickets")
    record_answers(
        "tickets",
        folder / "support-tickets.md",
        recipe.task,
        rows,
        folder / "data" / "answers.jsonl",
    )
    return load_recipe(folder)


def sms() -> Set:
    """SMS spam by its 73 rules."""
    names = tuple(json.loads((SHARED / "sms" / "meta.json").read_text(encoding="utf-8"))["classes"])
    tables = {s: pq.read_table(SHARED / "sms" / f"{s}.parquet").to_pydict() for s in SPLITS}
    L = np.array(tables["train"]["votes"])
    splits = {
        s: split_of(t["text"], [names.index(c) for c in t["label"]]) for s, t in tables.items()
    }
    votes = VoteMatrix(L, [f"rule_{i}" for i in range(L.shape[1])], names)
    return Set(names, splits["train"], splits["valid"], splits["test"], votes, {}, None, None)


# --- students -------------------------------------------------------------------------------


def linear(
    data: Set, targets: Matrix, weights: Matrix, seed: int, gold: Ints | None = None, **how: Any
) -> Any:
    """Fit the default student."""
    return fit_linear(
        data.train.texts,
        targets,
        data.classes,
        embeddings=data.train.vectors,
        weights=weights,
        gold=gold,
        seed=seed,
        **{**RECIPE, **how},
    )


def on_gold(data: Set, seed: int, count: int | None = None) -> Any:
    """Fit the same student on gold rows: on all, or on some drawn with the seed."""
    n = len(data.train.gold)
    rows = np.arange(n) if count is None else draw(n, count, seed)
    return fit_linear(
        [data.train.texts[i] for i in rows.tolist()],
        np.eye(len(data.classes))[data.train.gold[rows]],
        data.classes,
        embeddings=data.train.vectors[rows],
        seed=seed,
    )


def draw(n: int, count: int, seed: int) -> Ints:
    """Draw rows."""
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


def score(data: Set, student: Any, *, on: Split | None = None) -> float:
    """Accuracy in percent on the test rows; of SMS the F1 of spam."""
    on = on or data.test
    found = student.predict_proba(on.texts, on.vectors).argmax(axis=1)
    return measure_classes(data, found, on.gold)


def measure_classes(data: Set, found: Ints, gold: Ints) -> float:
    """As `score`, of classes."""
    if data.classes == ("ham", "spam"):
        both = ((found == 1) & (gold == 1)).sum()
        return float(200 * both / ((found == 1).sum() + (gold == 1).sum()))
    return float(100 * (found == gold).mean())


def chosen_model(data: Set, asked: int | None = None) -> Set:
    """Return the set with the labels whose student does best on the validation rows."""
    rows = None if asked is None else draw(len(data.train.gold), asked, 0)
    scores = {}
    for model in ("two_rate", "dawid_skene", *(("llm",) if data.llm is not None else ())):
        data = replace(data, model=model)
        targets, covered = data.labels(rows)
        student = linear(data, targets, covered.astype(float), 0)
        scores[model] = score(data, student, on=data.valid)
    return replace(data, model=max(scores, key=scores.__getitem__))


def mean_of(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a mean and the half width of its 95 % interval over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    half = student_t.ppf(0.975, max(len(values) - 1, 1)) * spread / len(values) ** 0.5
    return {name: round(statistics.mean(values), 2), f"{name}_half_width": round(float(half), 2)}


def students(
    name: str, data: Set, asked: int | None = None, *, gold_seeds: int = 5
) -> dict[str, Any]:
    """Measure the student of the labels, with and without gold rows, over the seeds."""
    suffix = "" if asked is None else f"_{asked}"
    data = chosen_model(data, asked)
    weak, mended, seconds = [], [], []
    n = len(data.train.gold)
    for seed in SEEDS:
        rows = None if asked is None else draw(n, asked, seed)
        targets, covered = data.labels(rows)
        started = time.process_time()
        weak.append(linear(data, targets, covered.astype(float), seed))
        seconds.append(time.process_time() - started)
        if seed >= gold_seeds:
            continue
        known = np.full(n, -1)
        some = draw(n, KNOWN, seed + 100)
        known[some] = data.train.gold[some]
        mended.append(linear(data, targets, covered.astype(float), seed, known))
    out = mean_of(f"{name}_student{suffix}", [score(data, s) for s in weak])
    if mended:
        out |= mean_of(f"{name}_with_gold_{KNOWN}{suffix}", [score(data, s) for s in mended])
    out[f"{name}_label_model{suffix}"] = data.model
    out[f"{name}_cpu_seconds{suffix}"] = round(statistics.mean(seconds), 1)
    if name == "youtube":
        found = weak[0].predict_proba(data.test.texts, data.test.vectors)
        out["youtube_student_low"] = round(
            100 * evaluate(data.test.gold, found, data.classes).accuracy.low, 2
        )
    if asked is None:
        out |= mean_of(f"{name}_student_gold", [score(data, on_gold(data, 0))])
        out |= mean_of(
            f"{name}_gold_{KNOWN}",
            [score(data, on_gold(data, s + 100, KNOWN)) for s in range(max(gold_seeds, 2))],
        )
    if data.llm_test is not None:
        out[f"{name}_llm"] = round(measure_classes(data, data.llm_test, data.test.gold), 2)
    return out


def answered(data: Set) -> dict[str, float]:
    """Find where the tickets student is sure enough, by out-of-fold rows, and what that gives."""
    targets, covered = data.labels()
    weights, n = covered.astype(float), len(data.train.gold)
    student = linear(data, targets, weights, 0)
    labels = Labels(data.train.texts, targets, weights, np.full(n, -1), data.train.vectors)
    said = out_of_fold(student, labels, np.arange(n), seed=0, **RECIPE)
    assert data.llm is not None
    cut = selective_cut(said.max(axis=1), said.argmax(axis=1) == data.llm, TARGET)
    found = student.predict_proba(data.test.texts, data.test.vectors)
    chosen = found.max(axis=1) >= cut.threshold
    right = (found.argmax(axis=1) == data.test.gold)[chosen]
    return {
        "share_answered_at_97": round(float(chosen.mean()), 4),
        "accuracy_answered_at_97": round(float(right.mean()), 4) if chosen.any() else float("nan"),
    }


def encoders(
    name: str, data: Set, seeds: Sequence[int], asked: int | None = None
) -> dict[str, Any]:
    """Measure the fine-tuned student, or the linear one where it lost the contest."""
    found, seconds, taken = [], [], []
    n = len(data.train.gold)
    for seed in seeds:
        targets, covered = data.labels(None if asked is None else draw(n, asked, seed))
        labels = Labels(
            data.train.texts, targets, covered.astype(float), np.full(n, -1), data.train.vectors
        )
        started = time.process_time()
        student = fit_better(
            labels,
            data.classes,
            EncoderOptions(seed=seed),
            linear={"tfidf": True, "seed": seed, **RECIPE},
            encoder=None,
        )
        seconds.append(time.process_time() - started)
        found.append(score(data, student))
        taken.append(student.facts["contest"]["taken"])
        print(f"{name} seed {seed}: {found[-1]:.1f}, {taken[-1]} taken", file=sys.stderr)
    suffix = "" if asked is None else f"_{asked}"
    return {
        **mean_of(f"{name}_encoder{suffix}", found),
        f"{name}_encoder_cpu_seconds{suffix}": round(statistics.mean(seconds), 1),
        f"{name}_encoder_taken{suffix}": taken.count("encoder"),
        f"{name}_encoder_seeds{suffix}": len(found),
    }


# --- peers, speed, reload ---------------------------------------------------------------------


def setfit(data: Set) -> dict[str, Any]:
    """SetFit and our linear student on the LLM's labels of the same 300 rows."""
    try:
        python = python_of("setfit")
    except Unavailable as reason:
        print(f"skipped setfit: {reason}", file=sys.stderr)
        return {"setfit_300_rows": None}
    assert data.llm is not None
    rows = draw(len(data.train.gold), ASKED, 0)
    texts = [data.train.texts[i] for i in rows.tolist()]
    given = {
        "classes": list(data.classes),
        "texts": texts,
        "labels": [data.classes[c] for c in data.llm[rows].tolist()],
        "asked": data.test.texts,
        "iterations": 5,
        "seed": 0,
    }
    with tempfile.TemporaryFile() as result:
        subprocess.run(
            [str(python), str(ROOT / "benchmarks" / "peers" / "setfit_worker.py")],
            input=json.dumps(given).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(),
            preexec_fn=lambda: os.dup2(result.fileno(), 3),
            close_fds=False,
            check=True,
            timeout=1800,
        )
        result.seek(0)
        said = json.loads(result.read())
    found = np.array([data.classes.index(c) for c in said["predicted"]])
    vectors = data.train.vectors[rows]
    started = time.process_time()
    ours = fit_linear(
        texts, np.eye(len(data.classes))[data.llm[rows]], data.classes, embeddings=vectors
    )
    return {
        "setfit_300_rows": round(measure_classes(data, found, data.test.gold), 2),
        "setfit_cpu_seconds": round(said["cpu_seconds"], 1),
        "linear_300_rows": round(score(data, ours), 2),
        "linear_300_rows_cpu_seconds": round(time.process_time() - started, 1),
    }


def speed(data: Set) -> dict[str, float]:
    """Texts per second of the whole student, on either backend, over the default encoder's."""
    from importlib.util import find_spec

    from llmlabel.embed.model_folder import model_folder

    name = "sentence-transformers/all-MiniLM-L6-v2"
    targets, covered = data.labels()
    student = replace(linear(data, targets, covered.astype(float), 0), encoder=load_encoder(name))
    model: Any = import_module("sentence_transformers").SentenceTransformer(str(model_folder(name)))
    rows = [r["text"] for r in read_jsonl(SHARED / "tickets" / "train.jsonl")][:1000]
    ways: dict[str, Callable[[list[str]], Any]] = {
        "default": lambda t: model.encode(t, show_progress_bar=False),
        "predict": student.predict_proba,
    }
    if find_spec("openvino") is not None:
        fast = replace(student, encoder=load_encoder(name, backend="openvino"))
        ways["predict_openvino"] = fast.predict_proba
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for work in ways.values():
        work(rows[:50])
    for _ in range(3):
        for way, work in ways.items():
            started = time.perf_counter()
            work(rows)
            seconds[way].append(time.perf_counter() - started)
    default = statistics.median(seconds.pop("default"))
    return {f"{way}_over_default": default / statistics.median(s) for way, s in seconds.items()}


RELOAD: Final = """
import sys, numpy as np
from llmlabel.distill.encoder import EncoderStudent
np.save(sys.argv[2], EncoderStudent.load(sys.argv[1]).network.logits(sys.stdin.read().split("\\0")))
"""


def reload_difference(data: Set, folder: Path) -> dict[str, float]:
    """Train MiniLM with LoRA for a moment, save it, and compare its logits in a new process."""
    from llmlabel.distill import fit_encoder

    rows = draw(len(data.train.gold), 64, 0)
    texts = [data.train.texts[i] for i in rows.tolist()]
    student = fit_encoder(
        texts,
        np.eye(len(data.classes))[data.train.gold[rows]],
        data.classes,
        options=EncoderOptions(lora={}, epochs=2, rounds=0),
    )
    student.save(folder / "student")
    command = [sys.executable, "-c", RELOAD, str(folder / "student"), str(folder / "logits.npy")]
    subprocess.run(command, input="\0".join(texts), text=True, check=True, cwd=ROOT)
    found = np.load(folder / "logits.npy")
    difference = np.abs(found - student.network.logits(texts)).max()
    return {"head_reload_max_abs_difference": float(difference)}


def measure(quick: bool, seeds: int) -> dict[str, Any]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as name:
        folder, gold_seeds = Path(name), 1 if quick else 3
        youtube = from_recipe(youtube_recipe(folder / "youtube"), folder / "youtube-run")
        tickets = from_recipe(tickets_recipe(folder / "tickets"), folder / "tickets-run")
        found = {
            **students("youtube", youtube, gold_seeds=gold_seeds),
            **students("sms", sms(), gold_seeds=gold_seeds),
            **students("tickets", tickets, gold_seeds=gold_seeds),
            **students("tickets", tickets, ASKED, gold_seeds=0 if quick else 3),
            **answered(chosen_model(tickets)),
            **speed(tickets),
            **reload_difference(tickets, folder),
        }
        found["sms_f1"] = found.pop("sms_student")
        if not quick:
            found |= setfit(tickets)
            found |= encoders("tickets", chosen_model(tickets, ASKED), range(seeds), ASKED)
            found |= encoders("youtube", chosen_model(youtube), range(seeds))
        return {**found, "load_average": os.getloadavg()[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="linear students, no peers, one seed of gold rows"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--save", action="store_true", help="to benchmarks/results/distill.json")
    parser.add_argument("--seeds", type=int, default=5, help="of the fine-tuned students")
    options = parser.parse_args(arguments)
    require_shared()
    found = measure(options.quick, options.seeds)
    if options.save:
        target = ROOT / "benchmarks" / "results" / "distill.json"
        target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<42} {value}")


if __name__ == "__main__":
    main()
