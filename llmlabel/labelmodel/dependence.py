"""Labeling functions that say the same thing more often than the classes explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.labelmodel.coded import CodedRows
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import Counts
from llmlabel.labelmodel.voterows import DistinctRows, VoteChunk, with_votes
from llmlabel.votes import FloatArray

__all__ = ["agreement_counts", "group_numbers", "phi", "shares_of_rows", "vote_shares_of"]

_DENSE: Final = 8e9  # multiplications: a tenth of a second
_DENSE_ROWS: Final = 1 << 14
_CELLS: Final = 1 << 22  # of the dense part of one step


def agreement_counts(rows: DistinctRows) -> Array:
    """Return on how many rows each two LFs give the same vote, shape (m, m)."""
    m, k = rows.shape
    if isinstance(rows, CodedRows) and len(rows) * k * m * m < _DENSE:
        return _dense_agreement(rows)
    rows = with_votes(rows)
    total = np.zeros((m, m))
    for _, chunk in rows.chunks():
        group, _ = _groups(chunk, k)
        hot = _members(group, chunk.lf, m)
        weights = np.zeros(hot.shape[0])
        weights[group] = chunk.weights[chunk.row]
        total += (hot.T @ hot.multiply(weights[:, None]).tocsr()).toarray()
    return total


def _dense_agreement(rows: CodedRows) -> Array:
    m, k = rows.shape
    total = np.zeros((m, m))
    for start in range(0, len(rows), _DENSE_ROWS):
        votes = rows.layout.decode(rows.codes[start : start + _DENSE_ROWS])
        weights = rows.weights[start : start + _DENSE_ROWS, None].astype(np.float32)
        for v in range(k):
            said = (votes == v).astype(np.float32)
            total += said.T @ (said * weights)
    return total


def phi(
    agreement: Array,
    counts: Counts,
    least: float,
    groups: npt.NDArray[np.intp],
    drawn: float | None = None,
) -> Array:
    r"""Return by how much LFs agree beyond what the two rates explain, shape (m, m).

    With :math:`x_{jv}` saying that LF j votes v, and means taken on rows of the class v
    and on rows of any other,

    .. math:: \phi_{jl} = \frac{\sum_v \mathrm{E}\,\mathrm{cov}(x_{jv}, x_{lv} | y = v)}
              {\sqrt{\sum_v \mathrm{E}\,\mathrm{var}(x_{jv} | y = v)
                     \sum_v \mathrm{E}\,\mathrm{var}(x_{lv} | y = v)}}

    Two standard errors are taken off, and what is below `least` after that is none. LFs
    of one declared group need no such proof, and each pair of them has the mean of the
    group's pairs at least: what one pair is too small to show, the others do.

    Parameters
    ----------
    groups : array of int, shape (m,)
        The group of each LF; -1 is none.
    drawn
        How many rows it rests on, where they are a sample that stands for more.
    """
    rows = counts.classes.sum()
    shares = np.stack([counts.classes, rows - counts.classes])
    means = np.stack([counts.right, counts.votes - counts.right]) / np.maximum(
        shares[:, None, :], 1e-12
    )
    means = np.clip(means, 0, 1)
    expected = np.einsum("sjv,sv,slv->jl", means, shares / rows, means, optimize=True)
    variance = np.einsum("sjv,sv->j", means * (1 - means), shares / rows)
    scale = np.sqrt(np.outer(variance, variance) + 1e-12)
    raw = np.clip((agreement / rows - expected) / scale, 0, 1)
    found = raw - 2 / np.sqrt(rows if drawn is None else drawn)
    found = np.where(found > least, found, 0)
    for group in np.unique(groups[groups >= 0]):
        at = np.flatnonzero(groups == group)
        pairs = raw[np.ix_(at, at)]
        pooled = (pairs.sum() - pairs.trace()) / max(1, len(at) * (len(at) - 1))
        found[np.ix_(at, at)] = np.maximum(pairs, pooled)
    np.fill_diagonal(found, 0)
    return np.asarray(found)


def vote_shares_of(chunk: VoteChunk, dependence: Array, k: int) -> Array | None:
    """Return what each vote counts, 1 / (1 + the dependence on the votes it agrees with).

    None where every vote counts fully.
    """
    bound = np.asarray(dependence.any(axis=1))
    if not bound.any():
        return None
    group, size = _groups(chunk, k)
    shared = np.flatnonzero((size[group] > 1) & bound[chunk.lf])
    shares = np.ones(len(group))
    if not len(shared):
        return shares
    _, member = np.unique(group[shared], return_inverse=True)
    lf = chunk.lf[shared]
    m = len(dependence)
    step = max(1, _CELLS // m)
    # In row order, so that a row's groups are consecutive.
    for low in range(0, int(member.max()) + 1, step):
        at = np.flatnonzero((member >= low) & (member < low + step))
        hot = _members(member[at] - low, lf[at], m)
        shares[shared[at]] = 1 / (1 + (hot @ dependence)[member[at] - low, lf[at]])
    return shares


def shares_of_rows(rows: DistinctRows, dependence: Array) -> FloatArray | None:
    """Return `vote_shares_of` for all votes, shape (v,), or None."""
    if not dependence.any():
        return None
    rows = with_votes(rows)
    found = np.ones(len(rows.cells), np.float32)
    for votes, chunk in rows.chunks():
        found[votes] = vote_shares_of(chunk, dependence, rows.shape[1])
    return found


def group_numbers(
    groups: Mapping[str, Any] | Sequence[Any] | None, lf_names: Sequence[str]
) -> npt.NDArray[np.intp]:
    """Return the number of each LF's group, -1 for none, shape (m,).

    Parameters
    ----------
    groups
        A group for each LF in order, or for LFs by name; None is no group.

    Raises
    ------
    UnknownNameError
        A name that no LF has.
    ConfigError
        A sequence of another length.
    """
    if groups is None:
        return np.full(len(lf_names), -1)
    if isinstance(groups, Mapping):
        for name in groups:
            if name not in lf_names:
                raise UnknownNameError("labeling function", name, lf_names, where="groups")
        each = [groups.get(name) for name in lf_names]
    else:
        each = list(groups)
        if len(each) != len(lf_names):
            raise ConfigError(
                f"groups: expected one for each of {len(lf_names)} LFs, got {len(each)}"
            )
    numbers = {group: i for i, group in enumerate(dict.fromkeys(each)) if group is not None}
    return np.array([numbers.get(group, -1) for group in each], np.intp)


def _groups(chunk: VoteChunk, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Number the classes voted for in each row: each vote's group, and each group's size."""
    cell = chunk.row.astype(np.int64) * k + chunk.label
    size = np.bincount(cell, minlength=len(chunk.weights) * k)
    number = np.cumsum(size > 0) - 1
    return number[cell], size[size > 0]


def _members(group: npt.NDArray[np.int64], lf: npt.NDArray[np.int32], m: int) -> sp.csr_array:
    """Return which LFs are in each group, 0/1, shape (g, m)."""
    g = int(group.max()) + 1 if len(group) else 0
    return sp.coo_array((np.ones(len(group)), (group, lf)), shape=(g, m)).tocsr()
