"""Benchmark texts are found in documents whatever their case and punctuation."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.decontaminate import (
    benchmark_index,
    find_leaks,
    mask_leaks,
    read_benchmark,
)
from llmlabel.corpus.segment import segment
from llmlabel.errors import ConfigError, DataError
from llmlabel.io import write_table

QUESTION = (
    "A train leaves the station at noon and travels sixty miles per hour towards the coast; "
    "when does it arrive?"
)
LICENCE = "Permission is hereby granted, free of charge, to any person obtaining a copy of this"
INDEX = benchmark_index({"maths": [QUESTION, "Too short."], "law": [LICENCE + " work."]})


def test_the_reason_names_the_benchmark_and_the_words() -> None:
    texts = [f"Homework: {QUESTION.upper()} Please help!", "An honest page.", LICENCE]
    found = find_leaks(texts, INDEX)
    reason = found.verdict().reason.tolist()
    assert reason[0].startswith("in benchmark maths: A TRAIN LEAVES THE STATION")
    assert reason[1] == ""
    assert reason[2] == f"in benchmark law: {LICENCE}"
    assert found.verdict().values["leaked_characters"].tolist()[1:] == [0, len(LICENCE)]
    assert mask_leaks(texts, found, "[...]") == ["Homework: [...]? Please help!", texts[1], "[...]"]


def test_long_stretches_are_shortened_in_the_reason() -> None:
    reason = find_leaks([QUESTION + " " + QUESTION], benchmark_index({"m": [QUESTION * 2]}))
    assert reason.verdict().reason[0].endswith("...")
    assert len(reason.verdict().reason[0]) < 160


def test_twelve_words_are_no_leak_and_thirteen_are() -> None:
    words = QUESTION.split()
    assert len(find_leaks([" ".join(words[:12])], INDEX).document) == 0
    assert len(find_leaks([" ".join(words[:13])], INDEX).document) == 1


def test_what_is_allowed_is_no_leak() -> None:
    index = benchmark_index({"law": [LICENCE]}, allow=[f"Copyright. {LICENCE} software"])
    assert len(index.hashes) == 0
    assert len(find_leaks([LICENCE], index).document) == 0


def test_short_items_are_counted() -> None:
    assert dict(INDEX.short) == {"maths": 1, "law": 0}
    assert INDEX.names == ("maths", "law")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=25), max_size=6),
    st.lists(st.sampled_from("abcdef"), max_size=12),
    st.integers(1, 4),
)
def test_spans_as_by_hand(documents: list[list[str]], benchmark: list[str], n: int) -> None:
    texts = ["é, ".join(d) for d in documents]
    index = benchmark_index({"b": ["é ".join(benchmark)]}, n=n)
    # The last word of a text has no accent: words are compared as they are written.
    written = [[w + "é" for w in d[:-1]] + d[-1:] for d in documents]
    accented = [w + "é" for w in benchmark[:-1]] + benchmark[-1:]
    known = {tuple(accented[i : i + n]) for i in range(len(accented) - n + 1)}
    covered = []
    for i, d in enumerate(written):
        flags = [False] * len(d)
        for j in range(len(d) - n + 1):
            if tuple(d[j : j + n]) in known:
                flags[j : j + n] = [True] * n
        covered += [(i, j) for j, flag in enumerate(flags) if flag]
    found = find_leaks(texts, index)
    got = []
    for d, start, end in zip(found.document, found.start, found.end, strict=True):
        first = texts[d][:start].count(",")
        got += [(int(d), first + j) for j in range(texts[d][start:end].count(",") + 1)]
    assert got == covered
    assert found.words.tolist() == [
        texts[d][s:e] for d, s, e in zip(found.document, found.start, found.end, strict=True)
    ]
    again = find_leaks(texts, index, segments=segment(texts))
    assert np.array_equal(again.start, found.start)


def test_files(tmp_path: Path) -> None:
    table = pa.table({"question": [QUESTION, None], "answer": ["noon", "six"], "level": [1, 2]})
    write_table(table, tmp_path / "maths.jsonl")
    assert read_benchmark(tmp_path / "maths.jsonl") == [QUESTION, "noon", "six"]
    assert read_benchmark(tmp_path / "maths.jsonl", ["answer"]) == ["noon", "six"]
    (tmp_path / "plain.txt").write_text(f"{QUESTION}\n\nAnother\none.\n\n\n")
    assert read_benchmark(tmp_path / "plain.txt") == [QUESTION, "Another\none."]
    with pytest.raises(DataError, match="no column of text 'level'"):
        read_benchmark(tmp_path / "maths.jsonl", ["level"])
    with pytest.raises(DataError, match="did you mean"):
        read_benchmark(tmp_path / "plan.txt")


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="n: expected at least 1 word, got 0"):
        benchmark_index({"b": ["text"]}, n=0)
    with pytest.raises(DataError, match="2 texts, but a segmentation of 1"):
        find_leaks(["a", "b"], INDEX, segments=segment(["a"]))
    assert find_leaks([], INDEX).documents == 0
