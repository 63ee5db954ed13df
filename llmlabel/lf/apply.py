"""Run labeling functions over a table and collect their votes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import (
    ConfigError,
    DataError,
    LabelingFunctionError,
    LLMLabelError,
    did_you_mean,
)
from llmlabel.lf.core import LF, Batch, Column, batch_length, with_features
from llmlabel.lf.processes import vote_in_processes
from llmlabel.lf.texts import Texts
from llmlabel.schema import ABSTAIN, Task
from llmlabel.votes import VoteMatrix, vote_dtype

__all__ = ["apply", "as_batch", "as_column", "evidence", "require_columns"]

Rows = npt.NDArray[np.int64]
Target = npt.NDArray[np.int16]
Progress = Callable[[int, int], None]


def apply(
    lfs: Sequence[LF],
    data: pa.Table | Batch | Any,
    task: Task,
    *,
    batch_size: int = 100_000,
    on_progress: Progress | None = None,
    processes: int = 1,
) -> VoteMatrix:
    """Let every labeling function vote on every row.

    Parameters
    ----------
    lfs
        Labeling functions with different names.
    data
        An Arrow table, a mapping of columns, or a `datasets.Dataset`.
    task
        Whose classes the votes mean.
    batch_size
        Rows per call. Votes do not depend on it.
    on_progress
        Called with (rows done, rows in all) after each batch.
    processes
        So many processes share the rows of plain Python functions, the one kind that
        Python itself is the limit of.

    Raises
    ------
    ConfigError
        No LFs, or two of one name.
    UnknownNameError
        An LF votes for a class that the task does not have.
    DataError
        A column that an LF reads is missing.
    LabelingFunctionError
        An LF crashed or voted outside the classes: named, with the row.

    Examples
    --------
    >>> from llmlabel.lf import keyword
    >>> task = Task("spam", ["HAM", "SPAM"])
    >>> lfs = [keyword("ask", ["subscribe"], "SPAM"), keyword("song", ["song"], "HAM")]
    >>> apply(lfs, {"text": ["Subscribe!", "what a song", "ok"]}, task).votes.tolist()
    [[1, -1], [-1, 0], [-1, -1]]
    """
    columns = as_batch(data)
    ballot = _Ballot(lfs, task, _check(lfs, columns, task), batch_length(columns))
    together = _together(lfs)
    jointly = {j for members in together.values() for j in members}
    pooled = [j for j, lf in enumerate(lfs) if processes > 1 and lf.kind == "function"]
    alone = [j for j in range(len(lfs)) if j not in jointly and j not in pooled]
    if pooled:
        own = [lfs[j] for j in pooled]
        for start, stop, answers in vote_in_processes(own, columns, batch_size, processes):
            part: Batch = {name: values[start:stop] for name, values in columns.items()}
            for j, said in zip(pooled, answers, strict=True):
                ballot.take(j, start, said, part)
    for start, batch in _batches(columns, ballot.n, batch_size):
        full = with_features(batch, [f for lf in lfs for f in lf.features])
        for joint, members in together.items():
            rows, which = _jointly(joint, [lfs[j] for j in members], full)
            ballot.take_jointly(members, start, rows, which)
        for j in alone:
            ballot.take(j, start, lfs[j](full), batch)
        if on_progress is not None:
            on_progress(min(start + batch_size, ballot.n), ballot.n)
    return ballot.matrix()


class _Ballot:
    """The votes so far."""

    def __init__(
        self, lfs: Sequence[LF], task: Task, targets: Sequence[Target | None], n: int
    ) -> None:
        self.n = n
        self._lfs, self._task, self._targets = lfs, task, targets
        self._votes = np.full((n, len(lfs)), ABSTAIN, vote_dtype(task.n_classes))
        self._sure: dict[int, npt.NDArray[np.float32]] = {}

    def take(self, j: int, start: int, answer: tuple[Any, Any], batch: Batch) -> None:
        """Take what LF j says of the rows of a batch: votes, and confidences or None."""
        said, sure = answer
        rows = slice(start, start + len(said))
        self._votes[rows, j] = _to_task(self._lfs[j], said, self._targets[j], self._task, batch)
        if sure is not None:
            self._sure.setdefault(j, np.full(self.n, np.nan, np.float32))[rows] = sure

    def take_jointly(self, members: Sequence[int], start: int, rows: Rows, which: Rows) -> None:
        """Take the votes of LFs with one label each: on which rows, and whose they are."""
        labels = [self._lfs[j].labels or () for j in members]
        classes = np.array([self._task.index(*own) for own in labels], self._votes.dtype)
        self._votes[start + rows, np.array(members)[which]] = classes[which]

    def matrix(self) -> VoteMatrix:
        """Return all of it."""
        self._votes.setflags(write=False)
        names = [lf.name for lf in self._lfs]
        sure = _sureness(self._sure, self._votes)
        return VoteMatrix(self._votes, names, self._task.names, sure)


def evidence(lfs: Sequence[LF], row: Mapping[str, Any], task: Task) -> list[dict[str, Any]]:
    """Say who voted for what on one row, and why.

    Parameters
    ----------
    lfs
        Labeling functions.
    row
        One row, with the features that the LFs read or what makes them.
    task
        Whose classes the votes mean.

    Returns
    -------
    One entry per LF that did not abstain: its name, kind, vote (a class name),
    confidence (or None) and reason (or None).

    Examples
    --------
    >>> from llmlabel.lf import keyword
    >>> lf = keyword("ask", ["subscribe"], "SPAM")
    >>> evidence([lf], {"text": "Subscribe now"}, Task("spam", ["HAM", "SPAM"]))[0]["why"]
    'contains "Subscribe"'
    """
    batch = {name: [value] for name, value in row.items()}
    full = with_features(batch, [f for lf in lfs for f in lf.features])
    flat = {name: column[0] for name, column in full.items()}
    out = []
    for lf in lfs:
        said, sure = lf(full)
        if said[0] == ABSTAIN:
            continue
        names = lf.labels or task.names
        out.append(
            {
                "lf": lf.name,
                "kind": lf.kind,
                "vote": names[said[0]],
                "confidence": None if sure is None or np.isnan(sure[0]) else float(sure[0]),
                "why": None if lf.why is None else lf.why(flat),
            }
        )
    return out


def _together(lfs: Sequence[LF]) -> dict[Any, list[int]]:
    """Return which LFs vote in one pass, by what makes it."""
    found: dict[Any, list[int]] = {}
    for j, lf in enumerate(lfs):
        if lf.joint is not None:
            found.setdefault(lf.joint.vote, []).append(j)
    return found


def _jointly(joint: Any, lfs: Sequence[LF], batch: Batch) -> tuple[Rows, Rows]:
    try:
        rows, which = joint([lf.joint.plan for lf in lfs if lf.joint is not None], batch)
    except LLMLabelError:
        raise
    except Exception:
        for lf in lfs:  # one of them fails alone, and says who it is and on which row
            lf(batch)
        raise
    return rows, which


def _sureness(
    confidences: Mapping[int, npt.NDArray[np.float32]], votes: npt.NDArray[Any]
) -> npt.NDArray[np.float32] | None:
    if all(np.isnan(found).all() for found in confidences.values()):
        return None
    out = np.full(votes.shape, np.nan, np.float32)
    for j, found in confidences.items():
        out[:, j] = found
    return out


def as_batch(data: Any) -> Batch:
    """Return data as columns that LFs read: an Arrow table, columns or a `datasets.Dataset`."""
    if isinstance(data, pa.Table):
        return {name: as_column(data[name]) for name in data.column_names}
    if isinstance(data, Mapping):
        strings = {n: v for n, v in data.items() if isinstance(v, list) and _is_text(v)}
        return {**data, **{name: Texts(values) for name, values in strings.items()}}
    if hasattr(data, "column_names") and hasattr(data, "with_format"):  # a datasets.Dataset
        return as_batch(data.with_format("arrow")[:])
    raise DataError(
        f"expected an Arrow table, columns or a datasets.Dataset, got {type(data).__name__}"
    )


def as_column(values: pa.ChunkedArray) -> Column:
    """Return an Arrow column as LFs read it: texts as `Texts`, others as a list."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return Texts(values)
    found: list[Any] = values.to_pylist()
    return found


