"""Questions that passages answer: which are asked for, and which of them are good."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.corpus.clusters import find_duplicates
from llmlabel.corpus.sketches import sketch
from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import DataError
from llmlabel.rag.overlap import repeats_run

__all__ = [
    "PERSONAS",
    "TYPES",
    "Search",
    "answered_questions",
    "filter_questions",
    "heading_questions",
    "question_rows",
]

Search = Callable[[Sequence[str], int], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""From queries and k to the ids of the k best passages and their scores, each (q, k)."""

TYPES: Final = ("fact", "how to", "comparison", "reason", "condition or exception")
PERSONAS: Final = ("a beginner", "an expert in a hurry", "someone for whom something went wrong")
_COPIED: Final = 8  # words in a row that a question may not share with its passage
_ALIKE: Final = 0.7  # Jaccard similarity of word pairs from which two questions are one
_SPACE: Final = re.compile(r"\s+")


def question_rows(
    chunks: pa.Table,
    *,
    per_passage: int = 2,
    types: Sequence[str] = TYPES,
    personas: Sequence[str] = PERSONAS,
    seed: int = 0,
) -> pa.Table:
    """Return the rows that are asked of an LLM: a passage, a type, a persona.

    Each passage gets different pairs of type and persona, drawn with the seed, so that the
    number of calls, and with ``max_tokens`` their cost, is known before any is sent.

    Parameters
    ----------
    chunks
        Columns ``id`` and ``text``, and ``headings`` where there are some.
    per_passage
        How many questions.

    Returns
    -------
    Columns ``id`` (``CHUNK?n``), ``passage`` (the chunk's id), ``text``, ``headings``,
    ``type`` and ``persona``.

    Examples
    --------
    >>> chunks = pa.table({"id": ["a#0"], "text": ["Returns take 14 days."]})
    >>> rows = question_rows(chunks, per_passage=2)
    >>> rows["id"].to_pylist(), len(set(rows["type"].to_pylist()))
    (['a#0?0', 'a#0?1'], 2)
    """
    most = len(types) * len(personas)
    if not 0 < per_passage <= most:
        raise DataError(
            f"per_passage: expected 1 to {most} (types times personas), got {per_passage}"
        )
    rng = np.random.default_rng(seed)
    n, T = chunks.num_rows, len(types)
    # A permutation of types and one of personas per passage: the pairs along both differ.
    first = rng.permuted(np.tile(np.arange(T), (n, 1)), axis=1)
    start = rng.integers(len(personas), size=n)
    turn = np.arange(per_passage)
    which = first[:, turn % T]
    # One step further in each round of the types, so that no pair comes twice.
    step = (1 - T) % len(personas)
    who = (start[:, None] + turn + step * (turn // T)) % len(personas)
    rows = np.repeat(np.arange(n), per_passage)
    taken = chunks.take(pa.array(rows))
    ids = [f"{i}?{k}" for i, k in zip(taken["id"].to_pylist(), np.tile(turn, n), strict=True)]
    headings = (
        taken["headings"].to_pylist() if "headings" in taken.column_names else [None] * len(ids)
    )
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "passage": taken["id"],
            "text": taken["text"],
            "headings": pa.array([_path(h) for h in headings], pa.string()),
            "type": pa.array([types[i] for i in which.ravel()], pa.string()),
            "persona": pa.array([personas[i] for i in who.ravel()], pa.string()),
        }
    )


