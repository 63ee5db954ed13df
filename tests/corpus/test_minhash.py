"""Signatures say how alike two documents are, and nothing else changes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.minhash import EMPTY, estimated_jaccard, signatures
from llmlabel.corpus.ngrams import mixed, ngrams, ranges
from llmlabel.corpus.segment import segment
from llmlabel.errors import ConfigError


def two_sets(shared: int, only: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Words of two documents that share some of their different words."""
    words = np.random.default_rng(seed).integers(0, 2**64, shared + 2 * only, np.uint64)
    both = np.concatenate([words[: shared + only], words[:shared], words[shared + only :]])
    return both, np.array([0, shared + only, 2 * (shared + only)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), st.integers(0, 1000))
def test_the_estimate_is_near_the_true_similarity(shared: int, only: int, seed: int) -> None:
    words, offsets = two_sets(shared, only, seed)
    table = signatures(words, offsets, shingle=1)
    true = shared / (shared + 2 * only)
    # Five standard deviations of plain MinHash.
    bound = 5 * np.sqrt(true * (1 - true) / 256)
    assert abs(float(estimated_jaccard(table[0], table[1])) - true) <= bound + 1 / 256


@pytest.mark.parametrize("size", [1, 3, 40, 256, 2000])
def test_the_estimate_has_no_bias_and_the_promised_deviation(size: int) -> None:
    parts = [two_sets(size, size, seed) for seed in range(200)]
    words = np.concatenate([p[0] for p in parts])
    offsets = np.arange(2 * len(parts) + 1) * 2 * size
    table = signatures(words, offsets, shingle=1)
    found = estimated_jaccard(table[::2], table[1::2])
    promised = np.sqrt(1 / 3 * 2 / 3 / 256)
    assert abs(found.mean() - 1 / 3) < 4 * promised / np.sqrt(len(parts))
    assert found.std() < 1.2 * promised


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(0, 12))
def test_a_signature_depends_on_its_document_alone(lengths: list[int], cut: int) -> None:
    words = np.random.default_rng(0).integers(0, 2**64, sum(lengths), np.uint64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    cut = min(cut, len(lengths))
    whole = signatures(words, offsets)
    first = signatures(words[: offsets[cut]], offsets[: cut + 1])
    rest = signatures(words[offsets[cut] :], offsets[cut:] - offsets[cut])
    assert np.array_equal(whole, np.concatenate([first, rest]))


def test_the_same_on_every_machine() -> None:
    found = segment(["The quick brown fox jumps over the lazy dog."])
    table = signatures(found.term_hashes, found.terms.offsets)
    # Changes only together with sketches._FORMAT: stored signatures would no longer match.
    assert table[0, :4].tolist() == [31346, 33558, 62295, 29146]


def test_documents_without_words_have_an_empty_signature() -> None:
    table = signatures(np.array([5], np.uint64), np.array([0, 0, 1, 1]))
    assert (table[[0, 2]] == EMPTY).all()
    assert (table[1] != EMPTY).any()


def test_many_chunks_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 5000, np.uint64)
    offsets = np.concatenate(([0], np.sort(np.random.default_rng(2).integers(0, 5000, 80)), [5000]))
    whole = signatures(words, offsets)
    monkeypatch.setattr("llmlabel.corpus.minhash._CHUNK", 64)
    monkeypatch.setattr("llmlabel.corpus.minhash._DIRECT", 16)
    assert np.array_equal(whole, signatures(words, offsets))


def test_wrong_settings_are_named() -> None:
    empty = np.empty(0, np.uint64), np.array([0])
    with pytest.raises(ConfigError, match="hashes: expected a multiple of 4, got 6"):
        signatures(*empty, hashes=6)
    with pytest.raises(ConfigError, match="shingle: expected at least 1 word, got 0"):
        signatures(*empty, shingle=0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=6), st.integers(1, 4), st.booleans()
)
def test_ngrams_are_equal_where_words_are(documents: list[list[int]], n: int, whole: bool) -> None:
    words = np.array([w for d in documents for w in d], np.uint64)
    offsets = np.concatenate(([0], np.cumsum([len(d) for d in documents], dtype=np.int64)))
    grams, bounds = ngrams(mixed(words), offsets, n, whole=whole)
    expected = [
        [tuple(d[i : i + n]) for i in range(len(d) - n + 1)] or ([tuple(d)] if whole and d else [])
        for d in documents
    ]
    assert np.diff(bounds).tolist() == [len(e) for e in expected]
    flat = [gram for e in expected for gram in e]
    number = {gram: i for i, gram in enumerate(dict.fromkeys(flat))}
    _, first, inverse = np.unique(grams, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    assert order[inverse].tolist() == [number[gram] for gram in flat]


def test_ranges_of_nothing() -> None:
    none = np.empty(0, np.int64)
    assert ranges(none, none).tolist() == []
    assert ranges(np.array([3, 9]), np.array([0, 1])).tolist() == [9]
