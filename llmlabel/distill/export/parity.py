"""What an export is, and the check that it answers as the student does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.distill.student import Student
from llmlabel.errors import ConfigError

__all__ = ["Exported", "checked"]

_MOST: Final = 1e-3
"""The largest difference of a probability."""

Predict = Callable[[Sequence[str]], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Exported:
    """A folder that was exported.

    Parameters
    ----------
    form
        Its format.
    difference
        The largest difference of a probability from the student's, on the compared texts.
    usage
        Python that loads and uses it.
    needs
        The packages that this takes.
    """

    form: str
    difference: float
    usage: str
    needs: tuple[str, ...]


def checked(
    student: Student,
    folder: Path,
    texts: Sequence[str],
    load: Callable[[], Predict],
) -> float:
    """Load an export anew, compare it, and return the largest difference of a probability.

    Raises
    ------
    ConfigError
        It differs.
    """
    expected = student.predict_proba(texts)
    found = load()(texts)
    difference = float(np.abs(found - expected).max())
    if not difference <= _MOST:
        raise ConfigError(
            f"{folder}: what was exported differs from the student by up to {difference:.3f} in a "
            f"probability (at most {_MOST} is allowed); it was not kept"
        )
    return difference