def answered_questions(rows: pa.Table, answers: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Join the rows with what the LLM said (the fields of ``prompts/passage-question.md``).

    Parameters
    ----------
    rows
        From `question_rows`.
    answers
        By row id; a row without one is left out.

    Returns
    -------
    Columns ``id``, ``passage``, ``question``, ``answer``, ``quote``, ``start``, ``end`` (of the
    quote in the passage, -1 where it is not in it), ``type``, ``persona``, ``difficulty``,
    ``answerable`` and ``by``.
    """
    out = []
    for row in rows.to_pylist():
        said = answers.get(row["id"])
        if said is None:
            continue
        start, end = _find(row["text"], str(said.get("quote") or ""))
        out.append(
            {
                "id": row["id"],
                "passage": row["passage"],
                "question": str(said.get("question") or "").strip(),
                "answer": str(said.get("answer") or "").strip(),
                "quote": str(said.get("quote") or ""),
                "start": start,
                "end": end,
                "type": row["type"],
                "persona": row["persona"],
                "difficulty": said.get("difficulty"),
                "answerable": said.get("answerable") == "yes",
                "by": "llm",
            }
        )
    return pa.Table.from_pylist(out, schema=_SCHEMA)


_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("passage", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("quote", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("type", pa.string()),
        ("persona", pa.string()),
        ("difficulty", pa.string()),
        ("answerable", pa.bool_()),
        ("by", pa.string()),
    ]
)


def heading_questions(chunks: pa.Table) -> pa.Table:
    """Return questions made of headings, for those who have no LLM.

    A heading that is a question is taken as it is; of others, "What about HEADING?" with the
    headings above it. They measure whether passages are found by what they are called, and
    favour keyword search; the column ``by`` says ``heading``, and reports repeat it.

    Parameters
    ----------
    chunks
        Columns ``id``, ``text`` and ``headings`` (lists, outermost first).

    Examples
    --------
    >>> chunks = pa.table({"id": ["a#0"], "text": ["14 days."], "headings": [["Returns", "How long?"]]})
    >>> heading_questions(chunks)["question"].to_pylist()
    ['Returns: How long?']
    """
    out, seen = [], set()
    for row in chunks.select(["id", "text", "headings"]).to_pylist():
        path = [h.strip() for h in row["headings"] or () if h and h.strip()]
        if not path:
            continue
        last = path[-1]
        asked = last if last.endswith("?") else f"What about {last}?"
        question = ": ".join([*path[:-1], asked])
        if question in seen:  # a long section in several passages: the first has its beginning
            continue
        seen.add(question)
        found = {"id": f"{row['id']}?h", "passage": row["id"], "question": question}
        out.append({**found, "answerable": True, "start": -1, "end": -1, "by": "heading"})
    return pa.Table.from_pylist(out, schema=_SCHEMA)


def filter_questions(
    questions: pa.Table,
    passages: Mapping[str, str],
    search: Search | None = None,
    *,
    k: int = 10,
) -> Verdict:
    """Drop questions that would measure nothing.

    In this order: the LLM found no question (``no question``); the quote is not in the passage
    (``no quote``); the question repeats eight words of its passage in a row (``copied``); it is
    nearly another one (``duplicate: of ID``); the passage is not among the k first for it
    (``not found``: too vague, or about something else).

    Parameters
    ----------
    questions
        From `answered_questions` or `heading_questions`; of the latter no quote is asked.
    passages
        Texts by id.
    search
        None leaves the last test out.
    k
        See above.

    Returns
    -------
    Reasons, and the value ``rank`` of the passage (from 0; -1 where it was not found).
    """
    n = questions.num_rows
    reasons = np.full(n, "", object)
    asked = questions["question"].to_pylist()
    of = questions["passage"].to_pylist()

    def mark(rows: npt.NDArray[np.bool_], said: Sequence[str] | str) -> None:
        new = rows & (reasons == "")
        reasons[new] = np.array(said, object)[new] if not isinstance(said, str) else said

    empty = np.array([not q for q in asked], np.bool_)
    mark(empty | ~np.array(questions["answerable"].to_pylist(), np.bool_), "no question")
    by_llm = np.array(questions["by"].to_pylist(), object) == "llm"
    mark(by_llm & (questions["start"].to_numpy() < 0), "no quote")
    mark(by_llm & repeats_run(asked, [passages[p] for p in of], _COPIED), "copied")
    same = _duplicates(asked, questions["id"].to_pylist(), reasons == "")
    mark(np.array([s != "" for s in same], np.bool_), same)
    rank = np.full(n, -1)
    left = np.flatnonzero(reasons == "")
    if search is not None and left.size:
        found, _ = search([asked[i] for i in left], k)
        hits = np.asarray(found) == np.array([of[i] for i in left], object)[:, None]
        rank[left] = np.where(hits.any(axis=1), hits.argmax(axis=1), -1)
        lost = np.zeros(n, np.bool_)
        lost[left] = rank[left] < 0
        mark(lost, "not found")
    return Verdict(reasons, {"rank": rank})


def _duplicates(
    questions: Sequence[str], ids: Sequence[str], live: npt.NDArray[np.bool_]
) -> list[str]:
    rows = np.flatnonzero(live)
    out = [""] * len(questions)
    if rows.size < 2:
        return out
    sketches = sketch([questions[i] for i in rows.tolist()], shingle=2)
    found = find_duplicates(sketches, threshold=_ALIKE, keep="first")
    for at, row in enumerate(rows):
        if not found.keep[at]:
            out[int(row)] = f"duplicate: of {ids[int(rows[found.keeper[at]])]}"
    return out


def _find(text: str, quote: str) -> tuple[int, int]:
    """Return where a quote stands in a text, white space aside; (-1, -1) where it does not."""
    words = _SPACE.split(quote.strip())
    if not words or not words[0]:
        return -1, -1
    found = re.search(r"\s+".join(map(re.escape, words)), text)
    return found.span() if found else (-1, -1)


def _path(headings: Any) -> str:
    if headings is None:
        return ""
    if isinstance(headings, str):
        try:
            headings = json.loads(headings)
        except ValueError:
            return str(headings)
    return " > ".join(str(h) for h in headings)
