"""Exports: folders that give the student's probabilities in a process without llmlabel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmlabel.distill import fit_encoder, fit_linear
from llmlabel.distill.export import default_format, export_student
from llmlabel.distill.export import parity as module
from llmlabel.embed import fit_tfidf_svd, load_encoder
from llmlabel.errors import ConfigError, UnknownNameError

from .tiny_encoder import CLASSES, make, options, tiny

ASKED = ["the parcel is late", "invoice charged twice, please", "wrong size", "", "ü 你好"]


def elsewhere(usage: str, folder: Path) -> list[list[float]] | list[str]:
    """Run the code of a model card in a process that cannot import llmlabel."""
    *setup, last = usage.replace("FOLDER", str(folder)).replace('["a text"]', "asked").splitlines()
    code = "\n".join(
        [
            "import sys",
            "sys.modules['llmlabel'] = None",
            f"asked = {ASKED!r}",
            *setup,
            "import json",
            f"found = {last}",
            "found = found[1] if isinstance(found, tuple) else found",
            "print(json.dumps(found.tolist() if hasattr(found, 'tolist') else found))",
        ]
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("encoder", [None, "tfidf-svd", "minilm"])
def test_a_linear_student_is_a_pipeline_of_scikit_learn(tmp_path, request, encoder, classes):
    texts, gold = make(90, 0)
    targets = np.eye(3)[gold][:, :classes] + 0.1
    targets /= targets.sum(axis=1, keepdims=True)
    if encoder == "minilm":
        request.getfixturevalue("minilm")
    found = {
        None: lambda: None,
        "tfidf-svd": lambda: fit_tfidf_svd(texts),
        "minilm": lambda: load_encoder("auto"),
    }[encoder]()
    student = fit_linear(texts, targets, CLASSES[:classes], encoder=found)
    assert default_format(student) == "sklearn"
    done = export_student(student, tmp_path / "out", "sklearn", texts[:20])
    assert done.difference < 1e-2
    np.testing.assert_allclose(
        elsewhere(done.usage, tmp_path / "out"), student.predict_proba(ASKED), atol=1e-2
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("peft", reason="peft is not installed")
    return str(tiny(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("lora", [None, {"r": 4, "target_modules": "all-linear"}])
@pytest.mark.parametrize("pooling", ["mean", "model"])
@pytest.mark.parametrize("form", ["transformers", "onnx"])
def test_a_fine_tuned_student_in_every_form(model, tmp_path, form, pooling, lora):
    if form == "onnx":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    texts, gold = make(60, 1)
    student = fit_encoder(
        texts,
        np.eye(3)[gold],
        CLASSES,
        options=options(model, pooling=pooling, lora=lora, epochs=2),
    )
    before = student.network.logits(ASKED)
    done = export_student(student, tmp_path / "out", form, texts[:20])
    assert done.difference < 1e-4
    np.testing.assert_array_equal(student.network.logits(ASKED), before)  # it stayed as it was
    found = elsewhere(done.usage, tmp_path / "out")
    expected = student.predict_proba(ASKED)
    if form == "onnx":
        assert found == [CLASSES[c] for c in expected.argmax(1)]
    elif pooling == "model":
        scores = [{r["label"]: r["score"] for r in row} for row in found]
        got = [[row[c] for c in CLASSES] for row in scores]
        np.testing.assert_allclose(got, expected, atol=1e-4)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch):
    texts, gold = make(60, 2)
    student = fit_linear(texts, np.eye(3)[gold], CLASSES)
    monkeypatch.setattr(module, "_MOST", -1.0)
    with pytest.raises(ConfigError, match="differs from the student by up to"):
        export_student(student, tmp_path / "out", "sklearn", texts[:5])
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_said(tmp_path):
    texts, gold = make(60, 3)
    student = fit_linear(texts, np.eye(3)[gold], CLASSES)
    with pytest.raises(ConfigError, match="has no ONNX form"):
        export_student(student, tmp_path / "a", "onnx", texts)
    with pytest.raises(ConfigError, match="export it as sklearn"):
        export_student(student, tmp_path / "a", "transformers", texts)
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export_student(student, tmp_path / "a", "onx", texts)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(ConfigError, match="not empty"):
        export_student(student, tmp_path / "b", "sklearn", texts)
