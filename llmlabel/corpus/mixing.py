"""Mix a corpus: target shares by source, language, cluster or score, the same for any shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import ConfigError, DataError, UnknownNameError

__all__ = [
    "MixPlan",
    "count_cells",
    "draw",
    "joined_cells",
    "mix_verdict",
    "plan_mix",
    "score_bins",
    "uniforms",
]

Ints = npt.NDArray[np.int64]
Targets = Mapping[str, Mapping[str, float] | Literal["equal"]]
"""By column, the share of tokens of each of its values, or ``"equal"`` ones."""

REST: Final = "*"
_DOCUMENTS: Final = "documents"
_TOKENS: Final = "tokens"
_RAKES: Final = 1000
_CLOSE: Final = 1e-9


@dataclass(frozen=True)
class MixPlan:
    """How often documents of each cell (combination of values) are taken.

    Parameters
    ----------
    cells
        One row per cell: its values, documents, tokens, and ``rate``, the mean number of
        copies of a document (0.3: three in ten are kept; 2.5: all twice, half of them thrice).
    columns
        Names of the columns of values.
    shares
        By column, the share of tokens each value will have.
    tokens
        How many the mix will have.
    """

    cells: pl.DataFrame
    columns: tuple[str, ...]
    shares: Mapping[str, Mapping[str, float]]
    tokens: float


def uniforms(ids: Sequence[Any], seed: int) -> npt.NDArray[np.float64]:
    """Return a number from [0, 1) for each id, the same in every shard and run.

    Examples
    --------
    >>> bool(uniforms(["a", "b"], 0)[1] == uniforms(["b"], 0)[0])
    True
    """
    key = int(seed).to_bytes(16, "little", signed=True)
    digests = [
        hashlib.blake2b(str(one).encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
        for one in ids
    ]
    # The upper 53 bits are what a double holds exactly.
    bits = np.frombuffer(b"".join(digests), "<u8") >> np.uint64(11)
    return np.asarray(bits * 2.0**-53, np.float64)


def score_bins(scores: npt.ArrayLike, edges: Sequence[float]) -> list[str]:
    """Return the name of the bin of each score, to mix by as by any column.

    Parameters
    ----------
    scores : array, shape (n,)
    edges
        Rising; a score is in the bin of the last edge that it reaches.

    Examples
    --------
    >>> score_bins([0.1, 0.5, 0.95], [0.5, 0.9])
    ['< 0.5', '>= 0.5', '>= 0.9']
    """
    if not len(edges) or np.any(np.diff(edges) <= 0):
        raise ConfigError(f"edges: expected rising numbers, got {list(edges)}")
    values = np.asarray(scores, np.float64)
    wrong = np.flatnonzero(np.isnan(values))
    if wrong.size:
        raise DataError("a score is missing", row=int(wrong[0]))
    names = np.array([f"< {edges[0]:g}", *(f">= {edge:g}" for edge in edges)], object)
    return list(names[np.searchsorted(edges, values, side="right")])


def count_cells(
    columns: Mapping[str, Sequence[Any]], tokens: npt.ArrayLike | None = None
) -> pl.DataFrame:
    """Count the documents and tokens of each combination of values in a shard.

    Parameters
    ----------
    columns
        Values of n documents by name (source, language, cluster, score bin).
    tokens : array, shape (n,), optional
        By default each document counts as one.

    Examples
    --------
    >>> count_cells({"lang": ["de", "en", "en"]}, [5, 7, 9]).rows()
    [('de', 1, 5.0), ('en', 2, 16.0)]
    """
    names = list(columns)
    frame = _frame(columns)
    weight = np.ones(len(frame)) if tokens is None else np.asarray(tokens, np.float64)
    if len(weight) != len(frame):
        raise DataError(f"{len(frame)} documents, but {len(weight)} numbers of tokens")
    counted = frame.with_columns(pl.Series(_TOKENS, weight)).group_by(names)
    return counted.agg(pl.len().cast(pl.Int64).alias(_DOCUMENTS), pl.sum(_TOKENS)).sort(names)


def joined_cells(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the counts of all shards together."""
    if not parts:
        raise DataError("no counts to join")
    names = [c for c in parts[0].columns if c not in (_DOCUMENTS, _TOKENS)]
    both = pl.concat(parts).group_by(names)
    return both.agg(pl.sum(_DOCUMENTS), pl.sum(_TOKENS)).sort(names)