def _is_text(values: Sequence[Any]) -> bool:
    first = next((v for v in values if v is not None), None)
    return isinstance(first, str)


def _check(lfs: Sequence[LF], columns: Batch, task: Task) -> list[Target | None]:
    """Return, for each LF, the task's class of each of its labels."""
    if not lfs:
        raise ConfigError("expected at least one labeling function")
    names = [lf.name for lf in lfs]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ConfigError(f"two labeling functions have the name {twice!r}")
    require_columns(lfs, columns)
    targets: list[Target | None] = []
    for lf in lfs:
        where = f"LF {lf.name!r}"
        found = None if lf.labels is None else [task.index(c, where=where) for c in lf.labels]
        # The last entry is what -1 points at: an abstain stays one.
        targets.append(None if found is None else np.array([*found, ABSTAIN], np.int16))
    return targets


def require_columns(lfs: Sequence[LF], columns: Iterable[str]) -> None:
    """Check that every column that the LFs read is there.

    Raises
    ------
    DataError
        One is missing; with the LF that reads it and the nearest name.
    """
    known = list(columns)
    for lf in lfs:
        for column in lf.columns:
            if column not in known:
                raise DataError(
                    f"LF {lf.name!r} reads the column {column!r}, which is missing"
                    f"{did_you_mean(column, known)} (columns: {', '.join(known)})"
                )


def _to_task(
    lf: LF,
    said: npt.NDArray[np.int16],
    target: Target | None,
    task: Task,
    batch: Batch,
) -> npt.NDArray[np.int16]:
    if target is not None:
        mapped: npt.NDArray[np.int16] = target[said]
        return mapped
    wrong = (said < ABSTAIN) | (said >= task.n_classes)
    if wrong.any():
        i = int(np.argmax(wrong))
        row = batch["id"][i] if "id" in batch else f"number {i}"
        raise LabelingFunctionError(
            f"LF {lf.name!r} voted {said[i]} on row {row!r}; expected -1 (abstain) to "
            f"{task.n_classes - 1} for the classes {', '.join(task.names)}"
        )
    return said


def _batches(columns: Batch, n: int, size: int) -> Iterator[tuple[int, Batch]]:
    for start in range(0, n, size):
        yield start, {name: values[start : start + size] for name, values in columns.items()}
