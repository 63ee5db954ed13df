"""Passages that several documents share are cut, and nothing else of a document."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.passages import (
    UNITS,
    Unit,
    cut_passages,
    joined_passages,
    passages,
    repeated,
)
from llmlabel.corpus.segment import segment
from llmlabel.errors import ConfigError, DataError, UnknownNameError

BANNER = "Accept all cookies to go on reading this site."
TEXTS = [
    f"{BANNER}\nThe first article has its own words.\n",
    f"The second one, too, says something.\n\n{BANNER.upper()}\nAnd goes on.",
    "No banner here at all, but text enough.\nYes.",
    "A last page without one.\nYes.",
]


def test_lines_of_other_documents_are_cut() -> None:
    found = passages(TEXTS)
    cut = cut_passages(TEXTS, "line", found, repeated(found))
    assert cut.texts == [
        TEXTS[0],
        "The second one, too, says something.\n\nAnd goes on.",
        TEXTS[2],
        TEXTS[3],
    ]
    assert cut.passages.tolist() == [0, 1, 0, 0]
    assert cut.share.tolist() == pytest.approx(
        [0, (len(BANNER) + 1) / len(TEXTS[1]), 0, 0], abs=1e-6
    )


def test_nobody_keeps_it_or_some_may() -> None:
    found = passages(TEXTS)
    cut = cut_passages(TEXTS, "line", found, repeated(found, keep_first=False))
    assert cut.passages.tolist() == [1, 1, 0, 0]
    assert cut.texts[0] == "The first article has its own words."
    assert not repeated(found, max_documents=2).any()
    assert repeated(passages(TEXTS, min_words=1)).sum() == 2  # "Yes." too


def test_a_document_may_repeat_itself() -> None:
    found = passages(["one line of text here\n" * 3, "other words that stand alone"])
    assert not repeated(found).any()


def test_units() -> None:
    text = 'He said: "Stop!" Then left. \n\nNew part. 你好。再见！'
    pieces = {unit: pl.Series([text]).str.extract_all(UNITS[unit])[0].to_list() for unit in UNITS}
    assert pieces["sentence"] == [
        'He said: "Stop!" ', "Then left. \n\n", "New part. ", "你好。", "再见！"
    ]  # fmt: skip
    assert pieces["paragraph"] == ['He said: "Stop!" Then left. \n\n', "New part. 你好。再见！"]
    assert pieces["line"] == ['He said: "Stop!" Then left. \n', "\n", "New part. 你好。再见！"]


def test_runs_of_three_sentences() -> None:
    texts = ["A one. B two. C three. D four.", "X. B two. C three. D four. Y.", "B two. C three."]
    found = passages(texts, "sentence", min_words=1)
    cut = cut_passages(texts, "sentence", found, repeated(found, run=3))
    assert cut.texts == [texts[0], "X. Y.", texts[2]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab .!\n\u3002é", max_size=30), max_size=8),
    st.sampled_from(sorted(UNITS)),
    st.integers(0, 8),
    st.integers(1, 3),
)
def test_shards_cut_the_same_and_text_is_kept_whole(
    texts: list[str], unit: Unit, cut: int, run: int
) -> None:
    whole = passages(texts, unit, min_words=1)
    parts = [passages(part, unit, min_words=1) for part in (texts[:cut], texts[cut:])]
    joined = joined_passages(parts)
    assert np.array_equal(whole.hashes, joined.hashes)
    assert np.array_equal(whole.offsets, joined.offsets)
    flags = repeated(joined, run=run)
    out = cut_passages(texts, unit, whole, flags)
    split = len(parts[0].hashes)
    halves = [
        cut_passages(part, unit, found, some).texts
        for part, found, some in zip(
            (texts[:cut], texts[cut:]), parts, (flags[:split], flags[split:]), strict=True
        )
    ]
    assert halves[0] + halves[1] == out.texts
    nothing = cut_passages(texts, unit, whole, np.zeros(len(flags), bool))
    assert nothing.texts == texts
    untouched = zip(texts, out.texts, out.passages.tolist(), strict=True)
    assert all(text == left for text, left, lost in untouched if lost == 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=5), max_size=6), st.integers(1, 3))
def test_counted_as_by_hand(documents: list[list[str]], most: int) -> None:
    texts = ["\n".join(lines) for lines in documents]
    found = passages(texts, min_words=1)
    seen = {w: [i for i, d in enumerate(documents) if w in d] for w in "abcd"}
    expected = [len(seen[w]) > most and seen[w][0] != i for i, d in enumerate(documents) for w in d]
    assert repeated(found, max_documents=most).tolist() == expected


def test_a_shared_segmentation_gives_the_same() -> None:
    assert np.array_equal(
        passages(TEXTS, "sentence").hashes,
        passages(TEXTS, "sentence", segments=segment(TEXTS)).hashes,
    )


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sentence'"):
        passages(TEXTS, "sentences")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="min_words: expected at least 1, got 0"):
        passages(TEXTS, min_words=0)
    found = passages(TEXTS)
    with pytest.raises(ConfigError, match="at least 1, got 0 and 1"):
        repeated(found, max_documents=0)
    with pytest.raises(DataError, match="3 texts and"):
        cut_passages(TEXTS[1:], "line", found, repeated(found))
    with pytest.raises(DataError, match="the passages are not sentences of these texts"):
        cut_passages(TEXTS, "sentence", found, np.ones(len(found.hashes), bool))
