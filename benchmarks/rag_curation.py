"""Curation of a collection: flaws found in ../shared/data/helpdesk, and 100,000 passages.

    python -m benchmarks.rag_curation [--quick]

`flaws` curates the 100 documents of the help centre with MiniLM's embeddings and compares with
the flaws that are known. Thresholds were set on documents with even numbers; figures are of
all, and of either half. The column ``supersedes`` is truth here and is not read.

flaws_dropped
    By known flaw, the share of its documents that are left out (dropped or merged).
good_dropped
    The share of documents without a flaw that are.
precision, recall
    By flaw, of the flaws found, whatever was done.
by_words
    The same with TF-IDF + SVD instead of MiniLM.
seconds, passages_per_second, memory_bytes_per_passage
    `scale`: curating made-up passages, embedding apart; peak of the process, beyond what the
    passages and vectors take.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.shared import SHARED, require_shared
from llmlabel.embed import load_encoder
from llmlabel.rag.curation import BY_WORDS, Curated, curate

__all__ = ["flaws", "scale"]

KNOWN: Final = {
    "outdated": "OUTDATED",
    "boilerplate": "BOILERPLATE",
    "near_duplicate": "NEAR_DUPLICATE",
    "fluff": "PROMOTIONAL",
    "thin": "THIN",
    "pii": "PERSONAL",
}
_COLUMNS: Final = ("id", "title", "text", "updated", "section")


def flaws() -> dict[str, Any]:
    """Return what is found and left out of the help centre, in all and by half."""
    documents = _documents()
    encoder = load_encoder("all-MiniLM-L6-v2")
    columns = {name: [d[name] for d in documents] for name in _COLUMNS}
    done = curate(
        columns,
        vectors=np.asarray(encoder.encode(columns["text"])),
        title_vectors=np.asarray(encoder.encode(columns["title"])),
    )
    by_words = load_encoder("tfidf-svd", columns["text"])
    words = curate(columns, vectors=np.asarray(by_words.encode(columns["text"])), how=BY_WORDS)
    truth = [d["flaw"] for d in documents]
    odd = np.array([int(d["id"][-3:]) % 2 for d in documents], np.bool_)
    every = np.ones(len(odd), np.bool_)
    return {
        **_figures(done, truth, every),
        "even_half": _figures(done, truth, ~odd),
        "odd_half": _figures(done, truth, odd),
        "by_words": _figures(words, truth, every),
        "candidates": done.candidates.num_rows,
    }


def scale(n: int = 100_000, *, seed: int = 0) -> dict[str, float]:
    """Return how long it takes to curate n made-up passages of a fifth as many topics."""
    columns, vectors = _made_up(n, np.random.default_rng(seed))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    done = curate(columns, vectors=vectors)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "passages": float(n),
        "seconds": round(seconds, 1),
        "passages_per_second": round(n / seconds, 1),
        "memory_bytes_per_passage": round(1024 * (after - before) / n, 1),
        "left_out": float(n - done.kept.sum()),
    }


def _documents() -> list[dict[str, Any]]:
    require_shared()
    file = SHARED / "helpdesk" / "documents.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _figures(done: Curated, truth: Sequence[str], half: npt.NDArray[np.bool_]) -> dict[str, Any]:
    known = np.array(truth, object)
    found = done.actions["flaws"].to_pylist()
    has = {flaw: np.array([flaw in row for row in found]) for flaw in KNOWN.values()}
    out: dict[str, Any] = {"flaws_dropped": {}, "precision": {}, "recall": {}}
    for name, flaw in KNOWN.items():
        true, said = (known == name) & half, has[flaw] & half
        hit = int((true & said).sum())
        out["flaws_dropped"][name] = round(float((~done.kept)[true].mean()), 3)
        out["precision"][name] = round(hit / said.sum(), 3) if said.any() else None
        out["recall"][name] = round(hit / true.sum(), 3)
    good = (known == "none") & half
    out["good_dropped"] = round(float((~done.kept)[good].mean()), 3)
    return out


def _made_up(
    n: int, rng: np.random.Generator
) -> tuple[dict[str, list[str]], npt.NDArray[np.float32]]:
    """Return passages in five versions each: sentences of help articles, changed in part."""
    sentences = np.array(
        [
            sentence.strip()
            for document in _documents()
            for sentence in document["text"].replace("\n", ". ").split(". ")
            if len(sentence.split()) > 4
        ],
        object,
    )
    topics = max(n // 5, 1)
    base = rng.integers(len(sentences), size=(topics, 8))
    words = np.array([f"w{i}" for i in range(50_000)], object)
    names = words[rng.integers(len(words), size=(topics, 12))]
    topic = rng.integers(topics, size=n)
    chosen = base[topic]
    changed = rng.random(chosen.shape) < rng.choice([0.0, 0.2, 0.7], size=(n, 1))
    chosen[changed] = rng.integers(len(sentences), size=int(changed.sum()))
    texts = [
        ". ".join([*sentences[row], " ".join(names[t])])
        for row, t in zip(chosen, topic, strict=True)
    ]
    centres = rng.standard_normal((topics, 384)).astype(np.float32)
    vectors = centres[topic] + 0.6 * rng.standard_normal((n, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    days = np.datetime64("2020-01-01") + rng.integers(2000, size=n)
    columns = {
        "id": [f"p{i}" for i in range(n)],
        "text": texts,
        "title": [" ".join(names[t][:3]) for t in topic],
        "updated": days.astype(str).tolist(),
    }
    return columns, vectors


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 passages instead of 100,000")
    quick = parser.parse_args().quick
    print(json.dumps({**flaws(), "scale": scale(10_000 if quick else 100_000)}, indent=1))


if __name__ == "__main__":
    main()
