"""A fine-tuned student as a folder of transformers or sentence-transformers."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from llmlabel.distill.causal_classifier import CausalClassifier
from llmlabel.distill.encoder import EncoderStudent
from llmlabel.distill.export.parity import Exported, Predict, checked
from llmlabel.distill.network import quiet
from llmlabel.distill.student import Student
from llmlabel.errors import ConfigError

__all__ = ["export_transformers", "merged"]


def export_transformers(student: Student, folder: Path, texts: Sequence[str]) -> Exported:
    """Write a fine-tuned student; an adapter is merged into its model.

    With the architecture's own head it is a transformers folder. With a head over the mean
    of the token vectors, which transformers has no class for, it is a
    sentence-transformers folder whose "embedding" of a text are its logits. A causal
    student becomes the plain language model.
    """
    if isinstance(student, CausalClassifier):
        student.student.merge(folder)
        usage = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            f"# prompt: {student.template!r}; labels: {list(student.labels)}"
        )
        return Exported("transformers", 0.0, usage, ("transformers", "torch"))
    if not isinstance(student, EncoderStudent):
        raise ConfigError("a linear student is no transformers model; export it as sklearn")
    if student.options.pooling == "mean":
        return _sentence(student, folder, texts)
    with quiet():
        merged(student).save_pretrained(folder)
        student.network.tokenizer.save_pretrained(folder)

    def load() -> Predict:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from llmlabel.distill.network import Network

        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(folder)
        plain = Network(model, AutoTokenizer.from_pretrained(folder), student.options.max_length)
        return lambda asked: _probabilities(student, plain.logits(asked))

    usage = (
        "from transformers import pipeline\n\n"
        'classify = pipeline("text-classification", "FOLDER", top_k=None)\nclassify(["a text"])'
    )
    difference = checked(student, folder, texts, load)
    return Exported("transformers", difference, usage, ("transformers", "torch"))


def merged(student: EncoderStudent) -> Any:
    """Return a copy of the student's model without an adapter: it is merged into the weights."""
    model = student.network.model
    if student.options.lora is None:
        return model
    model = copy.deepcopy(model)
    if student.options.pooling == "mean":
        model.encoder = model.encoder.merge_and_unload()
        return model
    return model.merge_and_unload()


def _probabilities(
    student: EncoderStudent, logits: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = (
        expit(logits) if student.multi_label else softmax(logits, axis=1)
    )
    return found


def _sentence(student: EncoderStudent, folder: Path, texts: Sequence[str]) -> Exported:
    import torch
    from sentence_transformers import SentenceTransformer, models

    model = merged(student)
    inner = folder / "0_Transformer"
    with quiet():
        model.encoder.save_pretrained(inner)
        student.network.tokenizer.save_pretrained(inner)
        transformer = models.Transformer(str(inner), max_seq_length=student.options.max_length)
    width, k = model.config.hidden_size, len(student.classes)
    head = models.Dense(width, k, activation_function=torch.nn.Identity())
    with torch.no_grad():
        for name, value in model.dense().items():
            getattr(head.linear, name).copy_(value)
    whole = SentenceTransformer(
        modules=[transformer, models.Pooling(width, "mean"), models.Normalize(), head],
        device="cpu",
    )
    import shutil

    shutil.rmtree(folder)
    with quiet():
        whole.save(str(folder), create_model_card=False)
    (folder / "labels.json").write_text(json.dumps(list(student.classes)), encoding="utf-8")

    def load() -> Predict:
        with quiet():
            loaded = SentenceTransformer(str(folder), device="cpu")

        def predict(asked: Sequence[str]) -> npt.NDArray[np.float64]:
            logits = loaded.encode(list(asked), show_progress_bar=False)
            return _probabilities(student, np.asarray(logits, np.float64))

        return predict

    squash = "expit" if student.multi_label else "softmax"
    usage = (
        "import json\nfrom pathlib import Path\n\n"
        f"from scipy.special import {squash}\n"
        "from sentence_transformers import SentenceTransformer\n\n"
        'labels = json.loads(Path("FOLDER/labels.json").read_text())\n'
        'model = SentenceTransformer("FOLDER")  # its embeddings are logits\n'
        f'{squash}(model.encode(["a text"]){"" if student.multi_label else ", axis=1"})'
    )
    difference = checked(student, folder, texts, load)
    return Exported("transformers", difference, usage, ("sentence-transformers", "scipy"))
