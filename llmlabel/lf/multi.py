"""Tasks in which a row may have several classes: votes for each class apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from llmlabel.errors import ConfigError
from llmlabel.lf.apply import apply
from llmlabel.lf.core import LF
from llmlabel.schema import ABSTAIN, Task
from llmlabel.votes import VoteMatrix

__all__ = ["apply_per_class"]

_PRESENCE: Final = ("ABSENT", "PRESENT")


def apply_per_class(
    lfs: Sequence[LF], data: Any, task: Task, *, absent: Mapping[str, Sequence[str]] | None = None
) -> dict[str, VoteMatrix]:
    """Let labeling functions vote on a multi-label task: a matrix per class.

    A vote for a class says PRESENT there. Several LFs may vote for several classes of one
    row, and need not conflict. What an LF has to say against a class is written down in
    `absent`; nothing else is taken for a no, since silence is none.

    Parameters
    ----------
    lfs, data, task
        As of `apply`.
    absent
        By LF name, the classes that it says are ABSENT where it votes.

    Returns
    -------
    For each class a matrix of the LFs that speak about it, for `OneModelPerClass`.

    Examples
    --------
    >>> from llmlabel.lf import keyword
    >>> task = Task("topics", ["SPORT", "MONEY"], multi_label=True)
    >>> lfs = [keyword("goal", ["goal"], "SPORT"), keyword("fee", ["fee"], "MONEY")]
    >>> found = apply_per_class(lfs, {"text": ["a goal, a fee", "a fee"]}, task,
    ...                         absent={"fee": ["SPORT"]})
    >>> found["SPORT"].votes.tolist(), found["MONEY"].votes.tolist()
    ([[1, 0], [-1, 0]], [[1], [1]])
    """
    against = dict(absent or {})
    for name, classes in against.items():
        if name not in (lf.name for lf in lfs):
            raise ConfigError(f"absent: no labeling function {name!r}")
        for label in classes:
            task.index(label, where=f"absent: LF {name!r}")
    L = apply(lfs, data, task)
    out = {}
    for c, label in enumerate(task.names):
        columns, names = [], []
        for j, lf in enumerate(lfs):
            said = L.votes[:, j]
            knows = lf.labels is None or label in lf.labels
            denies = label in against.get(lf.name, ())
            if knows or denies:
                no = 0 if denies else ABSTAIN
                voted = said != ABSTAIN
                columns.append(np.where(voted & (said == c), 1, np.where(voted, no, ABSTAIN)))
                names.append(lf.name)
        votes = np.stack(columns, axis=1) if columns else np.empty((len(L), 0), np.int8)
        out[label] = VoteMatrix(votes, names, _PRESENCE)
    return out
