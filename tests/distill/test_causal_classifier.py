"""A causal language model that classifies by what it finds likeliest."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from llmlabel.distill.causal import CausalStudent
from llmlabel.distill.causal_classifier import (
    CausalClassifier,
    classifier_rows,
    fit_causal_classifier,
)
from llmlabel.errors import ConfigError, DataError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_causal import save_tiny, tiny_llama, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)  # two that spin on a busy machine make it ten times slower

CLASSES = ["HAM", "SPAM", "OTHER"]
LABELS = {"HAM": " ham", "SPAM": " spam", "OTHER": " hamster"}
TEMPLATE = "text: {text}\nanswer:"
TEXTS = ["a lovely song", "free gift", "", "is it good or bad? {text}", "madrid " * 9]


def loaded(tokenizer, **more):
    model = tiny_llama(tokenizer, initializer_range=0.4, **more)
    return CausalStudent(model=model, tokenizer=tokenizer, base=None, base_fingerprint="")


def classifier(tokenizer, **more):
    return CausalClassifier(
        loaded(tokenizer), tuple(CLASSES), tuple(LABELS.values()), TEMPLATE, **more
    )


@pytest.mark.parametrize("bos", [False, True])
def test_probabilities_are_the_summed_log_probabilities_of_each_label_alone(bos):
    tokenizer = tiny_tokenizer(bos=bos)
    found = classifier(tokenizer)
    P = found.predict_proba(TEXTS)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    for i, text in enumerate(TEXTS):
        prompt = TEMPLATE.replace("{text}", text)
        scores = []
        for label in LABELS.values():
            ids = [*tokenizer(prompt + label)["input_ids"], tokenizer.eos_token_id]
            start = len(tokenizer(prompt)["input_ids"])
            assert tokenizer(prompt)["input_ids"] == ids[:start]
            with torch.no_grad():
                log_p = found.student.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            scores.append(sum(float(log_p[at - 1, ids[at]]) for at in range(start, len(ids))))
        expected = np.exp(np.array(scores) - max(scores))
        np.testing.assert_allclose(P[i], expected / expected.sum(), atol=1e-4)
    assert found.predict(TEXTS).tolist() == [CLASSES[c] for c in P.argmax(axis=1)]
    order = [3, 0, 4, 2, 1]
    np.testing.assert_allclose(found.predict_proba([TEXTS[i] for i in order]), P[order], atol=1e-5)
    assert found.predict_proba([]).shape == (0, 3)


def test_a_label_that_melts_into_the_prompt_is_scored_as_one_text():
    tokenizer = tiny_tokenizer()
    found = CausalClassifier(loaded(tokenizer), ("A", "B"), ("s", "x"), "{text} i")
    ids = [[*tokenizer(f"what i{e}")["input_ids"], 1] for e in "sx"]
    assert ids[0][:-2] != ids[1][:-2]  # " is" is one token
    with torch.no_grad():
        scores = []
        for row in ids:
            log_p = found.student.model(torch.tensor([row])).logits[0].log_softmax(-1)
            scores.append(sum(float(log_p[at - 1, row[at]]) for at in range(1, len(row))))
    expected = np.exp(np.array(scores) - max(scores))
    np.testing.assert_allclose(
        found.predict_proba(["what"])[0], expected / expected.sum(), atol=1e-5
    )


def test_a_long_text_loses_its_beginning():
    tokenizer = tiny_tokenizer(bos=True)
    found = classifier(tokenizer, max_length=24)
    long = "ham " * 50 + "free gift, madrid, paris, good"
    np.testing.assert_allclose(
        found.predict_proba([long]), found.predict_proba(["spam " + long]), atol=1e-6
    )
    assert len(found._tokens([long])[0][0]) + 3 <= 24
    assert found._tokens([long])[0][0][0] == tokenizer.bos_token_id
    with pytest.raises(DataError, match="row 0: a prompt of"):
        classifier(tokenizer, max_length=2).predict_proba(["a"])


def one_of(word, i):
    return f"{['a', 'the', 'my', 'is it', 'what'][i % 5]} {word}"


def data(n=30):
    words = [["song", "lovely"], ["free", "gift"], ["madrid", "paris"]]
    gold = np.arange(n) % 3
    texts = [one_of(words[c][i % 2], i) for i, c in enumerate(gold)]
    return texts, np.eye(3)[gold] * 0.9 + 0.1 / 3, gold


def test_a_tiny_model_learns_classes_and_is_saved(tmp_path):
    base = save_tiny(tmp_path / "base")
    texts, P, gold = data()
    student = fit_causal_classifier(
        texts, P, CLASSES, model=base, template=TEMPLATE, labels=LABELS, targets="soft",
        least=0.0, epochs=25, batch_size=15, learning_rate=6e-3, device="cpu", max_length=64,
        meta={"task": "t"},
    )  # fmt: skip
    found = student.predict_proba(texts)
    assert (found.argmax(axis=1) == gold).all()
    # Trained on soft targets with rest 0.033 each: it says about that, not certainty.
    assert np.abs(found - P).mean() < 0.05
    assert student.describe()["kind"] == "causal"
    assert student.describe()["rows"] == 90
    student.save(tmp_path / "saved")
    again = CausalClassifier.load(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(again.predict_proba(texts, None), found, atol=1e-6)
    assert (again.classes, again.meta) == (student.classes, {"task": "t"})
    assert again.describe() == student.describe()
    (tmp_path / "saved" / "config.json").write_text('{"kind": "linear"}')
    with pytest.raises(DataError, match="expected a 'causal' student of format 1, got 'linear'"):
        CausalClassifier.load(tmp_path / "saved")


def test_an_adapter_classifies_through_its_base(tmp_path):
    pytest.importorskip("peft")
    base = save_tiny(tmp_path / "base")
    texts, P, gold = data(9)
    student = fit_causal_classifier(
        texts, P, CLASSES, model=base, epochs=40, batch_size=9, learning_rate=3e-2, device="cpu",
        lora={"r": 8, "target_modules": "all-linear"}, max_length=64, folder=tmp_path / "run",
    )  # fmt: skip
    assert (student.predict_proba(texts).argmax(axis=1) == gold).all()
    student.save(tmp_path / "saved")
    again = CausalClassifier.load(tmp_path / "saved", device="cpu")
    assert again.student.has_adapter
    np.testing.assert_allclose(again.predict_proba(texts), student.predict_proba(texts), atol=1e-5)


def test_rows_of_hard_soft_and_drawn_targets():
    P = [[0.7, 0.28, 0.02], [0.0, 0.5, 0.5]]
    labels = list(LABELS.values())

    def rows(targets, texts=("a", "b"), P=P, **more):
        found = classifier_rows(list(texts), P, CLASSES, labels, TEMPLATE, targets, **more)
        return [(r["prompt"][6], r["completion"], round(r["weight"], 3)) for r in found]

    assert rows("hard") == [("a", " ham", 1.0), ("b", " spam", 1.0)]
    assert rows("soft", weights=[2, 1]) == [
        ("a", " ham", 1.429),
        ("a", " spam", 0.571),
        ("b", " spam", 0.5),
        ("b", " hamster", 0.5),
    ]
    assert rows("hard", weights=[0, 1]) == [("b", " spam", 1.0)]
    many = rows("sample", ["a"] * 2000, [P[0]] * 2000, seed=3)
    assert len(many) == 2000
    drawn = np.mean([c == " ham" for _, c, _ in many])
    assert drawn == pytest.approx(0.7, abs=0.04)
    assert many == rows("sample", ["a"] * 2000, [P[0]] * 2000, seed=3)
    never = rows("sample", ["b"] * 500, [P[1]] * 500)
    assert " ham" not in {c for _, c, _ in never}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"template": "text:"}, "template: expected {text} once"),
        ({"labels": {"HAM": "a"}}, "labels: expected one for each of HAM, SPAM, OTHER, got HAM"),
        ({"labels": dict.fromkeys(CLASSES, "a")}, "labels: expected different texts"),
        ({"targets": "best"}, "targets: expected 'hard', 'soft' or 'sample', got 'best'"),
        ({"targets": "soft", "least": 0.5}, r"least: expected a number in \[0, 1/3\], got 0.5"),
    ],
)
def test_what_cannot_be_trained_is_said(more, said):
    texts, P, _ = data(6)
    with pytest.raises(ConfigError, match=said):
        fit_causal_classifier(texts, P, CLASSES, model="none", **more)
    with pytest.raises(DataError, match="probabilities: expected the shape"):
        fit_causal_classifier(texts, P[:3], CLASSES, model="none")
