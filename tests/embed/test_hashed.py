"""Hashed TF-IDF: its hashes stay, a batch changes nothing, and a slow reference agrees."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.distill import LinearStudent, fit_linear
from llmlabel.embed import fit_hashed_tfidf, hashed
from llmlabel.errors import DataError

MASK = (1 << 64) - 1
BITS = 12
LETTERS = st.text("abcXYZ 01_-.\nßéж語", max_size=40)


def mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def word_hash(word: str) -> int:
    total, power = 0, 1
    for byte in word.encode():
        power = (power * 0x100000001B3) & MASK
        total = (total + (byte + 1) * power) & MASK
    return mixed(total)


def columns(text: str, bits: int) -> Counter[int]:
    words = [word_hash(w) for w in re.findall(r"\w+", text.lower())]
    pairs = [mixed((a * 0x100000001B3 + b) & MASK) for a, b in itertools.pairwise(words)]
    return Counter(h >> (64 - bits) for h in [*words, *pairs])


def reference(texts: list[str], bits: int) -> np.ndarray:
    """Plain Python: 1 + log tf, smoothed idf, rows of length one."""
    counted = [columns(text, bits) for text in texts]
    present = Counter(c for found in counted for c in found)
    out = np.zeros((len(texts), 1 << bits))
    for row, found in enumerate(counted):
        for column, count in found.items():
            idf = 1 + math.log((1 + len(texts)) / (1 + present[column]))
            out[row, column] = (1 + math.log(count)) * idf
        out[row] /= max(np.linalg.norm(out[row]), 1e-12)
    return out


def test_hashes_are_the_same_in_every_version():
    """Saved students know columns by number: these must never change."""
    tfidf = fit_hashed_tfidf(["any text"])
    rows = tfidf.transform(["word", "zwei wörter", "語"])
    assert rows[0].indices.tolist() == [word_hash("word") >> 46]
    found = [rows[i].indices.tolist() for i in range(3)]
    assert found == [[142313], [1473, 98942, 177374], [15642]]


@settings(max_examples=60)
@given(st.lists(LETTERS, min_size=1, max_size=6))
def test_a_slow_reference_agrees(texts):
    if not any(re.search(r"\w", t) for t in texts):
        with pytest.raises(DataError, match="none of the .* texts holds a word"):
            fit_hashed_tfidf(texts, BITS)
        return
    rows = fit_hashed_tfidf(texts, BITS).transform(texts).toarray()
    assert np.allclose(rows, reference(texts, BITS), rtol=1e-12, atol=1e-15)


@settings(max_examples=30)
@given(st.lists(LETTERS, min_size=1, max_size=8), st.integers(1, 60))
def test_batches_change_nothing(texts, characters):
    texts = ["a word", *texts]
    whole = fit_hashed_tfidf(texts, BITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashed, "_BATCH", characters)
        cut = fit_hashed_tfidf(texts, BITS)
        rows = cut.transform(texts)
    assert np.array_equal(cut.idf, whole.idf)
    alone = [whole.transform([t]) for t in texts]
    for got in (rows, whole.transform(texts)):
        assert (got != whole.transform(texts)).nnz == 0
        assert all((got[i] != alone[i]).nnz == 0 for i in range(len(texts)))


def test_empty_texts_have_empty_rows_and_no_texts_have_none():
    tfidf = fit_hashed_tfidf(["a", "", "..."])
    rows = tfidf.transform(["", "a", "!?", ""])
    assert rows.getnnz(axis=1).tolist() == [0, 1, 0, 0]
    assert tfidf.transform([]).shape == (0, 1 << 18)
    with pytest.raises(DataError, match="none of the 2 texts holds a word"):
        fit_hashed_tfidf(["", "?"])


def test_pairs_do_not_cross_documents():
    tfidf = fit_hashed_tfidf(["one two", "three four"])
    together = tfidf.transform(["one two", "three four"])
    assert together.getnnz(axis=1).tolist() == [3, 3]


def test_a_student_keeps_it(tmp_path):
    texts = [
        "a long good text about rivers",
        "buy now cheap offer",
        "rivers and lakes",
        "cheap now",
    ]
    targets = [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]]
    student = fit_linear(texts, targets, ["KEEP", "DROP"], tfidf="hashed")
    student.save(tmp_path / "student")
    again = LinearStudent.load(tmp_path / "student")
    unseen = [*texts, "unmet words only", ""]
    assert np.array_equal(student.predict_proba(unseen), again.predict_proba(unseen))
    assert again.predict(["a text about rivers", "cheap offer"]).tolist() == ["KEEP", "DROP"]
    assert type(again.tfidf) is type(student.tfidf)
