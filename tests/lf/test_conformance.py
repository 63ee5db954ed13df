"""What every kind of labeling function promises."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.errors import LabelingFunctionError
from llmlabel.lf import (
    LF,
    Feature,
    answer,
    apply,
    classifier,
    column,
    crowd,
    gazetteer,
    keyword,
    labeling_function,
    lookup,
    measure,
    nearest,
    regex,
)
from llmlabel.schema import Task

TASK = Task("t", ["A", "B", "C"])


class Counts:
    """A tiny encoder: how often five letters stand in a text."""

    def encode(self, texts):
        return np.array([[t.lower().count(c) for c in "abcde"] for t in texts], np.float32).reshape(
            -1, 5
        )


@labeling_function(labels=["A", "B"])
def plain(row):
    return "A" if "a" in row["text"] else ("B" if row["text"] else None)


@labeling_function(batched=True)
def batched(batch):
    return [2 if len(t) > 5 else -1 for t in batch["text"]]


def guessed(texts):
    found = np.array([[1 + t.count("a"), 1, 1 + t.count("b")] for t in texts], float)
    return found / found.sum(axis=1, keepdims=True)


ANSWERS = Feature(
    "answers.ask",
    lambda batch: [
        {"label": "ABC"[len(t) % 3], "sure": 0.75} if t else None for t in batch["text"]
    ],
)

LFS = {
    "keyword": keyword("keyword", ["a", "bé", "c d"], "B"),
    "keyword_part": keyword("keyword_part", ["a"], "B", without=["x"], whole_words=False),
    "regex": regex("regex", r"\b\w{3}\b|é$", "C"),
    "regex_slow": regex("regex_slow", r"(?<!b)a", "C", without="z"),
    "nearest": nearest("nearest", {"A": ["aa"], "C": ["bb", "cc"]}, Counts(), threshold=0.5),
    "column": column("column", "old", {"x": "A", "y": None}),
    "answer": answer("answer", ANSWERS, "label", ["A", "B", "C"], confidence="sure"),
    "measure": measure("measure", "A", "words", at_least=2, at_most=3),
    "matches": measure("matches", "B", "matches", at_least=2, pattern="[ab]"),
    "gazetteer": gazetteer("gazetteer", {"A": ["Aa b", "é"], "C": ["cc"]}),
    "lookup": lookup("lookup", pa.table({"k": ["x", "y"], "v": ["A", "B"]}), {"old": "k"}, "v"),
    "crowd": crowd(pa.table({"task": ["r0", "r1"], "worker": ["w", "w"], "label": ["A", "C"]}))[0],
    "classifier": classifier("classifier", guessed, ["A", None, "C"], threshold=0.4),
    "function": plain,
    "batched": batched,
}

texts = st.lists(st.text(max_size=20), min_size=1, max_size=12)


def table(column_of_texts):
    return {
        "id": [f"r{i}" for i in range(len(column_of_texts))],
        "text": column_of_texts,
        "old": [("x", "y", None)[len(t) % 3] for t in column_of_texts],
    }


@pytest.mark.parametrize("lf", LFS.values(), ids=LFS)
@settings(max_examples=40)
@given(texts=texts, size=st.integers(1, 5), seed=st.integers(0, 99))
def test_votes_depend_on_the_row_alone(lf, texts, size, seed):
    """Neither the batch size nor the order of rows changes a vote."""
    data = table(texts)
    whole = apply([lf], data, TASK)
    assert whole.shape == (len(texts), 1)
    assert whole.lf_names == (lf.name,)
    assert apply([lf], data, TASK, batch_size=size) == whole
    order = np.random.default_rng(seed).permutation(len(texts))
    shuffled = {name: [values[i] for i in order] for name, values in data.items()}
    assert apply([lf], shuffled, TASK) == whole.take(order)


@pytest.mark.parametrize("lf", LFS.values(), ids=LFS)
def test_awkward_texts_lose_no_row(lf):
    odd = ["", " ", "a" * 100_000, "न्यू दिल्ली", "\x00a", "👩‍👩‍👧 a", "a\r\nb\n", "İstanbul ſ"]
    assert len(apply([lf], table(odd), TASK)) == len(odd)


@pytest.mark.parametrize("lf", LFS.values(), ids=LFS)
def test_no_rows_give_no_votes(lf):
    assert apply([lf], {"id": [], "text": [], "old": []}, TASK).shape == (0, 1)


@pytest.mark.parametrize("kind", [k for k in LFS if k not in ("function", "batched")])
def test_factories_say_why(kind):
    lf = LFS[kind]
    assert lf.why is not None
    row = {
        "id": "r0",
        "text": "a abc",
        "predicted.classifier": [0.5, 0.2, 0.3],
        "old": "x",
        "answers.ask": {"label": "A", "sure": 0.75},
    }
    row["embedding"] = Counts().encode(["a abc"])[0]
    assert len(lf.why(row)) > 5


def test_a_crash_names_lf_and_row():
    @labeling_function(labels=["A"])
    def divides(row):
        return "A" if 1 / len(row["text"]) else None

    with pytest.raises(
        LabelingFunctionError, match="LF 'divides' crashed on row 'r1': ZeroDivisionError"
    ):
        apply([divides], table(["a", "", "b"]), TASK)


@pytest.mark.parametrize(
    ("vote", "message"),
    [
        (lambda b: [0], r"LF 'bad': expected 2 votes, one per row, got shape \(1,\)"),
        (lambda b: [0.5, 1.5], "expected int votes"),
        (lambda b: [3, 0], "LF 'bad' voted 3 on row 'r0'; expected -1"),
        (lambda b: ([0, 0], [0.5]), "expected 2 confidences"),
    ],
)
def test_what_is_no_vote_is_an_error(vote, message):
    with pytest.raises(LabelingFunctionError, match=message):
        apply([LF("bad", vote)], table(["a", "b"]), TASK)


@settings(max_examples=200)
@given(st.text(max_size=40))
@pytest.mark.parametrize(
    "pattern",
    [r"\bab\b", r"\w+$", r"[^\W\d]x", r"a.c", r"é|ß", r"\d{2}", r"^\s*a", r"a{,2}b", r"(a)\1"],
)
def test_regex_means_what_pythons_re_means(pattern, text):
    for sample in (text, text + "\n", f"ab {text} ac"):
        expected = re.search(pattern, sample, re.IGNORECASE) is not None
        vote = regex("r", pattern, "A")({"text": [sample]})[0][0]
        assert (vote == 0) == expected


def test_arrow_tables_and_datasets_are_read():
    datasets = pytest.importorskip("datasets")
    columns = {"text": ["a", "b"]}
    expected = apply([LFS["keyword"]], columns, TASK)
    assert apply([LFS["keyword"]], pa.table(columns), TASK) == expected
    assert apply([LFS["keyword"]], datasets.Dataset.from_dict(columns), TASK) == expected


@pytest.mark.parametrize("lf", LFS.values(), ids=LFS)
def test_votes_are_the_same_in_several_processes(lf):
    data = table(["a", "bb a", "", "c d é", "abcabc"] * 9)
    assert apply([lf], data, TASK, processes=3) == apply([lf], data, TASK)


def test_a_crash_in_another_process_names_lf_and_row():
    @labeling_function(labels=["A"])
    def divides(row):
        return "A" if 1 / len(row["text"]) else None

    with pytest.raises(LabelingFunctionError, match="LF 'divides' crashed on row 'r7'"):
        apply([divides], table(["a"] * 7 + [""] + ["b"] * 5), TASK, processes=2)
