"""How well documents are told good from bad without human labels, on DCLM's human-labelled ones.

    python -m benchmarks.corpus_quality [--quick]

Ratings of an LLM and four families of rules vote, a label model weighs them, and students are
distilled that need neither at work. 816 documents of ../shared/data/web are rated, 246 of them
have a human label, which nothing is chosen by: it measures. Students are cross-fitted: the 246
are dealt to five folds, and each fold is scored by students that have met neither its texts nor
its ratings. The label model is fitted as the step ``aggregate`` does with ``features: tfidf``,
students as ``distill`` does with ``rounds: 0``: self-training is for rows without a label, and
on these, which all have one, it takes held-out students further from the label model.

A student hedges, so .5 is no good threshold for it. ``threshold: auto`` of the step ``filter``
is the one at which it keeps as many of the training documents, each scored by a student that
has not met it, as the label model does. The headline quality_accuracy is by that one, and so is
all that ends in ``_matched``; ``_half`` is by .5.

quality_auc, quality_accuracy, quality_accuracy_half
    The student: MiniLM and TF-IDF of words and characters.
quality_tfidf_..., quality_hashed_...
    The student of that TF-IDF alone, and the fast one of hashed words and pairs of words.
quality_humans_...
    The student of all of it taught by the human labels of the other folds, and by them alone.
quality_two_rounds_...
    The student as quality_auc's, but with the default ``rounds: 2``.
quality_label_model_..., quality_ratings_..., quality_filters_...
    The label model, which has a document's ratings before it; the LLM's stated confidence in
    its own keep or drop; and whether all four families let a document pass.
..._low, ..._high
    95 % bootstrap interval over the documents.
hashed_docs_per_cpu_second, student_docs_per_cpu_second
    From text to probability on one core, documents of web.parquet.

``--quick`` fits the students' TF-IDF on all 816 documents once, instead of on each fold's, gives
the label model the same TF-IDF in the 816 coordinates that its rows span (their inner products,
which are all that a linear model sees, are kept; the folds that it deals its rows to are others),
and leaves all students but two out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.corpus_filters import documents
from benchmarks.shared import SHARED, read_jsonl, require_shared
from llmlabel.corpus.families import FAMILIES
from llmlabel.corpus.filters_lf import family
from llmlabel.corpus.normalize import normalize
from llmlabel.distill import Labels, LinearStudent, fit_linear, out_of_fold
from llmlabel.distill.features import coordinates
from llmlabel.embed import embed, fit_tfidf, load_encoder
from llmlabel.evaluate import bootstrap
from llmlabel.io import cache_dir
from llmlabel.labelmodel import TwoRateModel
from llmlabel.lf import apply
from llmlabel.recipe.config import DistillStep
from llmlabel.schema import Task
from llmlabel.votes import VoteMatrix

__all__ = ["Kind", "Rated", "figures", "groups", "label_model", "quality", "threshold"]

TASK: Final = Task("quality", ["KEEP", "DROP"])
FOLDS: Final = 5
KEEP, DROP, ABSTAIN = 0, 1, -1
ANSWERS: Final = {  # as recipes/pretraining-filter says it
    "keep": {"yes": KEEP, "no": DROP},
    "boilerplate": {"yes": DROP},
    "promotional": {"yes": DROP},
    "educational": {"yes": KEEP},
    "coherent": {"no": DROP},
    "broken": {"yes": DROP},
}
STEP: Final = DistillStep(step="distill")  # type: ignore[call-arg]

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Rated:
    """Documents that the LLM has rated; the first `measured` of them have human labels."""

    texts: Sequence[str]
    ratings: Sequence[Mapping[str, Any]]
    good: npt.NDArray[np.bool_]
    votes: VoteMatrix
    vectors: Matrix
    words: sp.csr_matrix
    features: Any  # the words as the label model gets them

    @property
    def measured(self) -> int:
        """How many have human labels."""
        return len(self.good)


@dataclass(frozen=True)
class Kind:
    """What a student sees, who teaches it, and how often it then teaches itself."""

    vectors: bool
    tfidf: Literal[True, "hashed"] = True
    humans: bool = False
    rounds: int = 0


STUDENTS: Final = {
    "": Kind(vectors=True),
    "hashed_": Kind(vectors=False, tfidf="hashed"),
    "tfidf_": Kind(vectors=False),
    "two_rounds_": Kind(vectors=True, rounds=STEP.rounds),
    "humans_": Kind(vectors=True, humans=True),
}
QUICK: Final = ("", "hashed_")


def rated_documents(quick: bool = False) -> Rated:
    """Read the documents, their ratings, and let ratings and rules vote."""
    ratings = {r["id"]: r for r in read_jsonl(SHARED / "web" / "ratings.jsonl")}
    labeled = read_jsonl(SHARED / "web" / "quality.jsonl")
    web = pq.read_table(SHARED / "web" / "web.parquet", columns=["id", "text"]).to_pylist()
    rated = [*labeled, *(d for d in web if ratings.get(d["id"], {}).get("set") == "web")]
    texts = normalize([d["text"] for d in rated])
    said = [ratings[d["id"]] for d in rated]
    words = fit_tfidf(texts).transform(texts)
    return Rated(
        texts,
        said,
        np.array([d["label"] == "HIGH" for d in labeled]),
        _votes(texts, said),
        np.asarray(embed(texts, load_encoder(), cache_dir=cache_dir() / "embeddings")),
        words,
        _coordinates(words) if quick else words,
    )


def _coordinates(rows: sp.csr_matrix) -> Matrix:
    every = np.arange(rows.shape[0])
    return coordinates((rows @ rows.T).toarray(), every, every[:0])[0]


def _votes(texts: Sequence[str], ratings: Sequence[Mapping[str, Any]]) -> VoteMatrix:
    rules = apply([family(name, drop="DROP") for name in FAMILIES], {"text": list(texts)}, TASK)
    columns = {
        name: [votes.get(r[name], ABSTAIN) for r in ratings] for name, votes in ANSWERS.items()
    }
    score = np.array([r["score"] for r in ratings])
    columns["score"] = np.select([score >= 4, score <= 1], [KEEP, DROP], ABSTAIN).tolist()
    L = np.column_stack([*columns.values(), rules.votes])
    names = [*columns, *rules.lf_names]
    sure = np.full(L.shape, np.nan)
    sure[:, 0] = [r["confidence"] for r in ratings]
    return VoteMatrix(L, names, TASK.names, confidences=sure)


def groups(votes: VoteMatrix) -> dict[str, str]:
    """Return whose errors come together: the answers of one prompt, and the rules."""
    return {name: "rules" if name in FAMILIES else "ratings" for name in votes.lf_names}


def label_model(data: Rated, rows: Ints) -> Matrix:
    """Return the label model's probabilities of some rows, fitted on them."""
    votes = VoteMatrix(
        data.votes.votes[rows],
        data.votes.lf_names,
        data.votes.classes,
        confidences=None if data.votes.confidences is None else data.votes.confidences[rows],
    )
    model = TwoRateModel(groups=groups(votes))
    features = data.features[rows]
    found: Matrix = model.fit(votes, features=features).predict_proba(votes, features=features)
    return found


