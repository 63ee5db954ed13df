"""Hard negatives: passages that look like the answer and are none, to train an embedder on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.rag.questions import Search

__all__ = ["hard_negatives", "triplets"]


def hard_negatives(
    questions: Sequence[str],
    relevant: Sequence[Sequence[str]],
    search: Search,
    *,
    similarity: Search | None = None,
    per_question: int = 4,
    k: int = 50,
    margin: float = 0.05,
    same: Mapping[str, str] | None = None,
) -> pa.Table:
    """Mine the best-ranked passages that are not relevant.

    A passage that scores as high as a relevant one is likely an answer that nobody has marked.
    So, with a dense `similarity`, those at less than `margin` below the best relevant passage
    are passed over (a relative margin: positive-aware mining), as are copies of relevant ones.

    Parameters
    ----------
    questions
        q questions.
    relevant
        The ids of the passages that answer each; questions without any give nothing.
    search
        Whose first passages are looked at.
    similarity
        Whose scores the margin is of; by default those of `search`.
    per_question
        How many negatives at most.
    k
        How many passages are looked at.
    margin
        A share of the best relevant passage's score.
    same
        For passages that are copies: the id of their cluster.

    Returns
    -------
    Columns ``row`` (of the question), ``positive``, ``negative``, ``score`` and ``positive_score``
    (null where the positive is not among the k).

    Notes
    -----
    G. de Souza P. Moreira, R. Osmulski, M. Xu, R. Ak, B. Schifferer and E. Oldridge (2024),
    NV-Retriever: improving text embedding models with effective hard-negative mining.
    """
    found, scores = search(questions, k)
    judged, judged_scores = (found, scores) if similarity is None else similarity(questions, k)
    same = same or {}
    out: list[dict[str, Any]] = []
    for row, (ids, answers) in enumerate(zip(np.asarray(found), relevant, strict=True)):
        if not answers:
            continue
        score = dict(
            zip(np.asarray(judged)[row].tolist(), judged_scores[row].tolist(), strict=True)
        )
        best = max((score[a] for a in answers if a in score), default=None)
        known = {same.get(a, a) for a in answers}
        taken = 0
        for passage in ids.tolist():
            if not passage or same.get(passage, passage) in known:
                continue
            own = score.get(passage)
            if best is not None and own is not None and own > best - margin * abs(best):
                continue
            out.append(
                {
                    "row": row,
                    "positive": answers[0],
                    "negative": passage,
                    "score": own,
                    "positive_score": best,
                }
            )
            taken += 1
            if taken == per_question:
                break
    schema = pa.schema(
        [
            ("row", pa.int64()),
            ("positive", pa.string()),
            ("negative", pa.string()),
            ("score", pa.float64()),
            ("positive_score", pa.float64()),
        ]
    )
    return pa.Table.from_pylist(out, schema=schema)


def triplets(mined: pa.Table, questions: Sequence[str], passages: Mapping[str, str]) -> pa.Table:
    """Return the columns that sentence-transformers' losses read: anchor, positive, negative.

    Examples
    --------
    >>> mined = pa.table({"row": [0], "positive": ["a"], "negative": ["b"]})
    >>> triplets(mined, ["how long?"], {"a": "14 days", "b": "in a box"}).to_pylist()
    [{'anchor': 'how long?', 'positive': '14 days', 'negative': 'in a box'}]
    """
    rows: npt.NDArray[Any] = mined["row"].to_numpy()
    return pa.table(
        {
            "anchor": pa.array([questions[i] for i in rows], pa.string()),
            "positive": pa.array([passages[i] for i in mined["positive"].to_pylist()], pa.string()),
            "negative": pa.array([passages[i] for i in mined["negative"].to_pylist()], pa.string()),
        }
    )
