"""Students: small models trained on a label model's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from llmlabel.distill.folders import read_config
from llmlabel.distill.linear import KIND, LinearStudent, fit_linear
from llmlabel.embed import HasEncode
from llmlabel.errors import UnknownNameError

__all__ = ["LinearStudent", "fit_linear", "load_student"]

_LOADERS: Mapping[str, Callable[[Path, HasEncode | None], LinearStudent]] = {
    KIND: LinearStudent.load,
}


def load_student(folder: str | Path, encoder: HasEncode | None = None) -> LinearStudent:
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
