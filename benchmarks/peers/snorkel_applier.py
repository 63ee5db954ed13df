"""Vote with Snorkel's PandasLFApplier: run by path, in the environment of its project.

python snorkel_applier.py < {"lfs": [[name, class, expression], ...], "texts": [...]}
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np


def main() -> None:
    """Vote once, and print the seconds and what tells the votes apart."""
    given = json.load(sys.stdin)
    labeling: Any = import_module("snorkel.labeling")
    frame = import_module("pandas").DataFrame({"text": given["texts"]})
    lfs = [make(labeling, *each) for each in given["lfs"]]
    applier = labeling.PandasLFApplier(lfs)
    applier.apply(frame[:100], progress_bar=False)
    started = time.perf_counter()
    votes = applier.apply(frame, progress_bar=False)
    seconds = time.perf_counter() - started
    found = hashlib.sha256(np.ascontiguousarray(votes, np.int8).tobytes()).hexdigest()
    print(json.dumps({"seconds": seconds, "votes": found}))


def make(labeling: Any, name: str, label: int, expression: str) -> Any:
    """Return an LF as Snorkel's users write them."""
    find = re.compile(expression, re.IGNORECASE).search

    def vote(row: Any) -> int:
        return label if find(row.text) is not None else -1

    return labeling.LabelingFunction(name, vote)


if __name__ == "__main__":
    main()
