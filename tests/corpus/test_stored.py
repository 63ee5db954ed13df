"""New documents are compared with a stored corpus by its sketches."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.minhash import estimated_jaccard
from llmlabel.corpus.segment import segment
from llmlabel.corpus.sketches import joined_sketches, load_sketches, save_sketches, sketch
from llmlabel.corpus.stored import match_stored
from llmlabel.errors import DataError

WORDS = [f"word{i}" for i in range(500)]


def text_of(seed: int, length: int = 150) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


OLD = [text_of(i) for i in range(50)]
NEW = [OLD[3].upper(), OLD[7] + " and some more words", "nothing like it", OLD[3] + " x", "..."]


def test_matches_of_a_saved_corpus(tmp_path: Path) -> None:
    save_sketches(sketch(OLD), tmp_path)
    stored = load_sketches(tmp_path)
    assert isinstance(stored.minhash, np.memmap)
    found = match_stored(sketch(NEW), stored)
    assert found.row.tolist() == [3, 7, -1, 3, -1]
    assert found.exact.tolist() == [True, False, False, False, False]
    assert found.similarity[0] == 1.0
    assert 0.9 < found.similarity[1] < 1.0
    assert found.verdict().reason.tolist() == [
        "exact duplicate of a stored document",
        "near duplicate of a stored document",
        "",
        "near duplicate of a stored document",
        "",
    ]


def test_exact_only_and_nothing() -> None:
    made = sketch(NEW)
    assert match_stored(made, sketch(OLD), threshold=None).row.tolist() == [3, -1, -1, -1, -1]
    assert match_stored(sketch([]), sketch(OLD)).row.tolist() == []
    assert match_stored(made, sketch([])).row.tolist() == [-1] * 5


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 100))
def test_the_best_match_is_the_same_in_any_blocks(step: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    base = text_of(seed, 100).split()
    variants = []
    for _ in range(12):
        words = list(base)
        for at in random.integers(0, 100, random.integers(0, 12)):
            words[at] = "changed"
        variants.append(" ".join(words))
    new, old = sketch(variants[:5]), sketch(variants[5:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmlabel.corpus.stored._STEP", step)
        found = match_stored(new, old, threshold=0.5)
    for row in range(5):
        alike = estimated_jaccard(np.broadcast_to(new.minhash[row], (7, 256)), old.minhash)
        alike[(new.exact[row] == old.exact).all(axis=1)] = 1.0
        best = int(alike.argmax())
        if alike[best] >= 0.6:  # surely in a common band
            assert found.row[row] == best or found.exact[row]
            assert found.similarity[row] == alike[best]


def test_sketches_of_other_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stored sketches have 64 hashes of 5 words"):
        match_stored(sketch(NEW), sketch(OLD, hashes=64))
    with pytest.raises(DataError, match="different settings"):
        joined_sketches([sketch(NEW), sketch(OLD, shingle=3)])
    with pytest.raises(DataError, match="no sketches to join"):
        joined_sketches([])
    with pytest.raises(DataError, match="2 texts, but a segmentation of 1"):
        sketch(["a", "b"], segments=segment(["a"]))


def test_a_folder_that_is_none_or_unfinished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sketches: no such file"):
        load_sketches(tmp_path)
    save_sketches(sketch(OLD), tmp_path)
    file = tmp_path / "sketches.json"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "format": 0}))
    with pytest.raises(DataError, match=r"sketches.json: expected sketches of"):
        load_sketches(tmp_path)
    file.write_text("{}")
    with pytest.raises(DataError, match="no sketches"):
        load_sketches(tmp_path)


def test_an_empty_corpus_is_stored_too(tmp_path: Path) -> None:
    save_sketches(sketch([]), tmp_path)
    assert len(load_sketches(tmp_path)) == 0
