"""What a labeling function is: a name and a pure function from a batch of columns to votes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, LabelingFunctionError, LLMLabelError, UnknownNameError
from llmlabel.schema import ABSTAIN

__all__ = ["LF", "Batch", "Column", "Feature", "Joint", "RowFunction", "Vote", "labeling_function"]

Column = Sequence[Any] | npt.NDArray[Any]
Batch = Mapping[str, Column]
"""Columns of equal length: what ``datasets.map(batched=True)`` passes."""

Votes = npt.NDArray[np.int16]
Confidences = npt.NDArray[np.float32]
Vote = Callable[[Batch], "npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]"]
RowFunction = Callable[[Mapping[str, Any]], "int | str | None"]


@dataclass(frozen=True)
class Feature:
    """A column that several labeling functions share and that costs something to make.

    Embeddings and LLM answers are features: `apply` computes each once per
    batch, whatever the number of LFs that read it, and not at all where the
    batch already has a column of that name.

    Parameters
    ----------
    name
        The column's name; equal names mean the same column.
    compute
        From a batch to the column, one entry per row.
    """

    name: str
    compute: Callable[[Batch], Column] = field(compare=False)


@dataclass(frozen=True)
class Joint:
    """How an LF with one label votes together with others of its kind, in one pass.

    Parameters
    ----------
    vote
        From the plans of several LFs and a batch to their votes: the rows, and whose.
    plan
        What this LF looks for.
    """

    vote: Callable[[Sequence[Any], Batch], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
    plan: Any


@dataclass(frozen=True)
class LF:
    """A labeling function.

    Parameters
    ----------
    name
        Its name in matrices and reports.
    vote
        From a batch to one int vote per row, -1 abstains; or to a pair (votes,
        confidences). Votes index `labels` where there are some, else the
        task's classes.
    labels
        The class names that the votes index. None: the task's own order.
    kind
        Which factory made it: ``keyword``, ``regex``, ``nearest``, ...
    columns
        The columns it reads, checked before any work is done.
    features
        The shared, derived columns it reads.
    why
        From one row to the evidence for the vote on it, in words.
    spec
        What a recipe says to make it; None where a recipe cannot.
    joint
        How it votes together with others, where that is faster.

    Examples
    --------
    >>> lf = LF("long", lambda batch: [0 if len(t) > 3 else -1 for t in batch["text"]])
    >>> lf({"text": ["long one", "no"]})[0].tolist()
    [0, -1]
    """

    name: str
    vote: Vote
    labels: tuple[str, ...] | None = None
    kind: str = "function"
    columns: tuple[str, ...] = ("text",)
    features: tuple[Feature, ...] = ()
    why: Callable[[Mapping[str, Any]], str] | None = field(default=None, compare=False)
    spec: Mapping[str, Any] | None = field(default=None, compare=False)
    joint: Joint | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ConfigError(f"a labeling function needs a name, got {self.name!r}")

    def __call__(self, batch: Batch) -> tuple[Votes, Confidences | None]:
        """Vote on a batch.

        Returns
        -------
        votes : int16 array, shape (n,)
        confidences : float32 array, shape (n,), or None

        Raises
        ------
        LabelingFunctionError
            It crashed or returned no votes: named, with the row where it can be told.
        """
        n = batch_length(batch)
        full = with_features(batch, self.features)
        try:
            raw = self.vote(full)
        except LLMLabelError:
            raise
        except Exception as error:
            raise self._crash(full, n, error) from error
        votes, confidences = raw if isinstance(raw, tuple) else (raw, None)
        checked = self._check(votes, n)
        if confidences is None:
            return checked, None
        conf: Confidences = np.asarray(confidences, np.float32)
        if conf.shape != (n,):
            raise LabelingFunctionError(
                f"LF {self.name!r}: expected {n} confidences, got shape {conf.shape}"
            )
        return checked, conf

    def _check(self, votes: npt.ArrayLike, n: int) -> Votes:
        array = np.asarray(votes)
        if array.shape != (n,):
            raise LabelingFunctionError(
                f"LF {self.name!r}: expected {n} votes, one per row, got shape {array.shape}"
            )
        if n and not np.issubdtype(array.dtype, np.integer):
            raise LabelingFunctionError(
                f"LF {self.name!r}: expected int votes (-1 abstains), got {array.dtype}"
            )
        if (
            self.labels is not None
            and n
            and (array.min() < ABSTAIN or array.max() >= len(self.labels))
        ):
            bad = int(np.argmax((array < ABSTAIN) | (array >= len(self.labels))))
            raise LabelingFunctionError(
                f"LF {self.name!r} voted {array[bad]} on row number {bad}; expected -1 to "
                f"{len(self.labels) - 1}, an index into its labels {', '.join(self.labels)}"
            )
        return array.astype(np.int16)

    def _crash(self, batch: Batch, n: int, error: Exception) -> LabelingFunctionError:
        """Find the row on which the function crashes, by asking about each alone."""
        for i in range(n):
            try:
                self.vote({name: column[i : i + 1] for name, column in batch.items()})
            except Exception as again:
                row = batch["id"][i] if "id" in batch else f"number {i}"
                return LabelingFunctionError(
                    f"LF {self.name!r} crashed on row {row!r}: {type(again).__name__}: {again}"
                )
        return LabelingFunctionError(
            f"LF {self.name!r} crashed on a batch of {n} rows: {type(error).__name__}: {error}"
        )


def batch_length(batch: Batch) -> int:
    """Return the number of rows of a batch."""
    return len(next(iter(batch.values()))) if batch else 0


def with_features(batch: Batch, features: Sequence[Feature]) -> Batch:
    """Return the batch with the features' columns added where it lacks them."""
    missing = [f for f in dict.fromkeys(features) if f.name not in batch]
    if not missing:
        return batch
    n = batch_length(batch)
    made: dict[str, Column] = {}
    for feature in missing:
        column = feature.compute(batch)
        if len(column) != n:
            raise LabelingFunctionError(
                f"feature {feature.name!r}: expected {n} entries, one per row, got {len(column)}"
            )
        made[feature.name] = column
    return {**batch, **made}