def fitted(data: Rated, rows: Ints, targets: Matrix, kind: Kind) -> LinearStudent:
    """Return a student of some rows, as the step ``distill`` makes it."""
    return fit_linear(
        [data.texts[i] for i in rows],
        targets,
        TASK.names,
        embeddings=data.vectors[rows] if kind.vectors else None,
        tfidf=kind.tfidf,
        keep=STEP.keep,
        rounds=kind.rounds,
    )


def threshold(held_out: Matrix, targets: Matrix) -> float:
    """Return the probability at which a student keeps as many rows as who taught it does.

    Parameters
    ----------
    held_out : array, shape (n, k)
        Of the training rows, by students that have not met them.
    targets : array, shape (n, k)
        What they were taught.
    """
    share = float((targets.argmax(axis=1) == KEEP).mean())
    return float(np.quantile(held_out[:, KEEP], 1 - share))


Scored = dict[str, tuple[Matrix, float]]  # by student, probabilities of KEEP and a threshold


def cross_fit(data: Rated, names: Sequence[str], known: bool, test: Ints) -> Scored:
    """Return what students say of some measured rows, each taught by all others.

    Parameters
    ----------
    names
        Of `STUDENTS`.
    known
        Whether the TF-IDF of all documents will do.
    """
    train = np.setdiff1d(np.arange(len(data.texts)), test)
    labeled = train[train < data.measured]
    taught = {
        False: (train, label_model(data, train)),
        True: (labeled, np.eye(2)[np.where(data.good[labeled], KEEP, DROP)]),
    }
    out: Scored = {}
    for name in names:
        kind = STUDENTS[name]
        rows, targets = taught[kind.humans]
        with _known_terms(data, known):
            student = fitted(data, rows, targets, kind)
        vectors = data.vectors if kind.vectors else None
        labels = Labels(
            [data.texts[i] for i in rows],
            targets,
            np.ones(len(rows)),
            np.full(len(rows), ABSTAIN),
            None if vectors is None else vectors[rows],
        )
        every = np.arange(len(rows))
        held = out_of_fold(student, labels, every, keep=STEP.keep, rounds=kind.rounds)
        given = None if vectors is None else vectors[test]
        said = student.predict_proba([data.texts[i] for i in test], given)[:, KEEP]
        out[name] = said, threshold(held, targets)
    return out


