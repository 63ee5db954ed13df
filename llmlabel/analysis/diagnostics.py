"""Diagnostics of labeling functions: coverage, overlaps, conflicts, accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import DataError
from llmlabel.schema import ABSTAIN
from llmlabel.votes import IntArray, VoteMatrix

__all__ = ["Summary", "conflicts", "correlations", "coverage", "overlaps", "summary"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHUNK: Final = 1 << 16  # rows at a time; float32 counts of so many are exact


@dataclass(frozen=True, eq=False)
class Summary:
    """What each labeling function does, one value per LF in the arrays of shape (m,).

    Parameters
    ----------
    lf_names
        The labeling functions.
    polarity
        The classes each votes for, in class order.
    coverage
        The share of rows on which it votes.
    overlaps
        The share of rows on which it votes and another one does.
    conflicts
        The share of rows on which it votes and another one votes otherwise.
    correct, incorrect
        Its votes that agree and disagree with gold; None without gold.
    empirical_accuracy
        The share that agrees, NaN where it never votes on a row with gold.
    learned_accuracy
        What a label model believes of it.
    """

    lf_names: tuple[str, ...]
    polarity: tuple[tuple[str, ...], ...]
    coverage: Array
    overlaps: Array
    conflicts: Array
    correct: Ints | None = None
    incorrect: Ints | None = None
    empirical_accuracy: Array | None = None
    learned_accuracy: Array | None = None

    def to_table(self) -> pa.Table:
        """Return the table that Snorkel's `LFAnalysis` made known, one row per LF.

        As there, Correct, Incorrect and Emp. Acc. stand in it where there was gold,
        Learned Acc. where there were learned accuracies.
        """
        columns: dict[str, Any] = {
            "name": pa.array(self.lf_names, pa.string()),
            "j": pa.array(range(len(self.lf_names)), pa.int64()),
            "Polarity": pa.array([list(p) for p in self.polarity], pa.list_(pa.string())),
            "Coverage": pa.array(self.coverage),
            "Overlaps": pa.array(self.overlaps),
            "Conflicts": pa.array(self.conflicts),
            "Correct": self.correct,
            "Incorrect": self.incorrect,
            "Emp. Acc.": self.empirical_accuracy,
            "Learned Acc.": self.learned_accuracy,
        }
        known = {name: values for name, values in columns.items() if values is not None}
        return pa.table({name: pa.array(v, from_pandas=True) for name, v in known.items()})


def summary(
    L: VoteMatrix,
    gold: npt.ArrayLike | None = None,
    learned_accuracies: npt.ArrayLike | None = None,
) -> Summary:
    """Return coverage, overlaps, conflicts and accuracy of each labeling function.

    Parameters
    ----------
    L
        Votes of m labeling functions on n rows.
    gold : array of int, shape (n,), optional
        Gold classes, -1 where a row has none.
    learned_accuracies : array, shape (m,), optional
        A label model's ``lf_accuracies_``.

    Raises
    ------
    DataError
        Arrays that do not fit the votes.

    Examples
    --------
    >>> L = VoteMatrix([[0, 1], [1, -1], [-1, -1], [1, 1]], ["a", "b"], ["HAM", "SPAM"])
    >>> table = summary(L, gold=[0, 1, 1, 1]).to_table()
    >>> table["Coverage"].to_pylist(), table["Conflicts"].to_pylist()
    ([0.75, 0.5], [0.25, 0.25])
    >>> table["Polarity"].to_pylist(), table["Emp. Acc."].to_pylist()
    ([['HAM', 'SPAM'], ['SPAM']], [1.0, 0.5])
    """
    m, k = L.shape[1], len(L.classes)
    truth = None if gold is None else _check_gold(gold, L)
    learned = None if learned_accuracies is None else _check_learned(learned_accuracies, m)
    voted, shared, disputed, correct, judged = (np.zeros(m, np.int64) for _ in range(5))
    said = np.zeros((m, k), np.bool_)
    for start, votes in _chunks(L.votes):
        active = votes != ABSTAIN
        voted += active.sum(axis=0)
        shared += active[active.sum(axis=1) > 1].sum(axis=0)
        disputed += active[_contested(votes, active)].sum(axis=0)
        said |= _vote_counts(votes, k) > 0
        if truth is not None:
            own = truth[start : start + len(votes), None]
            correct += ((votes == own) & active).sum(axis=0)
            judged += (active & (own != ABSTAIN)).sum(axis=0)
    rows = max(len(L), 1)
    return Summary(
        L.lf_names,
        tuple(tuple(c for c, yes in zip(L.classes, row, strict=True) if yes) for row in said),
        voted / rows,
        shared / rows,
        disputed / rows,
        correct if truth is not None else None,
        judged - correct if truth is not None else None,
        _ratio(correct, judged) if truth is not None else None,
        learned,
    )


def coverage(L: VoteMatrix) -> Array:
    """Return the share of rows on which each labeling function votes, shape (m,).

    Examples
    --------
    >>> coverage(VoteMatrix([[0, -1], [1, 1]], ["a", "b"], ["HAM", "SPAM"])).tolist()
    [1.0, 0.5]
    """
    return L.coverage()


def overlaps(L: VoteMatrix) -> Array:
    """Return the share of rows on which both of two LFs vote, shape (m, m).

    The diagonal is the coverage.

    Examples
    --------
    >>> overlaps(VoteMatrix([[0, -1], [1, 1]], ["a", "b"], ["HAM", "SPAM"])).tolist()
    [[1.0, 0.5], [0.5, 0.5]]
    """
    return _both_vote(L) / max(len(L), 1)


def conflicts(L: VoteMatrix) -> Array:
    """Return the share of rows on which two LFs vote for different classes, shape (m, m).

    Examples
    --------
    >>> conflicts(VoteMatrix([[0, -1], [1, 0]], ["a", "b"], ["HAM", "SPAM"])).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    return (_both_vote(L) - _both_agree(L)) / max(len(L), 1)