def plan_mix(
    cells: pl.DataFrame,
    targets: Targets,
    *,
    tokens: float | None = None,
    max_copies: float = 1.0,
) -> MixPlan:
    """Return how often documents of each cell are taken so that shares are met.

    With targets for several columns the cells are raked: scaled to each column's shares in
    turn until all hold, which changes the mix no more than it must.

    Parameters
    ----------
    cells
        Of the whole corpus (`count_cells`, `joined_cells`).
    targets
        By column, shares of tokens that sum to 1, or ``"equal"``. ``"*"`` is the share of all
        values that are not named; without it they are left out.
    tokens
        The size of the mix; by default the largest that `max_copies` allows.
    max_copies
        How often a document may be taken on average: 1 never repeats one.

    Raises
    ------
    ConfigError
        A target names an unknown column or value, or shares do not sum to 1.
    DataError
        The targets cannot be met: which cell is too small, and what would be.

    Notes
    -----
    W. E. Deming, F. F. Stephan (1940), On a least squares adjustment of a sampled frequency
    table when the expected marginal totals are known.

    Examples
    --------
    >>> cells = count_cells({"lang": ["de"] * 2 + ["en"] * 8}, [10] * 10)
    >>> plan = plan_mix(cells, {"lang": {"de": 0.5, "en": 0.5}})
    >>> plan.cells["rate"].to_list(), plan.tokens
    ([1.0, 0.25], 40.0)
    """
    columns = tuple(c for c in cells.columns if c not in (_DOCUMENTS, _TOKENS))
    wanted = [_column(cells, columns, name, target) for name, target in targets.items()]
    have = cells[_TOKENS].to_numpy()
    mass = _raked(have, wanted)
    used = mass > 0
    if not used.any():
        raise DataError("nothing is left of the mix: no cell has tokens and a share")
    copies = mass[used] / have[used]  # per token of the mix
    most = max_copies / float(copies.max())
    size = most if tokens is None else float(tokens)
    if size > most * (1 + _CLOSE):
        raise DataError(_too_large(cells, columns, mass, size, most, max_copies))
    rate = np.zeros(len(cells))
    rate[used] = copies * size
    shares = {
        name: dict(
            pl.DataFrame({"value": cells[name], "mass": mass})
            .group_by("value")
            .agg(pl.sum("mass"))
            .sort("value")
            .iter_rows()
        )
        for name in columns
    }
    return MixPlan(cells.with_columns(pl.Series("rate", rate)), columns, shares, size)


def draw(
    plan: MixPlan, columns: Mapping[str, Sequence[Any]], ids: Sequence[Any], *, seed: int
) -> Ints:
    """Return how many copies of each document the mix takes, by its id and the seed alone.

    Parameters
    ----------
    plan
        From `plan_mix`.
    columns
        Values of n documents, as they were counted.
    ids
        Of the n documents.
    seed
        Another seed is another sample of the same shares.

    Examples
    --------
    >>> values = {"lang": ["de"] * 2 + ["en"] * 8}
    >>> plan = plan_mix(count_cells(values), {"lang": {"de": 0.5, "en": 0.5}})
    >>> draw(plan, values, range(10), seed=0)[:2].tolist()
    [1, 1]
    """
    for name in plan.columns:
        if name not in columns:
            raise UnknownNameError("column", name, columns, where="the plan")
    frame = _frame({name: columns[name] for name in plan.columns})
    if len(frame) != len(ids):
        raise DataError(f"{len(ids)} ids, but {len(frame)} values")
    rates = frame.join(plan.cells, on=plan.columns, how="left", maintain_order="left")["rate"]
    unknown = rates.is_null().arg_true()
    if len(unknown):
        row = int(unknown[0])
        raise DataError(f"the plan has no cell {frame.row(row, named=True)}", row=ids[row])
    rate = rates.to_numpy()
    whole = np.floor(rate)
    return np.asarray(whole + (uniforms(ids, seed) < rate - whole), np.int64)