@dataclass(frozen=True, eq=False)
class KnownTerms:
    """TF-IDF rows that are there already."""

    rows: sp.csr_matrix
    position: Mapping[str, int]

    @property
    def n_features(self) -> int:
        """Columns."""
        return int(self.rows.shape[1])

    def transform(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return the rows of texts, shape (n, n_features)."""
        return self.rows[[self.position[text] for text in texts]]


@contextmanager
def _known_terms(data: Rated, known: bool) -> Iterator[None]:
    terms = KnownTerms(data.words, {text: i for i, text in enumerate(data.texts)})
    real = mock.patch("llmlabel.distill.linear.fit_tfidf", lambda _: terms)
    if not known:
        yield
        return
    with real:
        yield


def figures(name: str, good: npt.NDArray[np.bool_], score: Matrix, **keep: Any) -> dict[str, float]:
    """Return AUC and accuracies under names that begin with `name`, with their intervals.

    Parameters
    ----------
    score : array, shape (n,)
        Higher is better.
    keep : arrays of bool, shape (n,)
        Decisions, by the name of their accuracy.
    """
    low, high = _auc_interval(good, score)
    out = {
        f"{name}auc": float(roc_auc_score(good, score)),
        f"{name}auc_low": low,
        f"{name}auc_high": high,
    }
    for what, kept in keep.items():
        found = bootstrap(np.where(good, KEEP, DROP), np.where(kept, KEEP, DROP), 2)
        out[f"{name}{what}"] = found.value
        if what == "accuracy":
            out |= {f"{name}{what}_low": found.low, f"{name}{what}_high": found.high}
    return {key: round(value, 4) for key, value in out.items()}


def _auc_interval(good: npt.NDArray[np.bool_], score: Matrix) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(good), len(good)) for _ in range(500)]
    found = [
        roc_auc_score(good[rows], score[rows]) for rows in drawn if 0 < good[rows].sum() < len(rows)
    ]
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return low, high


def quality(quick: bool = False) -> dict[str, float]:
    """Measure ratings, rules, label model and students against the human labels."""
    data = rated_documents(quick)
    n = data.measured
    folds = np.random.default_rng(0).permutation(n) % FOLDS
    tests = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
    work = partial(cross_fit, data, QUICK if quick else tuple(STUDENTS), quick)
    own = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, own, initializer=_one_thread) as pool:
        everything = pool.submit(label_model, data, np.arange(len(data.texts)))
        found = list(pool.map(work, tests))
        labels = everything.result()
    out: dict[str, float] = {}
    for name in found[0]:
        score, kept = np.empty(n), np.empty(n, np.bool_)
        for test, (said, least) in zip(tests, (scored[name] for scored in found), strict=True):
            score[test], kept[test] = said, said >= least
        ways = {"accuracy_half": score > 0.5, "accuracy" if not name else "accuracy_matched": kept}
        out |= figures(f"quality_{name}", data.good, score, **ways)
    for name, score in _without_students(data, labels).items():
        out |= figures(f"quality_{name}_", data.good, score, accuracy=score > 0.5)
    return {
        **out,
        "quality_documents": n,
        "quality_rated": len(labels),
        **speed(data, labels, quick),
    }


def _without_students(data: Rated, labels: Matrix) -> dict[str, Matrix]:
    n = data.measured
    sure = np.array([r["confidence"] for r in data.ratings[:n]])
    yes = np.array([r["keep"] == "yes" for r in data.ratings[:n]])
    rules = [data.votes.position(name) for name in FAMILIES]
    passed = ~(data.votes.votes[:n][:, rules] == DROP).any(axis=1)
    return {
        "label_model": labels[:n, KEEP],
        "ratings": np.where(yes, sure, 1 - sure),
        "filters": passed.astype(float),
    }


def speed(data: Rated, labels: Matrix, quick: bool) -> dict[str, float]:
    """Return documents per CPU second of the fast student and of the one with MiniLM."""
    every = np.arange(len(data.texts))
    with threadpool_limits(1), _known_terms(data, quick):
        fast = fitted(data, every, labels, STUDENTS["hashed_"])
        out = {"hashed_docs_per_cpu_second": _rate(fast, documents(2000))}
        if not quick:
            slow = replace(fitted(data, every, labels, STUDENTS[""]), encoder=load_encoder())
            out["student_docs_per_cpu_second"] = _rate(slow, documents(100))
    return out


def _rate(student: LinearStudent, texts: Sequence[str]) -> float:
    student.predict_proba(texts[:5])
    started = time.process_time()
    student.predict_proba(texts)
    return round(len(texts) / (time.process_time() - started), 1)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    threadpool_limits(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="two students of five, one TF-IDF")
    quick = parser.parse_args(arguments).quick
    require_shared()
    print(json.dumps(quality(quick), indent=2))


if __name__ == "__main__":
    main()
