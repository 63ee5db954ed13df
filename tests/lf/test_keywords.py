"""Keywords of many labeling functions in one pass mean what each means alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.errors import LabelingFunctionError
from llmlabel.lf import apply, keyword
from llmlabel.lf.keywords import word_pattern
from llmlabel.schema import Task

TASK = Task("t", ["A", "B"])
WORDS = st.sampled_from(["a", "ab", "b c", "É", "é", "a-b", "!!", "日本", "c", "ab  c", "_x", "ß"])
TEXT = st.lists(
    st.one_of(
        WORDS, st.sampled_from([" ", ".", "\n", "-", "A", "B", "ſ", "k"]), st.text(max_size=3)
    ),
    max_size=8,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(
    plans=st.lists(
        st.tuples(
            st.lists(WORDS, min_size=1, max_size=3),
            st.lists(WORDS, max_size=2),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    texts=st.lists(TEXT, min_size=1, max_size=6),
)
def test_together_they_say_what_each_says_alone(plans, texts):
    lfs = [
        keyword(
            f"k{i}", words, "AB"[i % 2], without=without, whole_words=whole, case_sensitive=case
        )
        for i, (words, without, whole, case) in enumerate(plans)
    ]
    together = apply(lfs, {"text": texts}, TASK)
    for i, lf in enumerate(lfs):
        alone = np.where(lf({"text": texts})[0] == 0, i % 2, -1)
        np.testing.assert_array_equal(together[lf.name], alone)


@settings(max_examples=300, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=3), text=TEXT, whole=st.booleans())
def test_a_keyword_is_its_regular_expression(words, text, whole):
    if "ſ" in text or "ß" in text:
        return  # letters of which `re` and Unicode's small letters think differently
    pattern = word_pattern(words, whole_words=whole)
    expected = re.search(pattern, text, re.IGNORECASE) is not None
    vote = keyword("k", words, "A", whole_words=whole)({"text": [text]})[0][0]
    assert (vote == 0) == expected


def test_words_do_not_reach_over_the_end_of_a_text():
    lfs = [keyword("whole", ["ab"], "A"), keyword("part", ["ab"], "B", whole_words=False)]
    assert (apply(lfs, {"text": ["a", "b", "xa", "bx"]}, TASK).votes == -1).all()


def test_a_text_that_is_none_names_its_row():
    with pytest.raises(LabelingFunctionError, match="LF 'k' crashed on row 'r1'"):
        apply([keyword("k", ["a"], "A")], {"id": ["r0", "r1"], "text": ["a", 3]}, TASK)