def correlations(L: VoteMatrix) -> Array:
    r"""Return how strongly the votes of two LFs go together, shape (m, m), from -1 to 1.

    With the 0/1 indicators :math:`x_{jc}` of LF j voting for class c,

    .. math:: \rho_{jl} = \frac{\sum_c \operatorname{cov}(x_{jc}, x_{lc})}
              {\sqrt{\sum_c \operatorname{var}(x_{jc}) \sum_c \operatorname{var}(x_{lc})}},

    over all rows. Two LFs that always vote and know two classes have Pearson's
    correlation; a copy has 1. Votes go together because both are right, too: only a
    value above that of other good LFs hints at a copy. NaN where one of the two never
    changes its outcome.

    Examples
    --------
    >>> L = VoteMatrix([[0, 0, 1], [1, 1, 0], [1, 1, 0]], ["a", "b", "c"], ["HAM", "SPAM"])
    >>> correlations(L).round(2)[0].tolist()
    [1.0, 1.0, -1.0]
    """
    n, rates = max(len(L), 1), _vote_rates(L)
    covariance = _both_agree(L) / n - rates @ rates.T
    variance = (rates * (1 - rates)).sum(axis=1)
    scale = np.sqrt(np.outer(variance, variance))
    return np.clip(_ratio(covariance, scale), -1, 1)


def _chunks(votes: IntArray) -> Iterator[tuple[int, IntArray]]:
    for start in range(0, len(votes), _CHUNK):
        yield start, votes[start : start + _CHUNK]


def _contested(votes: IntArray, active: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows have votes for more than one class."""
    highest = votes.max(axis=1, initial=ABSTAIN)
    lowest = votes.min(axis=1, initial=np.iinfo(votes.dtype).max, where=active)
    return np.asarray(lowest < highest)


def _vote_counts(votes: IntArray, k: int) -> Ints:
    """Return how often each LF votes for each class, shape (m, k)."""
    m = votes.shape[1]
    cells = votes + (1 + np.arange(m, dtype=np.int32) * (k + 1))
    counts = np.bincount(cells.ravel(), minlength=m * (k + 1)).reshape(m, k + 1)
    return np.asarray(counts[:, 1:], np.int64)


def _vote_rates(L: VoteMatrix) -> Array:
    k = len(L.classes)
    counts = np.zeros((L.shape[1], k), np.int64)
    for _, votes in _chunks(L.votes):
        counts += _vote_counts(votes, k)
    return counts / max(len(L), 1)


def _both_vote(L: VoteMatrix) -> Array:
    counts = np.zeros((L.shape[1], L.shape[1]))
    for _, votes in _chunks(L.votes):
        active = (votes != ABSTAIN).astype(np.float32)
        counts += active.T @ active
    return counts


def _both_agree(L: VoteMatrix) -> Array:
    counts = np.zeros((L.shape[1], L.shape[1]))
    for _, votes in _chunks(L.votes):
        for c in range(len(L.classes)):
            own = votes == c
            voters = np.flatnonzero(own.any(axis=0))
            chosen = own[:, voters].astype(np.float32)
            counts[np.ix_(voters, voters)] += chosen.T @ chosen
    return counts


def _check_gold(gold: npt.ArrayLike, L: VoteMatrix) -> Ints:
    found, k = np.asarray(gold), len(L.classes)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.shape != (len(L),) or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"gold: expected {len(L)} class indices, got {found.dtype} of shape {found.shape}"
        )
    bad = (found < ABSTAIN) | (found >= k)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"gold: expected -1 (none) to {k - 1}, got {found[row]}", row=row)
    return found.astype(np.int64)


def _check_learned(accuracies: npt.ArrayLike, m: int) -> Array:
    found = np.asarray(accuracies, np.float64)
    if found.shape != (m,):
        raise DataError(f"learned_accuracies: expected one per LF, shape ({m},), got {found.shape}")
    return found


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Array:
    """Divide, with NaN for 0/0."""
    out: Array = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below != 0)
    return out
