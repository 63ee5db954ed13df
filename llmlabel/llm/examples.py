"""Examples in prompts: which answered rows to show beside each row that is asked about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.io.hashing import mix

__all__ = ["Example", "ExamplePool", "Selection", "select_examples"]

Selection = Literal["fixed", "random", "nearest", "diverse"]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_ROWS_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class Example:
    """A row with its answer, as a prompt shows it.

    Parameters
    ----------
    text
        The row's text.
    answer
        The fields of the answer, in the order they are shown.
    row
        The row's columns, for templates that read them.
    """

    text: str
    answer: Mapping[str, Any]
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> str:
        """The answer as the JSON text that a model would have written."""
        return json.dumps(dict(self.answer), ensure_ascii=False)


@dataclass(frozen=True)
class ExamplePool:
    """The answered rows to choose examples from.

    Parameters
    ----------
    ids
        Row ids.
    examples
        The rows with their answers.
    classes
        The class of each, shape (N,): examples are then taken from each class in
        turn, since by unbalanced ones a model leans to the frequent class (Zhao
        et al. 2021). None: they are not balanced.
    vectors
        Embeddings of unit length, shape (N, d), for ``nearest`` and ``diverse``.

    Raises
    ------
    DataError
        Lengths that differ, an id that comes twice.
    """

    ids: tuple[str, ...]
    examples: tuple[Example, ...]
    classes: IntArray | None = field(default=None, compare=False)
    vectors: FloatArray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        n = len(self.examples)
        lengths = {"ids": len(self.ids)}
        for name, dtype in (("classes", np.int64), ("vectors", np.float64)):
            if getattr(self, name) is not None:
                array = np.asarray(getattr(self, name), dtype=dtype)
                object.__setattr__(self, name, array)
                lengths[name] = len(array)
        for name, length in lengths.items():
            if length != n:
                raise DataError(f"{n} examples, but {length} {name}")
        seen: set[str] = set()
        for row_id in self.ids:
            if row_id in seen:
                raise DataError("comes twice among the examples", row=row_id)
            seen.add(row_id)

    def __len__(self) -> int:
        return len(self.examples)

    def pick(self, indices: npt.ArrayLike) -> tuple[Example, ...]:
        """Return the examples of one row of `select_examples`, -1 left out."""
        return tuple(self.examples[i] for i in np.asarray(indices).tolist() if i >= 0)


def select_examples(
    pool: ExamplePool,
    ids: Sequence[str],
    texts: Sequence[str],
    n: int,
    how: Selection = "random",
    *,
    vectors: npt.ArrayLike | None = None,
    seed: int = 0,
) -> IntArray:
    """Choose examples for each row; never the row itself, by id or by equal text.

    What a row gets depends on the row, the pool and the seed alone, not on the
    other rows asked about: its request, and with it the cache's key, stay.

    Parameters
    ----------
    pool
        What to choose from.
    ids, texts
        The q rows that are asked about.
    n
        Examples per row.
    how
        ``fixed``: the first of the pool. ``random``: drawn by `seed` and text.
        ``nearest``: by cosine of the vectors, the nearest shown last.
        ``diverse``: far from each other, by greedy k-centre (Gonzalez 1985)
        from the most central on; the same for all rows.
    vectors
        Of the q rows, unit length, shape (q, d), for ``nearest``.
    seed
        For ``random``.

    Returns
    -------
    array of int, shape (q, n)
        Positions in the pool in the order shown; -1 at the end where the pool
        holds fewer that are not the row.

    Raises
    ------
    ConfigError
        A negative `n`, an unknown method, or vectors that are not there.
    DataError
        Shapes that do not fit.

    Examples
    --------
    >>> rows = [Example("buy", {"label": "SPAM"}), Example("hi", {"label": "HAM"})]
    >>> pool = ExamplePool(("a", "b"), tuple(rows), classes=np.array([1, 0]))
    >>> select_examples(pool, ["a", "c"], ["buy", "sell"], 2, "fixed")
    array([[ 1, -1],
           [ 0,  1]])
    """
    _check(pool, ids, texts, n, how, vectors)
    out = np.full((len(ids), n), -1, dtype=np.int64)
    if not n or not len(pool):
        return out
    same = _Same(pool)
    groups = np.zeros(len(pool), np.int64) if pool.classes is None else pool.classes
    scores = _scorer(pool, texts, how, vectors, groups, n + same.most, seed)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        banned = same.rows(ids[part], texts[part])
        out[part] = _best(scores(part), banned, groups, n, best_last=how == "nearest")
    return out


def _check(
    pool: ExamplePool,
    ids: Sequence[str],
    texts: Sequence[str],
    n: int,
    how: str,
    vectors: npt.ArrayLike | None,
) -> None:
    if how not in get_args(Selection):
        raise UnknownNameError("way to select examples", how, get_args(Selection))
    if n < 0:
        raise ConfigError(f"examples: expected a number of at least 0, got {n}")
    if len(ids) != len(texts):
        raise DataError(f"{len(ids)} ids, but {len(texts)} texts")
    if how not in {"nearest", "diverse"}:
        return
    if pool.vectors is None:
        raise ConfigError(f"examples: {how!r} needs the vectors of the pool")
    if how == "nearest":
        if vectors is None:
            raise ConfigError("examples: 'nearest' needs the vectors of the rows")
        shape, expected = np.asarray(vectors).shape, (len(ids), *pool.vectors.shape[1:])
        if shape != expected:
            raise DataError(f"vectors: expected shape {expected}, got {shape}")


class _Same:
    """Which examples are the row itself."""

    def __init__(self, pool: ExamplePool) -> None:
        self._ids = {row_id: i for i, row_id in enumerate(pool.ids)}
        self._codes: dict[str, int] = {}
        code = [self._codes.setdefault(_plain(e.text), len(self._codes)) for e in pool.examples]
        self._code = np.array(code, dtype=np.int64)
        self.most = 1 + int(np.bincount(self._code).max())

    def rows(self, ids: Sequence[str], texts: Sequence[str]) -> BoolArray:
        """Return shape (q, N): whether id or text are the same."""
        own = np.array([self._ids.get(i, -1) for i in ids], dtype=np.int64)
        code = np.array([self._codes.get(_plain(t), -1) for t in texts], dtype=np.int64)
        by_id = own[:, None] == np.arange(len(self._code))
        return np.asarray(by_id | (code[:, None] == self._code))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _scorer(
    pool: ExamplePool,
    texts: Sequence[str],
    how: str,
    vectors: npt.ArrayLike | None,
    groups: IntArray,
    depth: int,
    seed: int,
) -> Callable[[slice], FloatArray]:
    """Return what gives some rows' scores, shape (rows, N), the higher the better."""
    if how == "nearest":
        V, Q = _vectors(pool), np.asarray(vectors, np.float64)
        return lambda part: np.asarray(Q[part] @ V.T)
    if how == "random":
        keys = _hashes(pool.ids)
        rows = _hashes([f"{seed} {text}" for text in texts])
        return lambda part: mix(rows[part, None] ^ keys).astype(np.float64)
    order = -np.arange(len(pool), dtype=np.float64)
    if how == "diverse":
        order = _by_distance(_vectors(pool), groups, depth)
    return lambda part: np.broadcast_to(order, (len(texts[part]), len(pool)))


