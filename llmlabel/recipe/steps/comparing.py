"""Teacher and student side by side: how right, how sure, how alike, how fast, how large, how dear."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from llmlabel.distill import EncoderStudent, Student, fit_temperature, load_student
from llmlabel.embed.model_folder import model_folder
from llmlabel.evaluate import ece, mcnemar
from llmlabel.llm import table_texts
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN, Task

__all__ = ["compare", "speed_of"]

_SHOWN: Final = ("llm_alone", "label_model", "student", "student_known", "student_gold")
_SINGLES: Final = 20
_BATCH: Final = 32
_TIMED: Final = 512
_LEAST: Final = 30

Golds = Mapping[str, npt.NDArray[np.int64]]
Probabilities = npt.NDArray[np.float64]


def compare(
    results: Results,
    gold: Golds,
    measured: Sequence[Mapping[str, Any]],
    *,
    llm: str | None,
    speed: bool,
) -> dict[str, Any]:
    """Return a table of those who label the test rows, the student measured in every respect.

    Parameters
    ----------
    results
        Of the run so far.
    gold
        Classes by split, -1 where unknown.
    measured
        Rows of the evaluation of the test split.
    llm
        The LF that is the LLM alone.
    speed
        Whether to load the student anew and time it.
    """
    rows = [_quality(r) for r in measured if r["key"] in _SHOWN]
    by_key = {r["key"]: r for r in rows}
    if "student" not in by_key:
        return {"split": "test", "rows": rows}
    student = by_key["student"]
    said = results.labels("test", of="predictions").probabilities
    student |= _calibration(results, gold, said)
    student |= _agreement(results, said)
    for key, other in (("label_model", _classes(results)), ("llm_alone", _llm(results, llm))):
        if other is not None and key in by_key:
            by_key[key]["p_against_student"] = _difference(gold["test"], said, other)
    if "llm_alone" in by_key:
        by_key["llm_alone"]["usd_per_million"] = _price(results)
    if speed and results.student is not None:
        student |= speed_of(results.student, _texts(results))
    return {"split": "test", "rows": rows}


def speed_of(folder: Path, texts: Sequence[str]) -> dict[str, float]:
    """Load a student and time it on texts that it has no vectors of.

    Returns
    -------
    ms_1, ms_32
        Median milliseconds of a call with one text, and with 32.
    texts_per_s
        Over up to 512 texts in one call.
    megabytes
        Of its folder and of the encoder's that it names.
    """
    student = load_student(folder)
    texts = [texts[i % len(texts)] for i in range(max(_BATCH, min(_TIMED, len(texts))))]
    student.predict_proba(texts[:_BATCH])  # the first call loads the encoder
    one = [_seconds(student, [text]) for text in texts[:_SINGLES]]
    some = [_seconds(student, texts[:_BATCH]) for _ in range(3)]
    return {
        "ms_1": round(1000 * float(np.median(one)), 2),
        "ms_32": round(1000 * float(np.median(some)), 2),
        "texts_per_s": round(len(texts) / _seconds(student, texts), 1),
        "megabytes": round(_size(folder, student) / 1e6, 3),
    }


def _seconds(student: Student, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    student.predict_proba(texts)
    return time.perf_counter() - started


def _size(folder: Path, student: Student) -> int:
    files = [p for p in folder.rglob("*") if p.is_file()]
    outside = getattr(getattr(student, "encoder", None), "folder", None)
    if isinstance(student, EncoderStudent) and student.options.lora is not None:
        outside = model_folder(student.options.model)
    if outside is not None:
        files += [
            p for p in Path(outside).rglob("*") if p.suffix in (".safetensors", ".bin", ".json")
        ]
    return sum(p.stat().st_size for p in files)


def _quality(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("key", "name", "n", "accuracy", "macro_f1", "ece")
    return {name: row[name] for name in kept}


def _calibration(results: Results, gold: Golds, said: Probabilities) -> dict[str, Any]:
    """Fit a temperature on the valid rows with gold, and see what it does on the test rows."""
    known = gold.get("valid")
    if known is None or (known != ABSTAIN).sum() < _LEAST:
        return {"temperature": None, "ece_after": None}
    rows = known != ABSTAIN
    valid = results.labels("valid", of="predictions").probabilities[rows]
    T = fit_temperature(_logits(valid), np.eye(said.shape[1])[known[rows]])
    seen = gold["test"] != ABSTAIN
    after = softmax(_logits(said[seen]) / T, axis=1)
    return {"temperature": round(T, 4), "ece_after": ece(gold["test"][seen], after)}


def _logits(probabilities: Probabilities) -> Probabilities:
    logits: Probabilities = np.log(np.maximum(probabilities, 1e-12))
    return logits


def _agreement(results: Results, said: Probabilities) -> dict[str, Any]:
    labels = results.labels("test")
    same = said.argmax(axis=1) == labels.probabilities.argmax(axis=1)
    return {"agrees": float(same[labels.covered].mean()) if labels.covered.any() else None}


def _classes(results: Results) -> npt.NDArray[np.intp]:
    labels = results.labels("test")
    return np.where(labels.covered, labels.probabilities.argmax(axis=1), ABSTAIN)


def _llm(results: Results, name: str | None) -> npt.NDArray[np.intp] | None:
    """The LLM's classes, where it was asked about all test rows."""
    prompt = next((lf.get("prompt") for lf in results.lf_kinds() if lf["name"] == name), None)
    if name is None or prompt is None or not results.asked("test", prompt).all():
        return None
    return np.asarray(results.votes("test")[name], np.intp)


def _difference(
    gold: npt.NDArray[np.int64], said: Probabilities, other: npt.NDArray[np.intp]
) -> float:
    """McNemar's p: how likely so lopsided a disagreement is, were both equally right."""
    rows = gold != ABSTAIN
    found = mcnemar(gold[rows], said.argmax(axis=1)[rows], other[rows], said.shape[1])
    return float(found.p_value)


def _price(results: Results) -> float | None:
    """Dollars for a million rows at what this run paid; None for recorded or own models."""
    facts = [results.facts(name) for name in results.steps if name.startswith("ask-")]
    paid = [(f["usd"], sum(f["asked"].values())) for f in facts if f.get("usd") is not None]
    if not paid or len(paid) < len(facts):
        return None
    return round(float(sum(1e6 * usd / asked for usd, asked in paid if asked)), 2)


def _texts(results: Results) -> list[str]:
    task = Task(**results.recipe["task"])
    return table_texts(results.rows("test"), task.text)