@overload
def labeling_function(function: RowFunction, /) -> LF: ...


@overload
def labeling_function(
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    columns: Sequence[str] = ("text",),
    batched: bool = False,
) -> Callable[[Callable[..., Any]], LF]: ...


def labeling_function(
    function: RowFunction | None = None,
    /,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    columns: Sequence[str] = ("text",),
    batched: bool = False,
) -> LF | Callable[[Callable[..., Any]], LF]:
    """Make an `LF` from a plain function.

    Parameters
    ----------
    function
        From one row (a mapping) to a vote: a class name, an int, or None to
        abstain. With ``batched=True`` from a batch to int votes.
    name
        By default the function's own name.
    labels
        The class names it may return; needed where it returns names.
    columns
        The columns it reads.
    batched
        Whether it takes whole batches.

    Examples
    --------
    >>> @labeling_function(labels=["SPAM"])
    ... def has_link(row):
    ...     return "SPAM" if "http" in row["text"] else None
    >>> has_link({"text": ["see http://x.y", "nice"]})[0].tolist()
    [0, -1]
    """
    names = None if labels is None else tuple(labels)

    def make(wrapped: Callable[..., Any]) -> LF:
        title = name or str(getattr(wrapped, "__name__", "function"))
        vote = wrapped if batched else _row_by_row(wrapped, title, names)
        return LF(title, vote, labels=names, kind="function", columns=tuple(columns))

    return make(function) if function is not None else make


def _row_by_row(function: RowFunction, title: str, labels: tuple[str, ...] | None) -> Vote:
    index = {name: i for i, name in enumerate(labels or ())}

    @functools.wraps(function)
    def vote(batch: Batch) -> Votes:
        keys = list(batch)
        rows = zip(*(batch[key] for key in keys), strict=True)
        out = [function(dict(zip(keys, values, strict=True))) for values in rows]
        return np.fromiter((_as_int(v, title, index) for v in out), np.int16, len(out))

    return vote


def _as_int(vote: Any, title: str, index: Mapping[str, int]) -> int:
    if vote is None:
        return ABSTAIN
    if isinstance(vote, str):
        if vote in index:
            return index[vote]
        if not index:
            raise LabelingFunctionError(
                f"LF {title!r} returned the class name {vote!r}, but no labels were declared: "
                "write @labeling_function(labels=[...])"
            )
        raise UnknownNameError("class", vote, index, where=f"LF {title!r}")
    if isinstance(vote, (int, np.integer)) and not isinstance(vote, bool):
        return int(vote)
    raise LabelingFunctionError(
        f"LF {title!r} returned {vote!r}; expected a class name, an int or None to abstain"
    )
