from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.distill import LinearStudent, fit_linear, load_student
from llmlabel.embed import fit_tfidf_svd
from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.evaluate import evaluate

CLASSES = ("BILLING", "DELIVERY", "RETURN")
WORDS = {
    "BILLING": "invoice charged twice card payment refund amount",
    "DELIVERY": "parcel late courier tracking lost box arrived",
    "RETURN": "return exchange wrong size send back label",
}


def make(n: int = 90, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Messages of class words and filler, and soft targets that lean to the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    filler = ["please", "the", "my", "hello", "today", "about", "with", "thanks", "we", "you"]
    texts = [
        " ".join([*rng.choice(WORDS[CLASSES[c]].split(), 3), *rng.choice(filler, 5)])
        for c in labels
    ]
    return texts, np.eye(3)[labels] * 0.85 + 0.05


class Letters:
    """A small encoder without a model behind it."""

    name = "letters"

    def __init__(self, fingerprint: str = "letters-1") -> None:
        self.fingerprint = fingerprint

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        return np.array([[s.count(c) + 0.1 for c in "abcdefghijklmnopqrst"] for s in sentences])


TEXTS, TARGETS = make()
NEW, NEW_TARGETS = make(60, seed=1)
KINDS: dict[str, dict[str, Any]] = {
    "tfidf": {},
    "encoder": {"encoder": Letters(), "tfidf": False},
    "both": {"encoder": Letters()},
    "fitted encoder": {"encoder": fit_tfidf_svd(TEXTS)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_and_its_rows_sum_to_one(kind: str) -> None:
    student = fit_linear(TEXTS, TARGETS, CLASSES, **KINDS[kind])
    found = student.predict_proba(NEW)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    accuracy = (found.argmax(axis=1) == NEW_TARGETS.argmax(axis=1)).mean()
    assert accuracy >= (0.6 if kind == "encoder" else 0.95)
    assert student.predict(NEW).tolist() == [CLASSES[i] for i in found.argmax(axis=1)]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_says_the_same(kind: str, tmp_path: Path) -> None:
    meta = {"task": {"name": "tickets", "text": ["subject", "body"]}}
    student = fit_linear(TEXTS, TARGETS, CLASSES, meta=meta, **KINDS[kind])
    student.save(tmp_path / "student")
    encoder = None if kind in ("tfidf", "fitted encoder") else Letters()
    again = load_student(tmp_path / "student", encoder)
    assert isinstance(again, LinearStudent)
    difference = np.abs(again.predict_proba(NEW) - student.predict_proba(NEW)).max()
    assert difference < 1e-9
    assert again.classes == CLASSES
    assert again.meta == meta
    described = student.describe()
    assert described.pop("seconds") > 0
    assert again.describe() == described


def test_the_folder_holds_no_pickle_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit_linear(TEXTS, TARGETS, CLASSES, **KINDS["fitted encoder"]).save(tmp_path / name)
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert [str(f) for f in files] == [
        "arrays.npz",
        "config.json",
        "encoder/arrays.npz",
        "encoder/config.json",
        "vocabulary.json",
    ]
    for file in files:
        data = (tmp_path / "a" / file).read_bytes()
        assert data == (tmp_path / "b" / file).read_bytes()
        if file.suffix == ".json":
            json.loads(data)
        else:
            with np.load(tmp_path / "a" / file, allow_pickle=False) as arrays:
                assert {arrays[name].dtype.kind for name in arrays} == {"f"}


def test_the_config_says_what_the_student_is(tmp_path: Path) -> None:
    fit_linear(TEXTS, TARGETS, CLASSES, encoder=Letters()).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["kind"] == "linear"
    assert config["format"] == 1
    assert config["classes"] == list(CLASSES)
    assert config["encoder"] == {"name": "letters", "fingerprint": "letters-1", "saved": False}
    assert config["llmlabel"]


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    fit_linear(TEXTS, TARGETS, CLASSES, encoder=Letters()).save(tmp_path)
    with pytest.raises(
        ConfigError, match="'letters' of fingerprint letters-1, got 'letters' of oth"
    ):
        load_student(tmp_path, Letters("other"))


def test_given_embeddings_do_instead_of_an_encoder(tmp_path: Path) -> None:
    vectors, new = Letters().encode(TEXTS), Letters().encode(NEW)
    by_encoder = fit_linear(TEXTS, TARGETS, CLASSES, encoder=Letters())
    by_vectors = fit_linear(TEXTS, TARGETS, CLASSES, embeddings=vectors)
    np.testing.assert_allclose(
        by_vectors.predict_proba(NEW, embeddings=new), by_encoder.predict_proba(NEW), atol=1e-6
    )
    by_vectors.save(tmp_path)
    again = load_student(tmp_path)
    np.testing.assert_allclose(
        again.predict_proba(NEW, new), by_vectors.predict_proba(NEW, new), atol=1e-9
    )
    with pytest.raises(ConfigError, match="has no encoder: give embeddings"):
        again.predict_proba(NEW)
    with pytest.raises(ConfigError, match="expected 20 numbers a row, got 3"):
        again.predict_proba(NEW, new[:, :3])


def test_same_seed_same_student() -> None:
    first, again = (fit_linear(TEXTS, TARGETS, CLASSES, seed=3) for _ in range(2))
    assert first.coef.tobytes() == again.coef.tobytes()


def test_a_class_that_was_never_seen_keeps_its_column() -> None:
    targets = np.insert(TARGETS, 1, 0.0, axis=1)
    student = fit_linear(TEXTS, targets, ["BILLING", "NEVER", "DELIVERY", "RETURN"])
    found = student.predict_proba(NEW)
    assert np.all(found[:, 1] == 0)
    assert student.describe()["classes_without_rows"] == ["NEVER"]
    assert (np.delete(found, 1, 1).argmax(axis=1) == NEW_TARGETS.argmax(axis=1)).mean() > 0.95


def test_rows_of_weight_zero_do_not_count() -> None:
    wrong = np.roll(TARGETS, 1, axis=1)
    weights = np.r_[np.ones(90), np.zeros(90)]
    student = fit_linear(TEXTS * 2, np.vstack([TARGETS, wrong]), CLASSES, weights=weights, C=10)
    clean = fit_linear(TEXTS, TARGETS, CLASSES, C=10)
    assert student.describe()["rows"] == 90
    assert (student.predict(NEW) == clean.predict(NEW)).all()


def test_c_can_be_given() -> None:
    described = fit_linear(TEXTS, TARGETS, CLASSES, C=2.5).describe()
    assert (described["C"], described["criterion"], described["criterion_value"]) == (
        2.5,
        None,
        None,
    )
    chosen = fit_linear(TEXTS, TARGETS, CLASSES).describe()
    assert chosen["criterion"] == "3-fold log-loss against the soft labels"
    assert 0 < chosen["criterion_value"] < np.log(3)
    json.dumps(chosen, allow_nan=False)


@settings(max_examples=30)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=()), max_size=20), min_size=1, max_size=8
    ),
    data=st.data(),
)
def test_any_texts_fit_and_any_texts_are_answered(texts: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts)))
    targets = np.eye(3)[labels]
    if any(text.split() for text in texts):
        student = fit_linear(texts, targets, CLASSES, encoder=Letters())
    else:
        student = fit_linear(texts, targets, CLASSES, encoder=Letters(), tfidf=False)
    found = student.predict_proba([*texts, "", "\ud800", "unseen 未知"])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": TARGETS[:, :2]}, r"expected the shape \(90, 3\) .*, got \(90, 2\)"),
        ({"probabilities": TARGETS * 2}, r"row 0: expected probabilities that sum to one"),
        ({"probabilities": TARGETS * np.nan}, "row 0: expected probabilities"),
        ({"weights": np.ones(3)}, r"weights: expected the shape \(90,\), got \(3,\)"),
        ({"weights": -np.ones(90)}, "weights: expected finite numbers, none negative"),
        ({"weights": np.zeros(90)}, "one positive"),
        (
            {"embeddings": np.ones((3, 4))},
            r"embeddings: expected the shape \(90, d\), got \(3, 4\)",
        ),
        ({"embeddings": np.full((90, 4), np.inf)}, "embeddings: expected finite numbers"),
        ({"texts": [], "probabilities": np.empty((0, 3))}, "at least one text and two classes"),
        ({"texts": [" "] * 90}, "none of the 90 texts holds a word"),
        ({"texts": [*TEXTS[:-1], None]}, "row 89: expected text, got NoneType"),
    ],
)
def test_wrong_data_is_named(change: dict[str, Any], message: str) -> None:
    given_ = {"texts": TEXTS, "probabilities": TARGETS, "classes": CLASSES, **change}
    with pytest.raises(DataError, match=message):
        fit_linear(**given_)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match="needs tfidf=True, an encoder or embeddings"):
        fit_linear(TEXTS, TARGETS, CLASSES, tfidf=False)
    with pytest.raises(ConfigError, match="C: expected a positive number or 'auto', got -1"):
        fit_linear(TEXTS, TARGETS, CLASSES, C=-1)


