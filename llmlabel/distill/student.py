"""What a student is, of whatever kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Student"]


@runtime_checkable
class Student(Protocol):
    """A small model that labels texts, and can say what it is."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probability columns."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What was kept with it: the task, the recipe."""

    def predict_proba(
        self, texts: Sequence[str], embeddings: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Return class probabilities, shape (n, k)."""

    def predict(
        self, texts: Sequence[str], embeddings: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.object_]:
        """Return the name of each text's likeliest class, shape (n,)."""

    def describe(self) -> dict[str, Any]:
        """Return what a report says about it."""

    def save(self, folder: str | Path) -> None:
        """Write it into a folder that `load_student` reads."""
