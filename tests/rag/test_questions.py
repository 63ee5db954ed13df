"""Questions: which are asked for, which are good, what is hard to tell from an answer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from llmlabel.errors import DataError
from llmlabel.llm import load_prompt
from llmlabel.rag.negatives import hard_negatives, triplets
from llmlabel.rag.questions import (
    PERSONAS,
    TYPES,
    answered_questions,
    filter_questions,
    heading_questions,
    question_rows,
)
from llmlabel.rag.relevance import pool_pairs, relevance
from llmlabel.schema import Task

PASSAGES = {
    "a#0": "You can send a tent back within 30 days of its arrival, if it is dry and clean.",
    "b#0": "Gas canisters are not accepted by air mail; they travel by road and take five days.",
    "c#0": "Our shop in Leeds opens at nine on weekdays and at ten on Saturdays.",
    "d#0": "Home | Contact | Imprint",
}
CHUNKS = pa.table(
    {
        "id": list(PASSAGES),
        "text": list(PASSAGES.values()),
        "headings": [["Returns", "How long do I have?"], ["Delivery", "Gas"], ["Shop"], []],
    }
)


def search(questions, k):
    """Rank passages by the words they share with a question."""
    ids = np.array(list(PASSAGES), object)
    words = [set(t.lower().split()) for t in PASSAGES.values()]
    scores = np.array(
        [[len(set(q.lower().split()) & w) / len(w) for w in words] for q in questions]
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids[order], np.take_along_axis(scores, order, axis=1)


def said(question, quote, **more):
    fields = {"answerable": "yes", "question": question, "answer": "x", "quote": quote}
    return {**fields, "difficulty": "easy", **more}


def test_rows_to_ask_are_bounded_different_and_seeded():
    rows = question_rows(CHUNKS, per_passage=4, seed=1)
    assert rows.num_rows == 16
    assert len(set(rows["id"].to_pylist())) == 16
    for chunk in PASSAGES:
        own = [r for r in rows.to_pylist() if r["passage"] == chunk]
        assert len({(r["type"], r["persona"]) for r in own}) == 4
    assert rows.equals(question_rows(CHUNKS, per_passage=4, seed=1))
    assert not rows.equals(question_rows(CHUNKS, per_passage=4, seed=2))
    every = question_rows(CHUNKS, per_passage=len(TYPES) * len(PERSONAS))
    own = [r for r in every.to_pylist() if r["passage"] == "a#0"]
    assert len({(r["type"], r["persona"]) for r in own}) == len(TYPES) * len(PERSONAS)
    with pytest.raises(DataError, match="per_passage: expected 1 to 15"):
        question_rows(CHUNKS, per_passage=16)


def test_the_prompt_shows_passage_type_and_person():
    row = question_rows(CHUNKS, per_passage=1).to_pylist()[0]
    request = load_prompt("passage-question").request(Task("q", ["A", "B"]), row, row["text"], "1")
    text = request.messages[-1]["content"]
    assert all(part in text for part in (row["type"], row["persona"], row["text"], "Returns >"))


def test_each_bad_question_is_dropped_for_its_reason():
    rows = question_rows(CHUNKS, per_passage=3)
    answers = {
        "a#0?0": said("How long can a tent be returned?", "within 30  days"),
        "a#0?1": said("How long can tents be returned for?", "within 60 days"),
        "a#0?2": said("How long can a tent be returned?", "30 days"),
        "b#0?0": said("How do gas canisters travel?", "they travel by road"),
        "b#0?1": said("Is it so that they travel by road and take five days?", "five days"),
        "c#0?0": said("What about the gas canisters by air mail?", "opens at nine"),
        "d#0?0": said("", "", answerable="no"),
    }
    found = answered_questions(rows, answers)
    assert found.num_rows == len(answers)
    start, end = found["start"][0].as_py(), found["end"][0].as_py()
    assert PASSAGES["a#0"][start:end] == "within 30 days"
    verdict = filter_questions(found, PASSAGES, search, k=1)
    assert dict(zip(found["id"].to_pylist(), verdict.reason.tolist(), strict=True)) == {
        "a#0?0": "",
        "a#0?1": "no quote",
        "a#0?2": "duplicate: of a#0?0",
        "b#0?0": "",
        "b#0?1": "copied",
        "c#0?0": "not found",
        "d#0?0": "no question",
    }
    assert verdict.values["rank"].tolist()[:4] == [0, -1, -1, 0]


def test_headings_ask_where_no_llm_does():
    found = heading_questions(CHUNKS)
    assert found["question"].to_pylist() == [
        "Returns: How long do I have?",
        "Delivery: What about Gas?",
        "What about Shop?",
    ]
    assert set(found["by"].to_pylist()) == {"heading"}
    assert filter_questions(found, PASSAGES).keep.all()


def test_negatives_are_high_not_relevant_and_no_hidden_answers():
    questions = ["how long for a tent to be sent back in days", "nothing is relevant to this"]
    mined = hard_negatives(questions, [["a#0"], []], search, per_question=2, margin=0.0)
    assert mined["row"].to_pylist() == [0, 0]
    assert "a#0" not in mined["negative"].to_pylist()
    assert mined["negative"][0].as_py() == search(questions, 2)[0][0][1]
    twins = hard_negatives(questions, [["a#0"], []], search, same={"a#0": "x", "b#0": "x"})
    assert "b#0" not in twins["negative"].to_pylist()
    both = ["you can send a tent back; they travel by road and take five days"]
    wide = hard_negatives(both, [["a#0"]], search, margin=0.99)
    assert "b#0" in hard_negatives(both, [["a#0"]], search, margin=-0.99)["negative"].to_pylist()
    assert "b#0" not in wide["negative"].to_pylist(), "too near to the answer"
    rows = triplets(mined, questions, PASSAGES).to_pylist()
    assert rows[0]["anchor"] == questions[0]
    assert rows[0]["positive"] == PASSAGES["a#0"]


def test_pairs_are_judged_by_votes():
    questions = ["can a tent be sent back in 30 days", "do gas canisters travel by air mail"]
    pairs = pool_pairs(["q1", "q2"], questions, {"one": search, "two": search}, k=4)
    assert pairs.num_rows == 8
    found = relevance(pairs, PASSAGES, judged=[1, 0, 0, 0, 0, 1, 0, 0])
    assert found.votes.lf_names[:3] == ("one, first", "one, first three", "one, first five")
    assert found.votes.lf_names[-3:] == ("most words", "many words", "llm")
    best = {}
    for row in found.pairs.to_pylist():
        if row["probability"] > best.get(row["question"], ("", 0.5))[1]:
            best[row["question"]] = (row["passage"], row["probability"])
    assert {q: p for q, (p, _) in best.items()} == {"q1": "a#0", "q2": "b#0"}
    assert set(found.qrels()) <= {"q1", "q2"}
    with pytest.raises(DataError, match="judged: expected the shape"):
        relevance(pairs, PASSAGES, judged=[1])
