"""Near duplicates with rensa: run by path, in the environment of its project.

    python rensa_worker.py TEXTS.jsonl SETTINGS.json OUT.npz

TEXTS holds one JSON string per line; SETTINGS ``shingle``, ``hashes``, ``runs``: a list of
[threshold, rows per band]. OUT gets ``seconds_sketch`` (words, shingles, signatures), and for
run i ``left_i``, ``right_i`` and ``seconds_i``: the pairs that share a band and whose
signatures agree in at least the threshold, found by a dict per band, since rensa's own LSH
gives candidates only; ``cpu_...`` are CPU seconds of the same. ``seconds_flags`` is its fastest way, which says of each document only
whether it has a duplicate, at the first of the runs.
"""

from __future__ import annotations

import itertools
import json
import re
import resource
import sys
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def main(source: Path, settings: Path, target: Path) -> None:
    """Sketch once, then look for pairs at each threshold."""
    with source.open() as lines:
        texts = [json.loads(line) for line in lines]
    given = json.loads(settings.read_text())
    rensa: Any = import_module("rensa")
    started, cpu = time.perf_counter(), time.process_time()
    shingles = [_shingles(text, given["shingle"]) for text in texts]
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(shingles, given["hashes"], 42)
    out: dict[str, Any] = {"seconds_sketch": time.perf_counter() - started}
    out["cpu_sketch"] = time.process_time() - cpu
    del shingles
    for i, (threshold, rows) in enumerate(given["runs"]):
        started, cpu = time.perf_counter(), time.process_time()
        out[f"left_{i}"], out[f"right_{i}"] = _pairs(matrix, threshold, rows)
        out[f"seconds_{i}"] = time.perf_counter() - started
        out[f"cpu_{i}"] = time.process_time() - cpu
    threshold, rows = given["runs"][0]
    bands = max(b for b in range(1, given["hashes"] // rows + 1) if given["hashes"] % b == 0)
    started = time.perf_counter()
    lsh = rensa.RMinHashLSH(threshold, given["hashes"], bands)
    lsh.insert_matrix_and_query_duplicate_flags(matrix)
    out["seconds_flags"] = time.perf_counter() - started
    out["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(target, **out)


def _shingles(text: str, n: int) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))]


def _pairs(matrix: Any, threshold: float, rows: int) -> tuple[Any, Any]:
    table = np.array(matrix.to_rows(), np.uint32)
    candidates: set[tuple[int, int]] = set()
    for first in range(0, table.shape[1] - rows + 1, rows):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for i, key in enumerate(np.ascontiguousarray(table[:, first : first + rows])):
            buckets[key.tobytes()].append(i)
        for bucket in buckets.values():
            candidates.update(itertools.combinations(bucket, 2))
    pairs = np.array(sorted(candidates), np.int64).reshape(-1, 2)
    alike = np.concatenate(
        [
            np.zeros(0),
            *(
                (table[part[:, 0]] == table[part[:, 1]]).mean(axis=1)
                for part in np.array_split(pairs, len(pairs) // 8192 + 1)
            ),
        ]
    )
    found = pairs[alike >= threshold]
    return found[:, 0], found[:, 1]


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
