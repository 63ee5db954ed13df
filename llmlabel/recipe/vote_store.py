"""Votes kept per labeling function, so that after a change only what has changed votes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from llmlabel.io import atomic_write
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["VoteStore", "joined"]

_MOST: Final = 1000  # columns kept: the oldest go first
_CODE: Final = 1  # raised when an LF kind's votes change with the code


@dataclass(frozen=True)
class VoteStore:
    """A folder with a file per labeling function and what it voted on."""

    folder: Path

    def get(self, key: str, splits: Sequence[str]) -> dict[str, VoteMatrix] | None:
        """Return an LF's votes on each split, or None."""
        file = self._file(key)
        if not file.is_file():
            return None
        try:
            with file.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
                return {s: _read(arrays, s) for s in splits}
        except (KeyError, ValueError, OSError, BadZipFile):  # of another version, or half a disk
            return None

    def put(self, key: str, votes: Mapping[str, VoteMatrix]) -> None:
        """Keep an LF's votes."""
        arrays: dict[str, Any] = {}
        for split, column in votes.items():
            arrays[f"{split}.votes"] = column.votes
            arrays[f"{split}.names"] = np.array([*column.lf_names, *column.classes], np.str_)
            if column.confidences is not None:
                arrays[f"{split}.confidences"] = column.confidences
        with atomic_write(self._file(key)) as part:
            np.savez(part, **arrays)

    def prune(self) -> None:
        """Forget the oldest columns beyond a thousand."""
        files = sorted(self.folder.glob("*.npz"), key=lambda f: f.stat().st_mtime)
        for file in files[:-_MOST]:
            file.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key[:24]}-{_CODE}.npz"


def joined(columns: Sequence[VoteMatrix]) -> VoteMatrix:
    """Return the matrix of single columns over the same rows.

    Examples
    --------
    >>> one = VoteMatrix([[0], [1]], ["a"], ["A", "B"])
    >>> joined([one, VoteMatrix([[-1], [1]], ["b"], ["A", "B"], [[0.5], [0.9]])]).shape
    (2, 2)
    """
    first = columns[0]
    votes: IntArray = np.concatenate([c.votes for c in columns], axis=1)
    sure: npt.NDArray[np.float32] | None = None
    if any(c.confidences is not None for c in columns):
        unknown = np.full((len(first), 1), np.nan, np.float32)
        known = [unknown if c.confidences is None else c.confidences for c in columns]
        sure = np.concatenate(known, axis=1)
    votes.setflags(write=False)
    return VoteMatrix(votes, [c.lf_names[0] for c in columns], first.classes, sure)


def _read(arrays: Mapping[str, npt.NDArray[Any]], split: str) -> VoteMatrix:
    name, *classes = (str(n) for n in arrays[f"{split}.names"])
    sure = arrays.get(f"{split}.confidences")
    return VoteMatrix(arrays[f"{split}.votes"], [name], classes, sure)
