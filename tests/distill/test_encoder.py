"""Fine-tuned students on tiny random encoders: what they learn, and that they come back the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")

from llmlabel.distill import load_student
from llmlabel.distill.encoder import EncoderStudent, balanced, fit_encoder
from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.losses import loss_function, packed_labels
from llmlabel.errors import ConfigError, DataError, MissingExtraError

from .tiny_encoder import CLASSES, make, options, tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("pooling", ["mean", "model"])
@pytest.mark.parametrize("lora", [None, {"r": 8, "target_modules": "all-linear"}])
def test_it_learns_and_comes_back_to_the_same_logits(model, tmp_path, pooling, lora):
    texts, gold = make(150, 0)
    student = fit_encoder(
        texts,
        np.eye(3)[gold],
        CLASSES,
        options=options(model, pooling=pooling, lora=lora, epochs=25 if pooling == "model" else 8),
    )
    asked, truth = make(80, 1)
    assert (student.predict_proba(asked).argmax(1) == truth).mean() > 0.9
    assert student.predict(asked[:2]).tolist() == [CLASSES[c] for c in truth[:2]]
    student.save(tmp_path / "s")
    again = load_student(tmp_path / "s")
    assert isinstance(again, EncoderStudent)
    np.testing.assert_array_equal(again.network.logits(asked), student.network.logits(asked))
    said = again.describe()
    assert (said["trained_parameters"] < said["parameters"]) or lora is None
    assert again.classes == CLASSES
    alone = np.vstack([again.predict_proba([text]) for text in asked[:5]])
    np.testing.assert_allclose(alone, again.predict_proba(asked)[:5], atol=1e-5)


def test_soft_labels_and_weights_count(model):
    texts, gold = make(120, 2)
    wrong = np.eye(3)[(gold + 1) % 3]
    rows = [*texts, *texts]
    targets = np.vstack([np.eye(3)[gold], wrong])
    weights = np.repeat([1.0, 0.05], 120)
    student = fit_encoder(rows, targets, CLASSES, options=options(model), weights=weights)
    asked, truth = make(60, 3)
    assert (student.predict_proba(asked).argmax(1) == truth).mean() > 0.9


def test_self_training_learns_from_rows_without_labels(model):
    texts, gold = make(200, 4)
    targets = np.full((200, 3), 1 / 3)
    weights = np.zeros(200)
    targets[:60], weights[:60] = np.eye(3)[gold[:60]], 1
    known = np.where(np.arange(200) < 10, gold, -1)
    student = fit_encoder(
        texts,
        targets,
        CLASSES,
        options=options(model, rounds=1),
        weights=weights,
        gold=known,
        partner=np.full((200, 3), 1 / 3),
    )
    assert len(student.facts["training"]) == 2
    assert student.facts["training"][1]["steps"] > student.facts["training"][0]["steps"]
    assert (student.predict_proba(texts).argmax(1) == gold).mean() > 0.9


def test_held_out_rows_stop_the_training(model):
    texts, _ = make(120, 5)
    rng = np.random.default_rng(0)
    noise = np.eye(3)[rng.integers(0, 3, 120)]  # nothing to learn: the loss only rises
    held = np.arange(120) < 48
    student = fit_encoder(
        texts, noise, CLASSES, options=options(model, patience=1, epochs=30), held=held
    )
    told = student.facts["training"][0]
    assert told["epochs"] < 30
    assert len(told["held_out_losses"]) == round(told["epochs"])
    assert student.facts["rows"] == 72


def test_several_classes_a_row(model):
    texts, gold = make(150, 6)
    more, other = make(150, 7)
    rows = [f"{a} {b}" for a, b in zip(texts, more, strict=True)]
    targets = np.maximum(np.eye(3)[gold], np.eye(3)[other])
    student = fit_encoder(rows, targets, CLASSES, options=options(model, loss="binary", epochs=12))
    found = student.predict_proba(rows) > 0.5
    assert student.multi_label
    assert (found == (targets > 0.5)).mean() > 0.9
    with pytest.raises(DataError, match="that sum to one"):
        fit_encoder(rows, targets, CLASSES, options=options(model))


@pytest.mark.parametrize("loss", ["soft", "smooth", "gce", "binary"])
def test_a_loss_is_the_mean_over_rows_however_they_are_dealt(loss):
    import torch

    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(6, 3)), dtype=torch.float32)
    labels = torch.tensor(packed_labels(rng.dirichlet(np.ones(3), 6), rng.random(6)))
    compute = loss_function(loss)
    whole = compute({"logits": logits}, labels)
    parts = [
        compute({"logits": logits[s]}, labels[s], num_items_in_batch=torch.tensor(6 * 4))
        for s in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_gce_pulls_less_at_rows_that_look_mislabeled():
    import torch

    def pull(loss: str) -> float:
        logits = torch.tensor([[4.0, -4.0]], requires_grad=True)
        labels = torch.tensor([[0.0, 1.0, 1.0]])
        loss_function(loss)({"logits": logits}, labels).backward()
        assert logits.grad is not None
        return float(logits.grad.abs().max())

    assert pull("gce") < 0.1 * pull("soft")


def test_balanced_weights_make_classes_alike():
    targets = np.eye(2)[[0] * 9 + [1]]
    weights = balanced(targets, np.ones(10), np.arange(10))
    assert (targets * weights[:, None]).sum(0).tolist() == pytest.approx([5, 5])


def test_an_adapter_for_another_model_is_refused(model, tmp_path):
    from transformers import BertModel

    texts, gold = make(30, 8)
    base = tiny(tmp_path / "base")
    lora = {"r": 2, "target_modules": "all-linear"}
    student = fit_encoder(
        texts, np.eye(3)[gold], CLASSES, options=options(str(base), lora=lora, epochs=1)
    )
    student.save(tmp_path / "s")
    changed = BertModel.from_pretrained(base)
    changed.embeddings.word_embeddings.weight.data += 1
    changed.save_pretrained(base)
    with pytest.raises(ConfigError, match="trained on another"):
        EncoderStudent.load(tmp_path / "s")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "hinge"}, "loss: expected soft or smooth or gce or binary, got 'hinge'"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"hold_out": 1.0}, "hold_out: expected a share"),
        ({"pooling": "max"}, "pooling: expected mean or model"),
        ({"learning_rate": -1.0}, "positive learning_rate"),
    ],
)
def test_wrong_options_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        EncoderOptions(**given)


def test_a_wrong_lora_argument_is_named(model):
    texts, gold = make(10, 0)
    with pytest.raises(ConfigError, match="rank"):
        fit_encoder(
            texts, np.eye(3)[gold], CLASSES, options=options(model, lora={"rank": 4}, epochs=1)
        )


KILLED = """
import sys, numpy as np
from pathlib import Path
from tests.distill.tiny_encoder import CLASSES, make, options
from llmlabel.distill.encoder import fit_encoder
texts, gold = make(96, 9)
student = fit_encoder(texts, np.eye(3)[gold], CLASSES, checkpoints=Path(sys.argv[2]),
    options=options(sys.argv[1], epochs=20, rounds=0))
