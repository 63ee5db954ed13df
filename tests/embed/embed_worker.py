"""Embeds texts into a cache, slowly and in a process of its own, so that a test can kill it.

Usage: embed_worker.py CACHE LOG FIRST LAST SECONDS_A_CHUNK
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

DIMS = 4_000  # some hundred kB an append: a kill may well fall into one


def text(number: int) -> str:
    """A text long enough that a chunk holds about ten of them."""
    return f"text {number} " * 1_500


class HashEncoder:
    """Vectors that are known without a model."""

    name = "hash"
    fingerprint = "hash-1"

    def __init__(self, log: Path | None = None, pause: float = 0.0) -> None:
        self.log, self.pause = log, pause

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        time.sleep(self.pause)
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as handle:
                handle.writelines(f"{hashlib.sha256(s.encode()).hexdigest()}\n" for s in sentences)
        seeds = [int(hashlib.sha256(s.encode()).hexdigest()[:8], 16) for s in sentences]
        return np.stack([np.random.default_rng(s).standard_normal(DIMS) for s in seeds])


def main() -> None:
    from llmlabel.embed import embed

    cache, log, first, last, pause = sys.argv[1:]
    texts = [text(i) for i in range(int(first), int(last))]
    print("started", flush=True)
    embed(texts, HashEncoder(Path(log), float(pause)), cache)
    print("done", flush=True)


if __name__ == "__main__":
    main()
