"""Students: small models trained on a label model's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from llmlabel.distill import causal_classifier, encoder, linear
from llmlabel.distill.causal import (
    CausalStudent,
    TeacherLogits,
    fit_causal,
    rows_from_answers,
    store_teacher_logits,
)
from llmlabel.distill.causal_classifier import CausalClassifier, fit_causal_classifier
from llmlabel.distill.contest import Labels, fit_better
from llmlabel.distill.encoder import EncoderStudent, fit_encoder
from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.folders import read_config
from llmlabel.distill.heldout import fit_temperature
from llmlabel.distill.linear import LinearStudent, fit_linear
from llmlabel.distill.outoffold import out_of_fold
from llmlabel.distill.student import Student
from llmlabel.distill.tokens import TokenStudent, fit_tokens
from llmlabel.embed import HasEncode
from llmlabel.errors import UnknownNameError

__all__ = [
    "CausalClassifier",
    "CausalStudent",
    "EncoderOptions",
    "EncoderStudent",
    "Labels",
    "LinearStudent",
    "Student",
    "TeacherLogits",
    "TokenStudent",
    "fit_better",
    "fit_causal",
    "fit_causal_classifier",
    "fit_encoder",
    "fit_linear",
    "fit_temperature",
    "fit_tokens",
    "load_student",
    "out_of_fold",
    "rows_from_answers",
    "store_teacher_logits",
]

_LOADERS: Mapping[str, Callable[[Path, HasEncode | None], Student]] = {
    linear.KIND: LinearStudent.load,
    encoder.KIND: EncoderStudent.load,
    causal_classifier.KIND: CausalClassifier.load,
}


def load_student(folder: str | Path, encoder: HasEncode | None = None) -> Student:
    """Load the student of a folder, of whatever kind its config.json says.

    Parameters
    ----------
    folder
        What a student's ``save`` wrote.
    encoder
        The encoder of the training; by default the saved or the named one.

    Raises
    ------
    DataError
        The folder holds no student.
    UnknownNameError
        A student of a kind that nothing here knows.
    """
    folder = Path(folder)
    kind = str(read_config(folder).get("kind"))
    if kind not in _LOADERS:
        raise UnknownNameError("kind of student", kind, _LOADERS, where=str(folder / "config.json"))
    return _LOADERS[kind](folder, encoder)
