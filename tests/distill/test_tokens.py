"""A student of spans: taught by span LFs through the sequence model, it finds unseen names."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")

from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.tokens import TokenStudent, fit_tokens
from llmlabel.errors import ConfigError, DataError
from llmlabel.labelmodel import SequenceModel
from llmlabel.lf import Span, apply_spans, span_names, span_regex

from .tiny_encoder import tiny

COURIERS = ["courier", "box", "card"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny(tmp_path_factory.mktemp("tiny")))


def texts_of(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        f"please send {rng.choice(['the', 'my'])} {rng.choice(COURIERS)} late to the order {i}"
        for i in range(n)
    ]


def options(model: str, **given: object) -> EncoderOptions:
    base = {"epochs": 20, "learning_rate": 5e-3, "max_length": 32, "patience": None}
    return EncoderOptions(model=model, **{**base, **given})  # type: ignore[arg-type]


def test_it_finds_what_the_functions_find_and_comes_back(model, tmp_path):
    texts = texts_of(60, 0)
    lfs = [
        span_names("names", {"THING": COURIERS}),
        span_regex("after", r"\b(?:courier|box|card)(?= late)", "THING"),
    ]
    votes = apply_spans(lfs, texts, ["THING"])
    sequence = SequenceModel().fit(votes.votes, votes.lengths)
    probabilities = sequence.predict_proba(votes.votes, votes.lengths)
    student = fit_tokens(texts, votes, probabilities, options=options(model))
    asked = texts_of(20, 1)
    expected = apply_spans(lfs, asked, ["THING"])
    tags = sequence.predict_bio(expected.votes, expected.lengths)
    found = student.predict(asked)
    same = [f == e for f, e in zip(found, expected.spans(tags), strict=True)]
    assert np.mean(same) > 0.9
    assert all(isinstance(s, Span) for spans in found for s in spans)
    for text, rows in zip(asked, student.predict_proba(asked), strict=True):
        assert len(rows) == len(text.split())
        np.testing.assert_allclose(rows.sum(axis=1), 1)
    student.save(tmp_path / "s")
    again = TokenStudent.load(tmp_path / "s")
    for a, b in zip(again.predict_proba(asked), student.predict_proba(asked), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.predict(["", "card"])[0] == []
    long = "the " * 100 + "card"
    assert len(again.predict_proba([long])[0]) == 101
    assert again.predict_proba([long])[0][-1, 0] == 1  # beyond the model's length: outside


def test_what_does_not_fit_is_named(model, tmp_path):
    votes = apply_spans([span_names("n", {"THING": ["box"]})], ["a box"], ["THING"])
    with pytest.raises(DataError, match=r"expected probabilities of the shape \(2, 3\)"):
        fit_tokens(["a box"], votes, np.ones((3, 3)) / 3, options=options(model))
    with pytest.raises(ConfigError, match="leave lora out"):
        fit_tokens(["a box"], votes, np.ones((2, 3)) / 3, options=options(model, lora={}))
    (tmp_path / "config.json").write_text('{"kind": "linear"}')
    with pytest.raises(DataError, match="expected a student of kind 'tokens'"):
        TokenStudent.load(tmp_path)


def test_pieces_that_carry_the_space_before_a_word_belong_to_it():
    from types import SimpleNamespace

    from llmlabel.distill.tokens import _encode

    def tokenizer(texts, **_):
        # As byte-level tokenizers give them: special pieces empty, spaces counted to the word.
        return {
            "input_ids": [[0, 5, 6, 7, 1]],
            "offset_mapping": [[(0, 0), (0, 5), (5, 9), (9, 13), (0, 0)]],
        }

    network = SimpleNamespace(tokenizer=tokenizer, max_length=32)
    _, (first,) = _encode(network, ["Alice met Bob"])
    assert first.tolist() == [1, 2, 3]