def _vectors(pool: ExamplePool) -> FloatArray:
    assert pool.vectors is not None  # checked
    return pool.vectors


def _hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(
        hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=8).digest() for t in texts
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _by_distance(V: FloatArray, groups: IntArray, depth: int) -> FloatArray:
    """Score by greedy k-centre's order within each group, up to `depth` picks."""
    scores = np.full(len(V), -float(len(V)))
    for group in np.unique(groups):
        at = np.flatnonzero(groups == group)
        own = V[at]
        pick = int(np.argmax(own @ own.mean(axis=0)))
        far = np.full(len(at), np.inf)
        for place in range(min(depth, len(at))):
            scores[at[pick]] = -place
            far = np.minimum(far, 1.0 - own @ own[pick])
            far[pick] = -np.inf
            pick = int(np.argmax(far))
    return scores


def _best(
    scores: FloatArray, banned: BoolArray, groups: IntArray, n: int, *, best_last: bool
) -> IntArray:
    """Take the groups' best, then their second-best, and so on; within a turn by score."""
    scores = np.where(banned, -np.inf, scores)
    turn = np.empty(scores.shape, dtype=np.int64)
    for group in np.unique(groups):
        at = np.flatnonzero(groups == group)
        order = np.argsort(-scores[:, at], axis=1, kind="stable")
        turn[:, at] = np.argsort(order, axis=1, kind="stable")
    turn[banned] = len(groups)
    by_score = np.argsort(-scores, axis=1, kind="stable")
    in_turn = np.argsort(np.take_along_axis(turn, by_score, axis=1), axis=1, kind="stable")
    chosen = np.take_along_axis(by_score, in_turn, axis=1)[:, :n]
    value = np.take_along_axis(scores, chosen, axis=1)
    if best_last:  # those that are not there stay behind
        order = np.argsort(np.where(np.isneginf(value), np.inf, value), axis=1, kind="stable")
        chosen = np.take_along_axis(chosen, order, axis=1)
        value = np.take_along_axis(value, order, axis=1)
    out = np.full((len(scores), n), -1, dtype=np.int64)
    out[:, : chosen.shape[1]] = np.where(np.isneginf(value), -1, chosen)
    return out
