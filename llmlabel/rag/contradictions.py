"""Pairs of documents that may contradict each other, and a language model's verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from llmlabel.errors import DataError
from llmlabel.lf import answers_feature, prompt
from llmlabel.lf.core import LF, Batch
from llmlabel.llm import Cache, Client, Prompt, load_prompt
from llmlabel.rag.facts import said_changes
from llmlabel.rag.flaw_words import NEGATION
from llmlabel.rag.related import Related
from llmlabel.schema import ABSTAIN, Task

__all__ = [
    "VERDICTS",
    "answerability_lfs",
    "contradiction_candidates",
    "judge_contradictions",
    "verdict_lf",
]

VERDICTS: Final = ("contradict", "agree", "different")
_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("left", pa.string()),
        ("right", pa.string()),
        ("left_text", pa.string()),
        ("right_text", pa.string()),
        ("likeness", pa.float32()),
        ("reason", pa.string()),
    ]
)


def contradiction_candidates(
    texts: Sequence[str],
    ids: Sequence[str],
    pairs: Related,
    *,
    among: npt.NDArray[np.bool_] | None = None,
    topic: float = 0.47,
    negation_cosine: float = 0.8,
    most: int | None = None,
) -> pa.Table:
    """Return pairs that are on one topic and differ in numbers or in a negation.

    Most are none: they are for a language model or a person to judge.

    Parameters
    ----------
    texts, ids
        Of n documents or passages; passages make sharper pairs.
    pairs
        Of them (`related`).
    among : bool array, shape (n,), optional
        Documents that count; by default all.
    topic
        The least likeness of two with different numbers.
    negation_cosine
        The least cosine of embeddings of two of which only one has a negation.
    most
        At most so many, the most alike first.

    Returns
    -------
    Columns id, left, right, left_text, right_text, likeness and reason, the most alike first.

    Examples
    --------
    >>> from llmlabel.rag.related import related
    >>> texts = ["Returns are free for 30 days.", "Returns are free for 45 days."]
    >>> pairs = related(texts, np.array([[1.0, 0.0], [0.8, 0.6]]))
    >>> found = contradiction_candidates(texts, ["a", "b"], pairs)
    >>> found["reason"].to_pylist()
    ['other numbers: "Returns are free for 30 days." -> "Returns are free for 45 days."']
    """
    free = np.ones(len(texts), np.bool_) if among is None else among
    likeness = pairs.topic
    numbers = (likeness >= topic) & (pairs.denied > 0)
    denied = pl.Series(list(texts), dtype=pl.String).str.contains(NEGATION).to_numpy()
    only_one = (pairs.cosine >= negation_cosine) & (denied[pairs.left] != denied[pairs.right])
    at = np.flatnonzero((numbers | only_one) & free[pairs.left] & free[pairs.right])
    at = at[np.argsort(-likeness[at], kind="stable")][:most]
    rows: list[dict[str, Any]] = []
    for i in at.tolist():
        left, right = int(pairs.left[i]), int(pairs.right[i])
        changes = said_changes(texts[left], texts[right])
        said = f"other numbers: {changes}" if numbers[i] else "only one of them negates"
        rows.append(
            {
                "id": f"{ids[left]}|{ids[right]}",
                "left": ids[left],
                "right": ids[right],
                "left_text": texts[left],
                "right_text": texts[right],
                "likeness": float(likeness[i]),
                "reason": said,
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def judge_contradictions(
    candidates: pa.Table,
    client: Client,
    *,
    template: Prompt | None = None,
    cache: Cache | None = None,
    model: str | None = None,
) -> pa.Table:
    """Ask a language model whether the two of each pair contradict each other.

    Parameters
    ----------
    candidates
        From `contradiction_candidates`; one call for each.
    client, cache, model
        See `llmlabel.lf.prompt`.
    template
        By default the shipped prompt ``contradiction``.

    Returns
    -------
    The table with columns ``verdict`` (one of `VERDICTS`, null where the answer was none),
    ``current`` (``left``, ``right`` or ``unclear``), ``question`` and ``difference``.
    """
    asked = template or load_prompt("contradiction")
    task = Task("contradiction", VERDICTS, text=("left_text", "right_text"))
    feature = answers_feature(asked, task, client, cache=cache, model=model)
    batch = {name: candidates[name].to_pylist() for name in candidates.column_names}
    answers = list(feature.compute(batch)) if len(candidates) else []
    for name in ("verdict", "current", "question", "difference"):
        values = [None if answer is None else answer.get(name) for answer in answers]
        candidates = candidates.append_column(name, pa.array(values, pa.string()))
    return candidates


def verdict_lf(verdicts: pa.Table, *, id_column: str = "id") -> LF:
    """Return the LF that votes CONTRADICTION for documents that were judged to contradict.

    The one of a pair that was judged to be current gets no vote.

    Raises
    ------
    DataError
        The table lacks a column of `judge_contradictions`.
    """
    for name in ("left", "right", "verdict", "current", "difference"):
        if name not in verdicts.column_names:
            raise DataError(f"verdicts: no column {name!r}", field=name)
    said: dict[str, str] = {}
    for row in verdicts.to_pylist():
        if row["verdict"] != "contradict":
            continue
        for side, other in (("left", "right"), ("right", "left")):
            if row["current"] != side:
                said.setdefault(row[side], f"against {row[other]}: {row['difference']}")

    def vote(batch: Batch) -> npt.NDArray[np.int16]:
        found = np.array([str(name) in said for name in batch[id_column]], np.bool_)
        return np.where(found, 0, ABSTAIN).astype(np.int16)

    return LF(
        "contradiction.judged",
        vote,
        labels=("CONTRADICTION",),
        kind="prompt",
        columns=(id_column,),
        why=lambda row: said[str(row[id_column])],
    )


def answerability_lfs(
    client: Client,
    task: Task,
    *,
    template: Prompt | None = None,
    cache: Cache | None = None,
    model: str | None = None,
) -> tuple[LF, ...]:
    """Return the LFs that ask a language model whether a passage answers any question.

    Parameters
    ----------
    client, cache, model
        See `llmlabel.lf.prompt`; one call per document.
    task
        From `flaws.flaw_task`.
    template
        By default the shipped prompt ``answerability``.
    """
    votes = {
        "answers": {"no": "UNANSWERABLE", "yes": "GOOD"},
        "stands_alone": {"no": "UNANSWERABLE", "yes": "GOOD"},
    }
    asked = template or load_prompt("answerability")
    return prompt(asked, task, client, votes, cache=cache, model=model)
