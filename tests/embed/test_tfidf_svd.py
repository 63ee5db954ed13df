from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.embed import TfidfSvdEncoder, fit_tfidf, fit_tfidf_svd, load_tfidf
from llmlabel.errors import ConfigError, DataError

BOATS = [
    f"the {c} {b} sails on the {s}"
    for c in ("red", "blue")
    for b in ("boat", "ship")
    for s in ("sea", "lake")
]
TAXES = [
    f"the tax {o} wants {m} for {y}"
    for o in ("office", "inspector")
    for m in ("money", "papers")
    for y in ("2024", "2025")
]
TEXTS = BOATS + TAXES


def test_texts_of_one_topic_are_nearer() -> None:
    encoder = fit_tfidf_svd(TEXTS, dims=4)
    boat, ship, tax = encoder.encode(["a boat on the lake", "the blue ship sails", "tax papers"])
    assert boat @ ship > boat @ tax + 0.3


def test_same_texts_and_seed_same_bytes() -> None:
    first, again = fit_tfidf_svd(TEXTS, seed=5), fit_tfidf_svd(TEXTS, seed=5)
    assert first.fingerprint == again.fingerprint
    assert first.encode(TEXTS).tobytes() == again.encode(TEXTS).tobytes()
    assert fit_tfidf_svd(TEXTS[:-1], seed=5).fingerprint != first.fingerprint


def test_no_more_dimensions_than_the_texts_span() -> None:
    assert fit_tfidf_svd(["one text", "one text", "another"], dims=50).components.shape[0] == 2
    assert fit_tfidf_svd(TEXTS, dims=4).encode(TEXTS).shape == (len(TEXTS), 4)
    with pytest.raises(ConfigError, match="expected at least one dimension, got 0"):
        fit_tfidf_svd(TEXTS, dims=0)


def test_saved_without_pickle_and_loaded_the_same(tmp_path: Path) -> None:
    encoder = fit_tfidf_svd([*TEXTS, "Grüße, 你好 мир"])
    encoder.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arrays.npz", "config.json"]
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind == "f" for name in arrays)
    again = TfidfSvdEncoder.load(tmp_path)
    assert again.fingerprint == encoder.fingerprint
    probe = ["Grüße vom boat", "мир", "unknown zzz"]
    assert again.encode(probe).tobytes() == encoder.encode(probe).tobytes()


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; expected a saved TF-IDF"):
        TfidfSvdEncoder.load(tmp_path)
    config = {"kind": "tfidf-svd", "format": 7, "tfidf": []}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DataError, match="of format 1, got 'tfidf-svd' of format 7"):
        TfidfSvdEncoder.load(tmp_path)


@settings(max_examples=40)
@given(texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=40), max_size=10))
def test_any_text_is_a_unit_row_or_a_zero_row(texts: list[str]) -> None:
    vectors = fit_tfidf_svd(TEXTS).encode(texts)
    norms = np.linalg.norm(vectors, axis=1)
    assert vectors.shape[0] == len(texts)
    assert np.all(np.isclose(norms, 1, rtol=1e-5) | (norms == 0))


@settings(max_examples=40)
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=10))
def test_fits_on_any_texts_or_says_that_they_are_empty(texts: list[str]) -> None:
    try:
        tfidf = fit_tfidf(texts)
    except DataError:
        assert not any(text.split() for text in texts)
        return
    assert any(text.split() for text in texts)
    again = load_tfidf(json.loads(json.dumps(tfidf.config())), tfidf.arrays())
    assert (again.transform(texts) != tfidf.transform(texts)).nnz == 0


def test_texts_without_content() -> None:
    with pytest.raises(DataError, match="none of the 2 texts holds a word or letter"):
        fit_tfidf_svd(["", "  "])


def test_languages_without_spaces_have_terms() -> None:
    tfidf = fit_tfidf(["荷物が届きません", "荷物が壊れていました", "返金してください"])
    a, b, c = tfidf.transform(["荷物はどこ", "荷物", "返金"]).toarray()
    assert a @ b > a @ c
