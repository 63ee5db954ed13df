"""How honest a stated confidence is before and after calibration, on youtube's recorded answers.

The calibration is fitted on the gold labels of the validation split and measured
on the test split's. ``--json`` prints one object.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.shared import SHARED, read_jsonl, require_shared, split_rows
from llmlabel.evaluate.metrics import ece, nll
from llmlabel.llm.calibration import fit_calibration, fit_platt, fit_temperature
from llmlabel.llm.confidence import verbalized_probabilities

CLASSES = ("HAM", "SPAM")
FITS = {"chosen": fit_calibration, "temperature": fit_temperature, "platt": fit_platt}


def measure() -> dict[str, Any]:
    """Return the figures."""
    P_valid, y_valid, _ = distributions("valid")
    P, y, abstained = distributions("test")
    out: dict[str, Any] = {
        "n_fit": len(y_valid),
        "n_test": len(y),
        "abstained_test": abstained,
        "accuracy": round(float((P.argmax(axis=1) == y).mean()), 4),
        "mean_stated": round(float(P.max(axis=1).mean()), 4),
        "ece_before": round(ece(y, P), 4),
        "nll_before": round(nll(y, P), 4),
    }
    for name, fit in FITS.items():
        made = fit(P_valid, y_valid)
        Q = made.apply(P)
        found: dict[str, Any] = {
            "ece_after": round(ece(y, Q), 4),
            "nll_after": round(nll(y, Q), 4),
            "temperature": round(made.temperature, 4),
        }
        if name == "chosen":
            out |= {**found, "method": made.method, "by_method": {}}
        else:
            out["by_method"][name] = found
    return out


def distributions(split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """Return the answers' distributions and gold of a split, and how many abstained."""
    said = {a["id"]: a for a in read_jsonl(SHARED / "youtube" / "llm_answers.jsonl")}
    rows = [r for r in split_rows("youtube")[split] if r["id"] in said]
    voted = [r for r in rows if said[r["id"]]["label"] in CLASSES]
    votes = np.array([CLASSES.index(said[r["id"]]["label"]) for r in voted])
    stated = np.array([said[r["id"]]["confidence"] for r in voted], dtype=float)
    gold = np.array([CLASSES.index(r["label"]) for r in voted])
    return verbalized_probabilities(votes, stated, len(CLASSES)), gold, len(rows) - len(voted)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    as_json = parser.parse_args().json
    require_shared()
    found = measure()
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
