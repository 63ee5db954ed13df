"""Span labeling functions, their votes on tokens, and spans out again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError, LabelingFunctionError, UnknownNameError
from llmlabel.labelmodel import SequenceModel
from llmlabel.lf import Span, SpanLF, apply_spans, span_names, span_regex
from llmlabel.lf.spans import tokenize


@given(st.text(max_size=60))
def test_tokens_are_the_text_without_white_space(text):
    offsets = tokenize(text)
    assert "".join(text[a:b] for a, b in offsets) == "".join(text.split())
    assert all(a < b <= c for (a, b), (c, _) in pairwise(offsets))


@given(st.data())
def test_spans_of_whole_tokens_come_back(data):
    words = data.draw(
        st.lists(st.sampled_from(["ann", "lee", "in", "rome"]), min_size=1, max_size=8)
    )
    text = " ".join(words)
    offsets = tokenize(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(offsets)), max_size=6)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    wanted = [Span(offsets[a][0], offsets[b - 1][1], "X") for a, b in pairs if a < b]
    lf = SpanLF("all", lambda _: wanted, ("X",), exhaustive=True)
    found = apply_spans([lf], [text], ["X"])
    tags = [found.votes.classes[v] for v in found.votes["all"]]
    assert found.spans(tags) == [wanted]


def test_span_votes_make_a_sequence_model():
    texts = ["Ann Lee lives in Rome .", "In Rome Ann sleeps .", "Bo sings ."] * 20
    lfs = [
        span_names("people", {"PER": ["Ann Lee", "Ann", "Bo"]}),
        span_regex("in", r"[Ii]n (?P<span>[A-Z]\w+)", "LOC"),
    ]
    found = apply_spans(lfs, texts, ["PER", "LOC"])
    model = SequenceModel().fit(found.votes, found.lengths)
    spans = found.spans(model.predict_bio(found.votes, found.lengths))
    assert {Span(0, 7, "PER"), Span(17, 21, "LOC")} <= set(spans[0])
    assert Span(0, 2, "PER") in spans[2]


def test_the_first_and_longer_of_overlapping_spans_counts():
    lf = SpanLF("two", lambda _: [Span(4, 7, "A"), Span(0, 7, "B")], ("A", "B"))
    found = apply_spans([lf], ["ann lee"], ["A", "B"])
    assert [found.votes.classes[v] for v in found.votes["two"]] == ["B-B", "I-B"]


def test_bad_spans_are_named():
    def crash(_):
        raise ZeroDivisionError("no")

    with pytest.raises(LabelingFunctionError, match="LF 'far' marked characters 0 to 9 of text"):
        apply_spans([SpanLF("far", lambda _: [Span(0, 9, "A")], ("A",))], ["abc"], ["A"])
    with pytest.raises(LabelingFunctionError, match="LF 'c' crashed on text number 0: ZeroDiv"):
        apply_spans([SpanLF("c", crash, ("A",))], ["abc"], ["A"])
    with pytest.raises(UnknownNameError, match="unknown class 'PERS', did you mean 'PER'"):
        apply_spans([SpanLF("p", lambda _: [Span(0, 1, "PERS")], ("PERS",))], ["abc"], ["PER"])
    with pytest.raises(ConfigError, match="the same name"):
        apply_spans([span_regex("a", "x", "A"), span_regex("a", "y", "A")], ["x"], ["A"])
    with pytest.raises(DataError, match="expected 1 tags"):
        apply_spans([span_regex("a", "x", "A")], ["x"], ["A"]).spans(["O", "O"])


def test_no_texts_give_no_tokens():
    found = apply_spans([span_regex("a", "x", "A")], [], ["A"])
    assert found.votes.shape == (0, 1)
    assert found.spans([]) == []
    assert np.asarray(found.offsets).shape == (0, 2)
