"""What every filter says of documents: keep or drop, the reason, and the values behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Verdict"]


@dataclass(frozen=True)
class Verdict:
    """A filter's decisions on n documents.

    Parameters
    ----------
    reason : object array, shape (n,)
        Why a document is dropped; the empty string where it is kept.
    values
        The numbers that decided, one array of length n per name.

    Examples
    --------
    >>> Verdict(np.array(["", "too short"], object)).keep.tolist()
    [True, False]
    """

    reason: npt.NDArray[np.object_]
    values: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        """Bool array of shape (n,): whether each document is kept."""
        return np.asarray(self.reason == "", np.bool_)
