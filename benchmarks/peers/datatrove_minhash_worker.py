"""Near duplicates with datatrove: run by path, in the environment of its project.

    python datatrove_minhash_worker.py TEXTS.jsonl SETTINGS.json OUT.npz

TEXTS holds one JSON string per line; SETTINGS ``shingle``, ``buckets`` and ``rows`` (of a
bucket). OUT gets ``left_0``, ``right_0`` (its pairs; it verifies none) and the ``seconds_sketch``
and ``seconds_0`` of its signatures and of its buckets and clusters.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def main(source: Path, settings: Path, target: Path) -> None:
    """Run the three steps one after the other, in this process."""
    with source.open() as lines:
        texts = [json.loads(line) for line in lines]
    given = json.loads(settings.read_text())
    minhash: Any = import_module("datatrove.pipeline.dedup.minhash")
    document: Any = import_module("datatrove.data").Document
    config = minhash.MinhashConfig(
        n_grams=given["shingle"],
        num_buckets=given["buckets"],
        hashes_per_bucket=given["rows"],
    )
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        signatures, pairs, clusters = (f"{name}/{step}" for step in ("sig", "dups", "remove"))
        sketch = minhash.MinhashDedupSignature(signatures, config=config)
        started = time.perf_counter()
        sketch.run((document(text=text, id=str(i)) for i, text in enumerate(texts)), 0, 1)
        out["seconds_sketch"] = time.perf_counter() - started
        started = time.perf_counter()
        for bucket in range(config.num_buckets):
            minhash.MinhashDedupBuckets(signatures, pairs, config=config).run(
                None, bucket, config.num_buckets
            )
        minhash.MinhashDedupCluster(pairs, clusters, config=config).run(None, 0, 1)
        out["seconds_0"] = time.perf_counter() - started
        files = sorted(Path(pairs).glob("**/*.dups"))
        found = np.concatenate([np.fromfile(file, "<u4").reshape(-1, 4) for file in files])
    out["left_0"], out["right_0"] = found[:, 1].astype(np.int64), found[:, 3].astype(np.int64)
    out["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(target, **out)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