student.save(sys.argv[3])
print(student.facts["training"][0])
"""


def test_a_killed_training_goes_on_to_the_same_weights(model, tmp_path):
    def start(out: str, checkpoints: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KILLED, model, str(tmp_path / checkpoints)]
        return subprocess.Popen(
            [*command, str(tmp_path / out)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    whole = start("whole", "a")
    killed = start("killed", "b")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "b").glob("*/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed").exists()
    again = start("again", "b")
    said, _ = again.communicate(timeout=120)
    assert "resumed_at" in said
    assert "'steps': 120" in said
    whole.communicate(timeout=120)
    texts, _ = make(20, 10)
    both = [
        EncoderStudent.load(tmp_path / name).network.logits(texts) for name in ("whole", "again")
    ]
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["kind"] == "encoder"


def test_bfloat16_is_taken_where_it_answers_alike(model, monkeypatch):
    import torch

    from llmlabel.distill import network as module

    texts, gold = make(60, 11)
    student = fit_encoder(texts, np.eye(3)[gold], CLASSES, options=options(model, epochs=2))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    fast = module.fastest(student.network, texts)
    assert fast.halved
    assert np.abs(fast.logits(texts) - student.network.logits(texts)).max() < 0.1
    monkeypatch.setattr(module, "_MOST_APART", -1.0)
    assert module.fastest(student.network, texts) is student.network
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert module.fastest(student.network, texts) is student.network


def test_balance_holds_for_soft_targets():
    targets = np.random.default_rng(0).dirichlet([8.0, 1.0], 200)
    weights = balanced(targets, np.ones(200), np.arange(200))
    mass = (targets * weights[:, None]).sum(0)
    assert targets[:, 0].mean() > 0.85
    assert mass[0] / mass.sum() < 0.6


def test_checkpoints_of_other_labels_are_no_start(model, tmp_path):
    texts, gold = make(60, 12)
    common = {"options": options(model, epochs=4), "checkpoints": tmp_path / "c"}
    first = fit_encoder(texts, np.eye(3)[gold], CLASSES, **common)
    again = fit_encoder(texts, np.eye(3)[gold], CLASSES, **common)
    assert again.facts["training"][0]["resumed_at"] == "its end"
    np.testing.assert_array_equal(first.network.logits(texts), again.network.logits(texts))
    other = fit_encoder(texts, np.eye(3)[(gold + 1) % 3], CLASSES, **common)
    assert "resumed_at" not in other.facts["training"][0]
    assert (other.predict_proba(texts).argmax(1) == (gold + 1) % 3).mean() > 0.8


@pytest.mark.parametrize(("rows", "epochs"), [(100, 15), (600, 8), (5000, 4)])
def test_few_rows_are_trained_more_often(rows, epochs):
    assert EncoderOptions().epochs_for(rows) == epochs
    assert EncoderOptions(epochs=3).epochs_for(rows) == 3


def test_what_is_not_installed_is_named(monkeypatch):
    from llmlabel import extras

    real = extras.importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util, "find_spec", lambda n, *a: None if n == "peft" else real(n, *a)
    )
    with pytest.raises(MissingExtraError, match="a fine-tuned student needs the package 'peft'"):
        fit_encoder(["a"], [[1, 0, 0]], CLASSES, options=EncoderOptions(lora={}))
