"""A student as one ONNX graph, from tokens to logits, pooling and head inside."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from llmlabel.distill.encoder import EncoderStudent
from llmlabel.distill.export.parity import Exported, Predict, checked
from llmlabel.distill.export.transformers import merged
from llmlabel.distill.network import quiet
from llmlabel.distill.student import Student
from llmlabel.errors import ConfigError, MissingExtraError

__all__ = ["export_onnx"]

_FILE: Final = "model.onnx"
_NAMES: Final = ("input_ids", "attention_mask", "token_type_ids")
_OPSET: Final = 18


def export_onnx(student: Student, folder: Path, texts: Sequence[str]) -> Exported:
    """Write a fine-tuned student as an ONNX graph in float32, with its tokenizer.

    No int8: torch's dynamic quantisation moved embeddings to cosine .77 (docs/log.md).

    Raises
    ------
    MissingExtraError
        onnx, onnxscript or onnxruntime is not installed.
    """
    if not isinstance(student, EncoderStudent):
        raise ConfigError(
            f"a student of kind {student.describe()['kind']!r} has no ONNX form: "
            "a fine-tuned encoder has"
        )
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "onnx", need="the ONNX export")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = student.network.tokenizer
    names = [name for name in _NAMES if name in tokenizer.model_input_names]
    _write(merged(student), names, folder / _FILE)
    tokenizer.save_pretrained(folder)
    described = {
        "labels": list(student.classes),
        "max_length": student.options.max_length,
        "multi_label": student.multi_label,
    }
    (folder / "llmlabel.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    difference = checked(student, folder, texts, lambda: _loaded(folder))
    return Exported("onnx", difference, _USAGE, ("onnxruntime", "tokenizers", "numpy"))


_USAGE: Final = """import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

facts = json.loads(Path("FOLDER/llmlabel.json").read_text())
tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding()
session = onnxruntime.InferenceSession("FOLDER/model.onnx")
read = tokenizer.encode_batch(["a text"])
given = {
    "input_ids": np.array([e.ids for e in read], np.int64),
    "attention_mask": np.array([e.attention_mask for e in read], np.int64),
    "token_type_ids": np.array([e.type_ids for e in read], np.int64),
}
logits = session.run(None, {i.name: given[i.name] for i in session.get_inputs()})[0]
[facts["labels"][i] for i in logits.argmax(axis=1)]"""


def _write(model: Any, names: list[str], file: Path) -> None:
    import torch
    from torch.export import Dim

    class Positional(torch.nn.Module):
        """The model with its features as arguments, which is what the exporter knows."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return self.model(**dict(zip(names, given, strict=True))).logits

    rows, width = Dim("rows"), Dim("width")
    example = tuple(torch.ones(2, 16, dtype=torch.long) for _ in names)
    with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of axis names that coincide; parity is checked
        torch.onnx.export(
            Positional().eval(),
            example,
            str(file),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(({0: rows, 1: width},) * len(names),),  # one *given
            dynamo=True,
            external_data=False,
            opset_version=_OPSET,
            verbose=False,
        )


def _loaded(folder: Path) -> Predict:
    """Load an export with onnxruntime and tokenizers alone."""
    import onnxruntime
    from tokenizers import Tokenizer

    facts = json.loads((folder / "llmlabel.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(facts["max_length"])
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(str(folder / _FILE), providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]

    def predict(asked: Sequence[str]) -> npt.NDArray[np.float64]:
        read = tokenizer.encode_batch(list(asked))
        given = {
            "input_ids": [e.ids for e in read],
            "attention_mask": [e.attention_mask for e in read],
            "token_type_ids": [e.type_ids for e in read],
        }
        feed = {name: np.array(given[name], np.int64) for name in wanted}
        logits = np.asarray(session.run(None, feed)[0], np.float64)
        found: npt.NDArray[np.float64] = (
            expit(logits) if facts["multi_label"] else softmax(logits, axis=1)
        )
        return found

    return predict