def test_folders_that_hold_no_student(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; expected the folder of a student"):
        load_student(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        load_student(tmp_path)
    config.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="expected a JSON object, got list"):
        load_student(tmp_path)
    config.write_text('{"kind": "lnear"}', encoding="utf-8")
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        load_student(tmp_path)
    config.write_text('{"kind": "linear", "format": 2}', encoding="utf-8")
    with pytest.raises(DataError, match="of format 1, got 'linear' of format 2"):
        load_student(tmp_path)


def test_a_kill_while_saving_leaves_no_student_or_a_whole_one(tmp_path: Path) -> None:
    code = (
        "import sys; from llmlabel.distill import fit_linear\n"
        "pair = [fit_linear(['free gift', 'lunch today'], [[0, 1], [1, 0]], c, meta={'classes': c})"
        " for c in (['A', 'B'], ['C', 'D'])]\n"
        "print('ready', flush=True)\n"
        "while True: [s.save(sys.argv[1]) for s in pair]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while not (tmp_path / "config.json").exists():
        time.sleep(0.001)
    time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    try:
        student = load_student(tmp_path)
    except DataError as error:
        assert "expected the folder of a student" in str(error)
        return
    found = student.predict(["a free gift"]).tolist()
    assert found == [student.classes[1]]
    assert student.meta["classes"] == list(student.classes)


def test_the_named_encoder_comes_back_by_its_name(minilm: None, tmp_path: Path) -> None:
    from llmlabel.embed import load_encoder

    encoder = load_encoder("all-MiniLM-L6-v2")
    student = fit_linear(TEXTS, TARGETS, CLASSES, encoder=encoder, tfidf=False)
    student.save(tmp_path)
    assert not (tmp_path / "encoder").exists()
    again = load_student(tmp_path)
    np.testing.assert_allclose(again.predict_proba(NEW), student.predict_proba(NEW), atol=1e-9)
    assert (again.predict(NEW) == [CLASSES[i] for i in NEW_TARGETS.argmax(axis=1)]).mean() > 0.9


def confused(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of two classes, and their gold."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 2, n)
    vectors = rng.normal(size=(n, 8)) + 1.6 * np.eye(8)[gold]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), gold


def test_gold_rows_mend_labels_that_are_wrong_in_the_same_way():
    vectors, gold = confused(400, 0)
    other, truth = confused(1000, 1)
    flipped = np.where(vectors[:, 2] > 0.1, 0, gold)  # the error is systematic
    targets = np.where(np.eye(2)[flipped] == 1, 0.9, 0.1)
    known = np.full(400, -1)
    known[:120] = gold[:120]
    texts, asked = ["x"] * 400, ["x"] * 1000
    options = {"embeddings": vectors, "tfidf": False}
    weak = fit_linear(texts, targets, "AB", **options)
    mended = fit_linear(texts, targets, "AB", gold=known, **options)
    hits = [(s.predict_proba(asked, other).argmax(1) == truth).mean() for s in (weak, mended)]
    assert hits[1] > hits[0] + 0.02
    assert mended.facts["gold_rows"] == 120
    assert mended.facts["gold_weight"] > 1
    assert mended.facts["gold_log_loss"] > 0


def test_the_temperature_is_that_of_held_out_gold_rows():
    vectors, gold = confused(600, 2)
    other, truth = confused(2000, 3)
    known = np.where(np.arange(600) < 300, gold, -1)
    fitted = {}
    for calibrate in (True, False):
        student = fit_linear(
            ["x"] * 600,
            np.eye(2)[gold],
            "AB",
            embeddings=vectors,
            tfidf=False,
            rounds=3,  # makes it bold
            gold=known,
            calibrate=calibrate,
        )
        fitted[calibrate] = evaluate(truth, student.predict_proba(["x"] * 2000, other), "AB").ece
        assert ("temperature" in student.facts) is calibrate
    assert fitted[True] < fitted[False]


def test_gold_that_is_no_class_is_an_error():
    with pytest.raises(DataError, match="expected -1 or a class below 2, got 2"):
        fit_linear(["a", "b"], np.eye(2), "AB", gold=[0, 2])
    with pytest.raises(DataError, match=r"gold: expected the shape \(2,\)"):
        fit_linear(["a", "b"], np.eye(2), "AB", gold=[0])
