"""Near duplicates: ours against rensa and datatrove, on the documents of ../shared/data/web.

    python -m benchmarks.corpus_duplicates [--quick]

Each contestant is a process of its own that is given the texts and says which pairs are
duplicates and how long that took, from text to clusters; ours and rensa take turns. Signatures
of both take 512 bytes: 256 numbers of 16 bits, 128 of 32. Recall is of the synthetic pairs,
by the share of words that was edited: both in one cluster. Precision is the share of the
pairs of different texts that a contestant calls alike whose true Jaccard similarity (of sets
of 5 words) is at least the threshold less .05. No threshold is chosen by these figures: the
curve over thresholds is among them.

dedup_docs_per_second, dedup_docs_per_second_2
    Ours, text to clusters: one process, and two.
dedup_docs_per_cpu_second
    The same of CPU seconds, which other programs on the machine do not change so much.
dedup_over_rensa, dedup_over_datatrove
    Documents per second, one process each, ours over theirs. rensa's sketch is parallel.
dedup_recall, dedup_precision
    Ours at the default threshold; recall by edit rate.
rensa_..., datatrove_...
    The same of the others; datatrove on the synthetic pairs alone, with its defaults.
dedup_curve
    By threshold, recall and precision of ours and of rensa.
dedup_memory_bytes_per_document, dedup_pairs_seconds_per_million
    Of the second phase on 200,000 signatures, beside the 528 bytes of each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.peers.environments import Unavailable, python_of
from benchmarks.shared import ROOT, SHARED, require_shared
from llmlabel.corpus.clusters import find_duplicates
from llmlabel.corpus.lsh import THRESHOLD, joined, rows_per_band
from llmlabel.corpus.minhash import HASHES, SHINGLE, estimated_jaccard
from llmlabel.corpus.ngrams import ngrams
from llmlabel.corpus.segment import batches, segment
from llmlabel.corpus.sketches import Sketches, joined_sketches, sketch

Ints = npt.NDArray[np.int64]
Pairs = tuple[Ints, Ints]

CURVE: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
SLACK: Final = 0.05
PEERS: Final = ROOT / "benchmarks" / "peers"


def documents() -> tuple[list[str], list[str]]:
    """Return the ids and texts of the shared web documents."""
    import pyarrow.parquet as pq

    table = pq.read_table(SHARED / "web" / "web.parquet", columns=["id", "text"])
    return table["id"].to_pylist(), table["text"].to_pylist()


def synthetic(ids: Sequence[str]) -> dict[str, Pairs]:
    """Return by edit rate the rows of synthetic duplicates and of their originals."""
    row = {name: i for i, name in enumerate(ids)}
    found: dict[str, list[tuple[int, int]]] = {}
    for i, name in enumerate(ids):
        if name.startswith("syn/"):
            _, rate, original = name.split("/", 2)
            found.setdefault(rate, []).append((row[original], i))
    pairs = {rate: np.array(rows, np.int64).T for rate, rows in sorted(found.items())}
    return {rate: (both[0], both[1]) for rate, both in pairs.items()}


def recall(pairs: Pairs, count: int, wanted: Mapping[str, Pairs]) -> dict[str, float]:
    """Return by edit rate the share of synthetic pairs that are in one cluster."""
    label = joined(count, *pairs)
    return {rate: float((label[a] == label[b]).mean()) for rate, (a, b) in wanted.items()}


class Truth:
    """True Jaccard similarities, each pair computed once."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._sets: list[npt.NDArray[np.uint64]] = []
        for batch in batches(texts):
            found = segment(texts[batch])
            grams, bounds = ngrams(found.term_hashes, found.terms.offsets, SHINGLE)
            self._sets += [np.unique(part) for part in np.split(grams, bounds[1:-1])]
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, left: int, right: int) -> float:
        """Return the similarity of two documents."""
        key = (min(left, right), max(left, right))
        if key not in self._known:
            a, b = self._sets[left], self._sets[right]
            shared = len(np.intersect1d(a, b, assume_unique=True))
            self._known[key] = shared / max(len(a) + len(b) - shared, 1)
        return self._known[key]

    def precision(self, pairs: Pairs, least: float) -> float:
        """Return the share of pairs of different sets that are at least so similar."""
        values = np.array([self(a, b) for a, b in zip(*(p.tolist() for p in pairs), strict=True)])
        values = values[values < 1.0]
        return float((values >= least).mean()) if len(values) else 1.0


