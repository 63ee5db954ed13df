"""Students as folders that load without llmlabel, each checked against the student itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from llmlabel.distill.causal_classifier import CausalClassifier
from llmlabel.distill.encoder import EncoderStudent
from llmlabel.distill.export.onnx import export_onnx
from llmlabel.distill.export.parity import Exported
from llmlabel.distill.export.sklearn import export_sklearn
from llmlabel.distill.export.transformers import export_transformers
from llmlabel.distill.linear import LinearStudent
from llmlabel.distill.student import Student
from llmlabel.errors import ConfigError, UnknownNameError

__all__ = ["FORMATS", "Exported", "default_format", "export_student"]

FORMATS: Final[Mapping[str, Callable[[Student, Path, Sequence[str]], Exported]]] = {
    "sklearn": export_sklearn,
    "transformers": export_transformers,
    "onnx": export_onnx,
}


def export_student(
    student: Student, folder: str | Path, form: str, texts: Sequence[str]
) -> Exported:
    """Write a student as a folder that loads without llmlabel.

    Parameters
    ----------
    student
        What is exported.
    folder
        A new or empty folder.
    form
        ``"sklearn"``: a scikit-learn pipeline. ``"transformers"``: a transformers or
        sentence-transformers folder. ``"onnx"``: one graph from tokens to logits.
    texts
        Texts on which the export, loaded anew, is compared with the student; real ones tell
        most.

    Raises
    ------
    UnknownNameError
        No such format.
    ConfigError
        The student has no such form, the folder is in use, or what was exported gives other
        probabilities; then nothing is left behind.
    """
    folder = Path(folder)
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not empty; name a new folder")
    try:
        return FORMATS[form](student, folder, texts)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half an export is none
        raise


def default_format(student: Student) -> str:
    """Return the format that is nearest to what the student is."""
    if isinstance(student, LinearStudent):
        return "sklearn"
    assert isinstance(student, EncoderStudent | CausalClassifier)
    return "transformers"
