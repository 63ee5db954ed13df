"""The vote matrix: which labeling function said what about which row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.schema import ABSTAIN

__all__ = ["FloatArray", "IntArray", "VoteMatrix", "vote_dtype"]

IntArray = npt.NDArray[np.int8] | npt.NDArray[np.int16]
FloatArray = npt.NDArray[np.float32]

_CHUNK: Final = 1 << 15
LONG_COLUMNS = ("task", "worker", "label", "confidence")


@dataclass(frozen=True, eq=False)
class VoteMatrix:
    """Votes of m labeling functions on n rows.

    Parameters
    ----------
    votes : array of int, shape (n, m)
        Class indices; -1 abstains. Stored as read-only int8, or int16 for more than 127
        classes. An array that is that already and cannot be written to, as one that
        ``np.load(file, mmap_mode="r")`` gives, is not copied.
    lf_names
        One name per column, all different.
    classes
        Class names in vote order.
    confidences : array of float, shape (n, m), optional
        A probability per vote, NaN where a vote has none. Stored as read-only
        float32.

    Raises
    ------
    DataError
        Shapes that do not fit, a repeated LF name, a vote outside the classes
        (named with its row and LF), a confidence outside [0, 1].

    Examples
    --------
    >>> L = VoteMatrix([[0, -1], [1, 1]], ["a", "b"], ["HAM", "SPAM"])
    >>> L.shape, L["b"].tolist(), L.coverage().tolist()
    ((2, 2), [-1, 1], [1.0, 0.5])
    """

    votes: IntArray
    lf_names: tuple[str, ...]
    classes: tuple[str, ...]
    confidences: FloatArray | None = None

    def __init__(
        self,
        votes: npt.ArrayLike,
        lf_names: Iterable[str],
        classes: Iterable[str],
        confidences: npt.ArrayLike | None = None,
    ) -> None:
        names, labels = tuple(lf_names), tuple(classes)
        checked = _check_votes(votes, names, len(labels))
        conf = None if confidences is None else _check_confidences(confidences, checked, names)
        for key, value in {
            "votes": checked,
            "lf_names": names,
            "classes": labels,
            "confidences": conf,
        }.items():
            object.__setattr__(self, key, value)

    @property
    def shape(self) -> tuple[int, int]:
        """(n rows, m labeling functions)."""
        n, m = self.votes.shape
        return int(n), int(m)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, lf_name: str) -> IntArray:
        """Return one labeling function's votes, shape (n,)."""
        return self.votes[:, self.position(lf_name)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VoteMatrix):
            return NotImplemented
        if (self.lf_names, self.classes) != (other.lf_names, other.classes):
            return False
        if not np.array_equal(self.votes, other.votes):
            return False
        if self.confidences is None or other.confidences is None:
            return self.confidences is other.confidences
        return np.array_equal(self.confidences, other.confidences, equal_nan=True)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        n, m = self.shape
        conf = "" if self.confidences is None else ", with confidences"
        return f"VoteMatrix({n} rows x {m} LFs, {len(self.classes)} classes{conf})"

    def position(self, lf_name: str) -> int:
        """Return the column of a labeling function; `UnknownNameError` if there is none."""
        try:
            return self.lf_names.index(lf_name)
        except ValueError:
            raise UnknownNameError("labeling function", lf_name, self.lf_names) from None

    def coverage(self) -> npt.NDArray[np.float64]:
        """Return the share of rows on which each LF votes, shape (m,)."""
        if not len(self):
            return np.zeros(self.shape[1])
        return np.asarray((self.votes != ABSTAIN).mean(axis=0))

    def covered(self) -> npt.NDArray[np.bool_]:
        """Return which rows have at least one vote, shape (n,)."""
        n, m = self.votes.shape
        ones, found = np.ones(m, np.float32), np.empty(n, np.bool_)
        for start in range(0, n, _CHUNK):  # BLAS adds short rows up three times as fast as any()
            part = self.votes[start : start + _CHUNK] != ABSTAIN
            found[start : start + _CHUNK] = part.astype(np.float32) @ ones > 0
        return found

    def select(self, lf_names: Sequence[str]) -> VoteMatrix:
        """Return the same rows with the named LFs only, in the order given."""
        at = [self.position(name) for name in lf_names]
        conf = None if self.confidences is None else self.confidences[:, at]
        return VoteMatrix(self.votes[:, at], lf_names, self.classes, conf)

    def take(self, rows: npt.ArrayLike) -> VoteMatrix:
        """Return some rows, by index or by boolean mask."""
        at = np.asarray(rows)
        conf = None if self.confidences is None else self.confidences[at]
        return VoteMatrix(self.votes[at], self.lf_names, self.classes, conf)

    def to_long(self, ids: Sequence[object] | None = None) -> pa.Table:
        """Return one row per vote: task (row id), worker (LF), label, confidence.

        This is the crowd format that crowd-kit and annotation tools read.
        """
        rows, cols = np.nonzero(self.votes != ABSTAIN)
        keys = pa.array(np.arange(len(self)) if ids is None else ids)
        if len(keys) != len(self):
            raise DataError(f"expected one id per row: {len(self)} rows, {len(keys)} ids")
        columns: dict[str, pa.Array] = {
            "task": keys.take(pa.array(rows)),
            "worker": pa.array(self.lf_names, pa.string()).take(pa.array(cols)),
            "label": pa.array(self.classes, pa.string()).take(pa.array(self.votes[rows, cols])),
        }
        if self.confidences is not None:
            columns["confidence"] = pa.array(self.confidences[rows, cols], from_pandas=True)
        return pa.table(columns)

    @classmethod
    def from_long(
        cls,
        table: pa.Table,
        classes: Sequence[str],
        *,
        ids: Sequence[object] | None = None,
        lf_names: Sequence[str] | None = None,
    ) -> tuple[VoteMatrix, list[object]]:
        """Build a matrix from (task, worker, label[, confidence]) rows.

        Parameters
        ----------
        table
            With the columns task, worker, label and, if there is one, confidence.
        classes
            Class names in vote order.
        ids, lf_names
            Row ids and LF names in the order wanted (rows without a vote too);
            by default those in the table, in order of appearance.

        Returns
        -------
        The matrix, and the ids of its rows.

        Raises
        ------
        DataError
            A missing column; a worker who gave one task two labels.
        UnknownNameError
            A label, task or worker outside those given.
        """
        for name in LONG_COLUMNS[:3]:
            if name not in table.column_names:
                raise DataError(
                    f"a long vote table needs the columns task, worker, label; {name!r} is missing"
                )
        rows, row_ids = _positions(table["task"], ids, "task")
        cols, names = _positions(table["worker"], lf_names, "worker")
        labels, _ = _positions(table["label"], classes, "class")
        flat = rows * len(names) + cols
        _, first, counts = np.unique(flat, return_index=True, return_counts=True)
        if (counts > 1).any():
            k = int(first[int(np.argmax(counts > 1))])
            raise DataError(
                f"worker {names[cols[k]]!r} voted more than once",
                row=row_ids[rows[k]],
                field="label",
            )
        votes = np.full((len(row_ids), len(names)), ABSTAIN, vote_dtype(len(classes)))
        votes[rows, cols] = labels
        conf: FloatArray | None = None
        if "confidence" in table.column_names:
            conf = np.full(votes.shape, np.nan, np.float32)
            conf[rows, cols] = table["confidence"].to_numpy()
        return cls(votes, [str(n) for n in names], classes, conf), row_ids

    @classmethod
    def from_sparse(cls, votes: Any, lf_names: Iterable[str], classes: Iterable[str]) -> VoteMatrix:
        """Build a matrix from a scipy sparse one, in which what is not stored abstains.

        Parameters
        ----------
        votes : sparse matrix of int, shape (n, m)
            Class indices; explicit zeros are votes for class 0.

        Examples
        --------
        >>> import scipy.sparse as sp
        >>> said = sp.coo_array(([0, 1], ([0, 2], [1, 0])), shape=(3, 2))
        >>> VoteMatrix.from_sparse(said, ["a", "b"], ["HAM", "SPAM"]).votes.tolist()
        [[-1, 0], [-1, -1], [1, -1]]
        """
        names, labels = tuple(lf_names), tuple(classes)
        given = votes.tocoo()
        # As wide as what is stored, so that what is outside the classes is found and named.
        dense = np.full(given.shape, ABSTAIN, given.data.dtype)
        if ((given.data >= ABSTAIN) & (given.data < len(labels))).all():
            dense = np.full(given.shape, ABSTAIN, vote_dtype(len(labels)))
        dense[given.row, given.col] = given.data
        dense.setflags(write=False)
        return cls(dense, names, labels)

    def save(self, file: str | Path | IO[bytes]) -> None:
        """Write to a compressed npz file (no pickle in it)."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "votes": self.votes,
            "lf_names": np.array(self.lf_names, dtype=np.str_),
            "classes": np.array(self.classes, dtype=np.str_),
        }
        if self.confidences is not None:
            arrays["confidences"] = self.confidences
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: str | Path | IO[bytes]) -> VoteMatrix:
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as z:
            parts: Mapping[str, npt.NDArray[np.generic]] = z
            conf = z["confidences"] if "confidences" in z.files else None
            return cls(
                z["votes"],
                [str(n) for n in parts["lf_names"]],
                [str(c) for c in parts["classes"]],
                conf,
            )


def _check_votes(votes: npt.ArrayLike, names: tuple[str, ...], k: int) -> IntArray:
    raw = np.asarray(votes)
    if raw.size == 0 and raw.ndim < 2:
        raw = np.zeros((0, len(names)), np.int16)
    if raw.ndim != 2 or raw.shape[1] != len(names):
        raise DataError(
            f"votes: expected shape (n, {len(names)}) for {len(names)} LFs, got {raw.shape}"
        )
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"two labeling functions have the name {twice!r}")
    whole = np.issubdtype(raw.dtype, np.floating) and np.array_equal(raw, np.rint(raw))
    if not whole and not np.issubdtype(raw.dtype, np.integer):
        raise DataError(f"votes: expected integers (class indices, -1 abstains), got {raw.dtype}")
    if raw.size and (raw.min() < ABSTAIN or raw.max() >= k):
        row, col = np.argwhere((raw < ABSTAIN) | (raw >= k))[0]
        raise DataError(
            f"LF {names[col]!r} voted {raw[row, col]}; expected -1 (abstain) to {k - 1} for {k} classes",
            row=int(row),
        )
    dtype = vote_dtype(k)
    if raw.dtype == dtype and raw.flags.c_contiguous and not raw.flags.writeable:
        return cast(IntArray, raw)
    out = np.array(raw, dtype=dtype, order="C")
    out.setflags(write=False)
    return cast(IntArray, out)


def vote_dtype(k: int) -> type[np.int8] | type[np.int16]:
    """Return the type that holds votes for k classes."""
    return np.int8 if k <= np.iinfo(np.int8).max else np.int16


def _check_confidences(
    confidences: npt.ArrayLike, votes: IntArray, names: tuple[str, ...]
) -> FloatArray:
    out: FloatArray = np.array(confidences, dtype=np.float32, order="C")
    if out.shape != votes.shape:
        raise DataError(f"confidences: expected the votes' shape {votes.shape}, got {out.shape}")
    out[votes == ABSTAIN] = np.nan
    bad = ~np.isnan(out) & ((out < 0) | (out > 1))
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise DataError(
            f"LF {names[col]!r} gave the confidence {out[row, col]}; expected 0 to 1", row=int(row)
        )
    out.setflags(write=False)
    return out


def _positions(
    column: pa.ChunkedArray, order: Sequence[object] | None, what: str
) -> tuple[npt.NDArray[np.int64], list[object]]:
    """Each value's position in `order` (or in order of appearance), and that order."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = pc.unique(flat).to_pylist() if order is None else list(order)
    found = pc.index_in(flat, pa.array(values, flat.type))
    if found.null_count:
        bad = flat[int(np.argmax(found.is_null().to_numpy(zero_copy_only=False)))].as_py()
        raise UnknownNameError(what, str(bad), [str(v) for v in values])
    return found.to_numpy().astype(np.int64), values