def contest(program: Sequence[str], texts: Sequence[str], settings: Any) -> dict[str, Any]:
    """Run a contestant on texts; return what it wrote."""
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / file for file in ("texts.jsonl", "settings.json", "out.npz")]
        with files[0].open("w") as lines:
            lines.writelines(json.dumps(text) + "\n" for text in texts)
        files[1].write_text(json.dumps(settings))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*program, *map(str, files)],
            capture_output=True, text=True, check=False, timeout=900, env=environment, cwd=ROOT,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable((done.stderr.strip().splitlines() or ["failed"])[-1])
        with np.load(files[2]) as found:
            return {key: found[key] for key in found.files}


_texts: list[str] = []


def _load(source: str) -> None:
    with Path(source).open() as lines:
        _texts[:] = [json.loads(line) for line in lines]


def _sketch(part: tuple[int, int]) -> Sketches:
    return sketch(_texts[slice(*part)])


def ours(source: Path, settings: Path, target: Path) -> None:
    """Sketch and find pairs, as the workers of the peers do."""
    _load(str(source))
    sketch(_texts[:100])  # tables that are made once
    runs = json.loads(settings.read_text())["runs"]
    started, cpu = time.perf_counter(), time.process_time()
    made = sketch(_texts)
    out: dict[str, Any] = {"seconds_sketch": time.perf_counter() - started}
    out["cpu_sketch"] = time.process_time() - cpu
    for i, threshold in enumerate(runs):
        started, cpu = time.perf_counter(), time.process_time()
        found = find_duplicates(made, threshold=threshold)
        out[f"seconds_{i}"] = time.perf_counter() - started
        out[f"cpu_{i}"] = time.process_time() - cpu
        out[f"left_{i}"], out[f"right_{i}"] = _alike(made, found.cluster, threshold)
    own = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, own, initializer=_load, initargs=(str(source),)) as pool:
        list(pool.map(_sketch, [(0, 100), (0, 100)]))
        edges = np.linspace(0, len(_texts), 17, dtype=int).tolist()
        started = time.perf_counter()
        parts = list(pool.map(_sketch, list(itertools.pairwise(edges))))
        find_duplicates(joined_sketches(parts), threshold=runs[0])
        out["seconds_two"] = time.perf_counter() - started
    out["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(target, **out)


def _alike(made: Sketches, cluster: Ints, threshold: float) -> Pairs:
    """Return all pairs of one cluster whose signatures agree in at least the threshold."""
    order = np.argsort(cluster, kind="stable")
    label = cluster[order]
    parts: list[Pairs] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for step in range(1, int(np.bincount(label).max())):
        at = np.flatnonzero(label[:-step] == label[step:])
        a, b = order[at], order[at + step]
        alike = estimated_jaccard(made.minhash[a], made.minhash[b]) >= threshold
        parts.append((a[alike], b[alike]))
    left, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    return left, right


def memory(count: int = 200_000) -> dict[str, float]:
    """Measure the second phase on random signatures, a tenth of them near duplicates."""
    random = np.random.default_rng(0)
    table = random.integers(0, 1 << 16, (count, HASHES), np.uint16)
    tenth = count // 10
    same = random.random((tenth, HASHES)) < 0.8
    table[:tenth] = np.where(same, table[tenth : 2 * tenth], table[:tenth])
    made = Sketches(random.integers(0, 1 << 63, (count, 2), np.uint64), table)
    started = time.perf_counter()
    find_duplicates(made)
    seconds = time.perf_counter() - started
    peaks = []
    for size in (count // 2, count):  # what both hold does not grow
        tracemalloc.start()
        find_duplicates(Sketches(made.exact[:size], table[:size]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return {
        "dedup_memory_bytes_per_document": (peaks[1] - peaks[0]) / (count - count // 2),
        "dedup_signature_bytes_per_document": table.itemsize * HASHES + 16,
        "dedup_pairs_seconds_per_million": seconds * 1e6 / count,
    }


def against_rensa(turns: int, curve: Sequence[float] = CURVE) -> dict[str, Any]:
    """Measure ours and rensa in turns, and the curve over thresholds."""
    ids, texts = documents()
    wanted, truth, n = synthetic(ids), Truth(texts), len(texts)
    runs = (THRESHOLD, *(t for t in curve if t != THRESHOLD))
    us = [sys.executable, "-m", "benchmarks.corpus_duplicates", "--worker"]
    them = [str(python_of("rensa")), str(PEERS / "rensa_worker.py")]
    theirs = {"shingle": SHINGLE, "hashes": 128, "runs": [[t, rows_per_band(t, 128)] for t in runs]}
    turned = [
        (contest(us, texts, {"runs": runs}), contest(them, texts, theirs)) for _ in range(turns)
    ]
    out: dict[str, Any] = {"dedup_documents": n}
    for name, side in (("dedup", 0), ("rensa", 1)):
        last = turned[-1][side]
        rates = [n / float(t[side]["seconds_sketch"] + t[side]["seconds_0"]) for t in turned]
        out[f"{name}_docs_per_second"] = statistics.median(rates)
        spent = [n / float(t[side]["cpu_sketch"] + t[side]["cpu_0"]) for t in turned]
        out[f"{name}_docs_per_cpu_second"] = statistics.median(spent)
        out[f"{name}_peak_mb"] = float(last["peak_mb"])
        for i, threshold in enumerate(runs):
            pairs = last[f"left_{i}"], last[f"right_{i}"]
            out.setdefault("dedup_curve", {}).setdefault(f"{threshold:g}", {})[name] = {
                "recall": recall(pairs, n, wanted),
                "precision": truth.precision(pairs, threshold - SLACK),
                "pairs": len(pairs[0]),
            }
        out |= {f"{name}_{k}": v for k, v in out["dedup_curve"][f"{THRESHOLD:g}"][name].items()}
    out["dedup_docs_per_second_2"] = statistics.median(
        [n / float(a["seconds_two"]) for a, _ in turned]
    )
    out["rensa_flags_docs_per_second"] = statistics.median(
        [n / float(b["seconds_sketch"] + b["seconds_flags"]) for _, b in turned]
    )
    out["dedup_over_rensa"] = out["dedup_docs_per_second"] / out["rensa_docs_per_second"]
    return out


def against_datatrove() -> dict[str, Any]:
    """Measure ours and datatrove on the synthetic pairs alone."""
    ids, texts = documents()
    rows = np.unique(np.concatenate([np.concatenate(p) for p in synthetic(ids).values()]))
    some, wanted = [texts[i] for i in rows.tolist()], synthetic([ids[i] for i in rows.tolist()])
    us = [sys.executable, "-m", "benchmarks.corpus_duplicates", "--worker"]
    them = [str(python_of("datatrove")), str(PEERS / "datatrove_minhash_worker.py")]
    found = contest(them, some, {"shingle": SHINGLE, "buckets": 14, "rows": 8})
    mine = contest(us, some, {"runs": [THRESHOLD]})
    rate, own = (len(some) / float(r["seconds_sketch"] + r["seconds_0"]) for r in (found, mine))
    pairs = found["left_0"], found["right_0"]
    return {
        "datatrove_docs_per_second": rate,
        "datatrove_recall": recall(pairs, len(some), wanted),
        "datatrove_precision": Truth(some).precision(pairs, THRESHOLD - SLACK),
        "dedup_over_datatrove": own / rate,
    }


def duplicates(quick: bool = False) -> dict[str, Any]:
    """Measure everything; a peer that cannot be had is named with the reason."""
    out: dict[str, Any] = {**memory(50_000 if quick else 200_000)}
    try:
        out |= against_rensa(1, ()) if quick else against_rensa(3)
    except Unavailable as reason:
        out["rensa_unavailable"] = str(reason)
    try:
        out |= against_datatrove()
    except Unavailable as reason:
        out["datatrove_unavailable"] = str(reason)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or our own worker of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="one turn of three, no curve")
    parser.add_argument("--worker", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        ours(*options.worker)
        return
    require_shared()
    print(json.dumps(duplicates(options.quick), indent=2))


if __name__ == "__main__":
    main()
