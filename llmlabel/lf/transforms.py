"""Transformation functions: new rows from old ones, which keep their labels."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from llmlabel.errors import ConfigError, LabelingFunctionError

__all__ = [
    "AllPolicy",
    "OnePolicy",
    "Policy",
    "RandomPolicy",
    "Transform",
    "augment",
    "drop_words",
    "swap_words",
    "synonyms",
    "transformation_function",
]

Row = Mapping[str, Any]
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Transform:
    """A named change of a row that leaves its label as it is.

    Parameters
    ----------
    name
        Its name.
    change
        From a row and a source of chance to the new row, or None where there is none.
    """

    name: str
    change: Callable[[Row, random.Random], Row | None]


def transformation_function(
    name: str | None = None,
) -> Callable[[Callable[[Row], Row | None]], Transform]:
    """Make a `Transform` from a function of one row.

    Examples
    --------
    >>> @transformation_function()
    ... def shout(row):
    ...     return {**row, "text": row["text"].upper()}
    >>> shout.change({"text": "hi"}, random.Random(0))
    {'text': 'HI'}
    """

    def make(function: Callable[[Row], Row | None]) -> Transform:
        title = name or str(getattr(function, "__name__", "transform"))
        return Transform(title, lambda row, _: function(row))

    return make


def swap_words(column: str = "text") -> Transform:
    """Return a transform that lets two neighbouring words change places."""

    def change(row: Row, chance: random.Random) -> Row | None:
        words = list(_WORD.finditer(row[column]))
        if len(words) < 2:
            return None
        at = chance.randrange(len(words) - 1)
        a, b = words[at], words[at + 1]
        text: str = row[column]
        new = text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]
        return {**row, column: new}

    return Transform("swap_words", change)


def drop_words(share: float = 0.1, column: str = "text") -> Transform:
    """Return a transform that leaves out each word with a probability; at least one stays."""

    def change(row: Row, chance: random.Random) -> Row | None:
        words = str(row[column]).split()
        kept = [w for w in words if chance.random() >= share]
        return {**row, column: " ".join(kept)} if kept and len(kept) < len(words) else None

    return Transform("drop_words", change)


def synonyms(words: Mapping[str, Sequence[str]], column: str = "text") -> Transform:
    """Return a transform that puts another word for one of a list.

    Examples
    --------
    >>> change = synonyms({"parcel": ["package"]}).change
    >>> change({"text": "My Parcel is late"}, random.Random(0))
    {'text': 'My Package is late'}
    """
    known = {w.lower(): list(others) for w, others in words.items()}

    def change(row: Row, chance: random.Random) -> Row | None:
        found = [m for m in _WORD.finditer(row[column]) if known.get(m[0].lower())]
        if not found:
            return None
        at = chance.choice(found)
        new = chance.choice(known[at[0].lower()])
        new = new.capitalize() if at[0][:1].isupper() else new
        return {**row, column: row[column][: at.start()] + new + row[column][at.end() :]}

    return Transform("synonyms", change)


class Policy(Protocol):
    """Which transforms make each of a row's new versions, one after the other."""

    def sequences(self, count: int, chance: random.Random) -> list[list[int]]:
        """Return, for each new version, the numbers of the transforms to apply."""


@dataclass(frozen=True)
class OnePolicy:
    """Each transform alone makes one version (Snorkel's ApplyEachPolicy)."""

    def sequences(self, count: int, chance: random.Random) -> list[list[int]]:  # noqa: ARG002
        """Return one version per transform."""
        return [[i] for i in range(count)]


@dataclass(frozen=True)
class AllPolicy:
    """All of them one after the other make one version (ApplyAllPolicy)."""

    def sequences(self, count: int, chance: random.Random) -> list[list[int]]:  # noqa: ARG002
        """Return one version of all."""
        return [list(range(count))]


@dataclass(frozen=True)
class RandomPolicy:
    """So many drawn ones after each other make each of `versions` (RandomPolicy)."""

    length: int = 1
    versions: int = 1

    def sequences(self, count: int, chance: random.Random) -> list[list[int]]:
        """Return what chance draws."""
        return [[chance.randrange(count) for _ in range(self.length)] for _ in range(self.versions)]


def augment(
    table: pa.Table,
    transforms: Sequence[Transform],
    policy: Policy | None = None,
    *,
    keep_original: bool = True,
    id_column: str = "id",
    seed: int = 0,
) -> pa.Table:
    """Return a table with new versions of its rows, which keep all other columns.

    Parameters
    ----------
    table
        Rows, with their labels.
    transforms
        What makes new rows.
    policy
        By default `OnePolicy`. A version in which a transform finds nothing to change is
        left out.
    keep_original
        Whether the old rows stand in the result too.
    id_column
        Where there is one, new rows get ids of their own: ``id~1``, ``id~2``.
    seed
        Of chance. A row's versions depend on the seed and its place alone.

    Raises
    ------
    ConfigError
        No transforms.
    LabelingFunctionError
        A transform crashed: named, with the row.

    Examples
    --------
    >>> rows = pa.table({"id": ["a"], "text": ["my parcel"], "label": ["LATE"]})
    >>> augment(rows, [synonyms({"parcel": ["package"]})]).to_pylist()[1]
    {'id': 'a~1', 'text': 'my package', 'label': 'LATE'}
    """
    if not transforms:
        raise ConfigError("expected at least one transformation function")
    chosen = policy or OnePolicy()
    out: list[Row] = []
    for place, row in enumerate(_rows(table, id_column)):
        chance = random.Random(f"{seed} {place}")  # noqa: S311 - no secret
        if keep_original:
            out.append(row)
        made = 0
        for sequence in chosen.sequences(len(transforms), chance):
            new = _changed(row, [transforms[i] for i in sequence], chance, place)
            if new is not None:
                made += 1
                named = {id_column: f"{row[id_column]}~{made}"} if id_column in row else {}
                out.append({**new, **named})
    return pa.Table.from_pylist([dict(r) for r in out], schema=_schema(table, id_column))


def _changed(
    row: Row, transforms: Sequence[Transform], chance: random.Random, place: int
) -> Row | None:
    current: Row | None = row
    for transform in transforms:
        try:
            current = transform.change(current, chance) if current is not None else None
        except Exception as error:
            name = row.get("id", f"number {place}")
            raise LabelingFunctionError(
                f"transform {transform.name!r} crashed on row {name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
    return None if current == row else current


def _rows(table: pa.Table, id_column: str) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    if id_column not in table.column_names:
        return rows
    return [{**row, id_column: str(row[id_column])} for row in rows]


def _schema(table: pa.Table, id_column: str) -> pa.Schema:
    schema = table.schema
    if id_column in schema.names:
        at = schema.names.index(id_column)
        schema = schema.set(at, pa.field(id_column, pa.string()))
    return schema
