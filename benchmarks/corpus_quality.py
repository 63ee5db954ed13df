"""How well documents are told good from bad without human labels, on DCLM's human-labelled ones.

Ratings of an LLM and four families of rules vote, a label model weighs them, and a student is
distilled that needs neither at work. No human label is used but to measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from benchmarks.shared import SHARED, read_jsonl
from llmlabel.corpus.families import FAMILIES
from llmlabel.corpus.filters_lf import family
from llmlabel.corpus.normalize import normalize
from llmlabel.distill import fit_linear
from llmlabel.embed import embed, load_encoder
from llmlabel.io import cache_dir
from llmlabel.labelmodel import TwoRateModel
from llmlabel.lf import apply
from llmlabel.schema import Task
from llmlabel.votes import VoteMatrix

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

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Rated:
    """Documents that the LLM has rated; the first `measured` of them have human labels."""

    texts: Sequence[str]
    ratings: Sequence[Mapping[str, Any]]
    good: npt.NDArray[np.bool_]
    votes: VoteMatrix
    vectors: Any
    words: Any

    @property
    def measured(self) -> int:
        """How many have human labels."""
        return len(self.good)


def rated_documents() -> Rated:
    """Read the documents, their ratings, and let ratings and rules vote."""
    ratings = {r["id"]: r for r in read_jsonl(SHARED / "web" / "ratings.jsonl")}
    labeled = read_jsonl(SHARED / "web" / "quality.jsonl")
    web = pq.read_table(SHARED / "web" / "web.parquet", columns=["id", "text"]).to_pylist()
    documents = [*labeled, *(d for d in web if ratings.get(d["id"], {}).get("set") == "web")]
    texts = normalize([d["text"] for d in documents])
    said = [ratings[d["id"]] for d in documents]
    vectors = embed(texts, load_encoder(), cache_dir=cache_dir() / "embeddings")
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=50_000)
    return Rated(
        texts,
        said,
        np.array([d["label"] == "HIGH" for d in labeled]),
        _votes(texts, said),
        np.asarray(vectors),
        words.fit_transform(texts),
    )


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
    """Return the label model's probability of KEEP of some rows, fitted on them."""
    votes = VoteMatrix(
        data.votes.votes[rows],
        data.votes.lf_names,
        data.votes.classes,
        confidences=None if data.votes.confidences is None else data.votes.confidences[rows],
    )
    model = TwoRateModel(groups=groups(votes))
    words = data.words[rows]
    found: Matrix = model.fit(votes, features=words).predict_proba(votes, features=words)
    return found


def student(data: Rated, train: Ints, targets: Matrix, test: Ints, *, vectors: bool) -> Matrix:
    """Return the probability of KEEP by a student of some rows for others."""
    made = fit_linear(
        [data.texts[i] for i in train],
        targets,
        TASK.names,
        embeddings=data.vectors[train] if vectors else None,
    )
    given = data.vectors[test] if vectors else None
    return made.predict_proba([data.texts[i] for i in test], given)[:, KEEP]


def quality() -> dict[str, float]:
    """Measure ratings, rules, label model and students against the human labels."""
    data = rated_documents()
    n, everything = data.measured, np.arange(len(data.texts))
    folds = np.random.default_rng(0).permutation(n) % FOLDS
    found: dict[str, Matrix] = {}
    sure = np.array([r["confidence"] for r in data.ratings[:n]])
    yes = np.array([r["keep"] == "yes" for r in data.ratings[:n]])
    found["ratings"] = np.where(yes, sure, 1 - sure)
    rules = [data.votes.position(name) for name in FAMILIES]
    found["filters"] = 1.0 - (data.votes.votes[:n][:, rules] == DROP).any(axis=1)
    found["label_model"] = label_model(data, everything)[:n, KEEP]
    for name in ("student", "student_tfidf", "student_of_humans"):
        found[name] = np.empty(n)
    for fold in range(FOLDS):
        test = np.flatnonzero(folds == fold)
        train = np.setdiff1d(everything, test)
        taught = label_model(data, train)
        found["student"][test] = student(data, train, taught, test, vectors=True)
        found["student_tfidf"][test] = student(data, train, taught, test, vectors=False)
        labeled = train[train < n]
        human = np.eye(2)[np.where(data.good[labeled], KEEP, DROP)]
        found["student_of_humans"][test] = student(data, labeled, human, test, vectors=True)
    out = {}
    for name, score in found.items():
        prefix = "quality" if name == "student" else f"quality_{name}"
        out[f"{prefix}_auc"] = round(float(roc_auc_score(data.good, score)), 4)
        out[f"{prefix}_accuracy"] = round(float(((score > 0.5) == data.good).mean()), 4)
    return out