def mix_verdict(copies: Ints) -> Verdict:
    """Return a verdict that drops the documents of which the mix takes none."""
    return Verdict(np.where(copies > 0, "", "not drawn").astype(object), {"copies": copies})


def _frame(columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    if not columns:
        raise ConfigError("expected at least one column to mix by")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"columns of different lengths: {lengths}")
    taken = set(columns) & {_DOCUMENTS, _TOKENS, "rate"}
    if taken:
        raise ConfigError(f"columns to mix by cannot be called {', '.join(sorted(taken))}")
    return pl.DataFrame(
        {
            name: pl.Series([None if v is None else str(v) for v in values], dtype=pl.String)
            for name, values in columns.items()
        }
    ).with_columns(pl.all().fill_null(""))


@dataclass(frozen=True)
class _Column:
    """The target of a column: which part each cell belongs to, and the parts' shares."""

    part: Ints
    share: npt.NDArray[np.float64]
    names: tuple[str, ...]

    def held(self, mass: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(self.part, mass, len(self.share)), np.float64)


def _column(
    cells: pl.DataFrame,
    columns: tuple[str, ...],
    name: str,
    target: Mapping[str, float] | Literal["equal"],
) -> _Column:
    if name not in columns:
        raise UnknownNameError("column", name, columns, where="targets")
    known = cells[name].unique().sort().to_list()
    if target == "equal":
        target = dict.fromkeys(known, 1.0 / max(len(known), 1))
    elif abs(sum(target.values()) - 1.0) > 1e-6 or min(target.values()) < 0:
        total = sum(target.values())
        raise ConfigError(
            f"targets: {name}: expected shares of 0 and more that sum to 1: {total:g}"
        )
    for value in target:
        if value != REST and value not in known:
            raise UnknownNameError("value", value, known, where=f"targets: {name}")
    parts = list({**target, REST: target.get(REST, 0.0)})
    number = {value: i for i, value in enumerate(parts)}
    part = [number.get(value, number[REST]) for value in cells[name].to_list()]
    share = np.array([target.get(value, 0.0) for value in parts]) / max(
        sum(target.values()), 1e-300
    )
    return _Column(np.array(part, np.int64), share, tuple(f"{name}={value}" for value in parts))


def _raked(have: npt.NDArray[np.float64], wanted: Sequence[_Column]) -> npt.NDArray[np.float64]:
    """Return the share of each cell in the mix (iterative proportional fitting)."""
    mass = np.asarray(have / max(have.sum(), 1e-300), np.float64)
    off: npt.NDArray[np.float64] = np.zeros(0)
    for _ in range(_RAKES):
        for column in wanted:
            held = column.held(mass)
            for i in np.flatnonzero((column.share > 0) & (held <= 0)).tolist():
                raise DataError(
                    f"targets: {column.names[i]} has a share of {column.share[i]:g}, "
                    "but no tokens to fill it"
                )
            mass *= np.divide(column.share, held, out=np.zeros(len(held)), where=held > 0)[
                column.part
            ]
        off = np.concatenate([[0.0], *(c.held(mass) - c.share for c in wanted)])
        if np.abs(off).max() < _CLOSE:
            return mass
    worst = int(np.abs(off).argmax()) - 1
    name = [name for column in wanted for name in column.names][worst]
    share = float(np.concatenate([column.share for column in wanted])[worst])
    raise DataError(
        f"targets: no mix has all these shares; {name} would have {share + off[worst + 1]:.3f} "
        f"instead of {share:.3f}"
    )


def _too_large(
    cells: pl.DataFrame,
    columns: tuple[str, ...],
    mass: npt.NDArray[np.float64],
    size: float,
    most: float,
    max_copies: float,
) -> str:
    have = cells[_TOKENS].to_numpy()
    copies = np.divide(mass * size, have, out=np.zeros(len(have)), where=have > 0)
    at = int(copies.argmax())
    cell = ", ".join(f"{name}={cells[name][at]}" for name in columns)
    return (
        f"targets: {size:,.0f} tokens need {mass[at] * size:,.0f} of {cell}, which has "
        f"{have[at]:,.0f}: {copies[at]:.2f} copies of each, max_copies is {max_copies:g}; "
        f"at most {most:,.0f} tokens can be had"
    )
