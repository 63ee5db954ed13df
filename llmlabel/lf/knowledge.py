"""Labeling functions that know things: lists of names, tables to join with, crowds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import ConfigError, DataError, did_you_mean
from llmlabel.lf.core import LF, Batch, Votes, batch_length
from llmlabel.lf.keywords import Keywords, vote_keywords
from llmlabel.lf.texts import texts_of
from llmlabel.schema import ABSTAIN

__all__ = ["crowd", "gazetteer", "lookup", "normalized"]


def normalized(values: Sequence[Any] | pa.Array) -> pa.StringArray:
    """Return names as they are compared: small letters, no accents, no signs, single spaces.

    Examples
    --------
    >>> normalized(["  São-Paulo", "SAO PAULO", None]).to_pylist()
    ['sao paulo', 'sao paulo', None]
    """
    text = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    apart = pc.utf8_normalize(pc.utf8_lower(text), form="NFKD")
    bare = pc.replace_substring_regex(apart, r"\p{Mn}+", "")
    signs = pc.replace_substring_regex(bare, r"[^\p{L}\p{N}]+", " ")
    return pc.utf8_trim_whitespace(signs)


def gazetteer(name: str, names: Mapping[str, Sequence[str]], *, column: str = "text") -> LF:
    """Vote for the class whose names a text has, where it has those of one class alone.

    Parameters
    ----------
    name
        The LF's name.
    names
        For each class, names and aliases; compared as `normalized`, as whole words.
    column
        The text column.

    Examples
    --------
    >>> places = gazetteer("places", {"BR": ["São Paulo", "Rio"], "PT": ["Porto"]})
    >>> texts = ["from SAO  PAULO", "in Porto", "Rio or Porto", "here"]
    >>> places({"text": texts})[0].tolist()
    [0, 1, -1, -1]
    >>> places.why({"text": "from Sao Paulo"})
    'names "sao paulo"'
    """
    if not names or not all(names.values()):
        raise ConfigError(f"LF {name!r}: expected names for each class, got {dict(names)!r}")
    plans = []
    known: dict[str, str] = {}
    for label, members in names.items():
        forms = sorted({n for n in normalized(list(members)).to_pylist() if n})
        if not forms:
            raise ConfigError(f"LF {name!r}: the names of {label!r} are signs alone")
        known |= dict.fromkeys(forms, label)
        plans.append(Keywords(tuple(forms), (), column, True, True))

    def vote(batch: Batch) -> Votes:
        texts = normalized(texts_of(batch[column]).arrow)
        rows, which = vote_keywords(plans, {column: texts})
        said = np.zeros((len(texts), len(plans)), np.bool_)
        said[rows, which] = True
        one = said.sum(axis=1) == 1
        return np.where(one, said.argmax(axis=1), ABSTAIN).astype(np.int16)

    def why(row: Mapping[str, Any]) -> str:
        text = f" {normalized([str(row.get(column) or '')])[0].as_py()} "
        found = [n for n in known if f" {n} " in text]
        return "names " + ", ".join(f'"{n}"' for n in found) if found else "no name found"

    spec = {"lf": "gazetteer", "name": name, "column": column}
    return LF(
        name,
        vote,
        labels=tuple(names),
        kind="gazetteer",
        columns=(column,),
        why=why,
        spec={**spec, "names": {label: list(members) for label, members in names.items()}},
    )


def lookup(
    name: str,
    table: pa.Table,
    on: Mapping[str, str],
    label: str,
    votes: Mapping[str, str | None] | None = None,
) -> LF:
    """Vote as a table of known things says of the row with the same fields.

    Parameters
    ----------
    name
        The LF's name.
    table
        What is known: key columns and one that names the class.
    on
        For each column of the data, the table's column it has to equal, as `normalized`.
        Keys that the table has twice, with different classes, are left out.
    label
        The table's column with the class.
    votes
        From its values to classes; None there abstains. By default they are class names.

    Raises
    ------
    DataError
        A column that the table does not have.

    Examples
    --------
    >>> known = pa.table({"shop": ["Acme Ltd.", "Böhm"], "kind": ["TOOLS", "BOOKS"]})
    >>> lf = lookup("shops", known, {"seller": "shop"}, "kind")
    >>> lf.labels, lf({"seller": ["ACME LTD", "Bohm", "else", None]})[0].tolist()
    (('TOOLS', 'BOOKS'), [0, 1, -1, -1])
    """
    for wanted in (*on.values(), label):
        if wanted not in table.column_names:
            guess = did_you_mean(wanted, table.column_names)
            raise DataError(f"LF {name!r}: the table has no column {wanted!r}{guess}")
    said = [None if v is None else str(v) for v in table[label].to_pylist()]
    classes = [v if votes is None else (None if v is None else votes.get(v)) for v in said]
    labels = tuple(dict.fromkeys(c for c in classes if c is not None))
    keys = _keys({ours: table[theirs] for ours, theirs in on.items()}, list(on))
    known: dict[tuple[str, ...], int] = {}
    for key, c in zip(keys, classes, strict=True):
        if key is not None:
            index = ABSTAIN if c is None else labels.index(c)
            known[key] = index if known.get(key, index) == index else ABSTAIN

    def vote(batch: Batch) -> Votes:
        found = _keys(batch, list(on))
        hits = (ABSTAIN if key is None else known.get(key, ABSTAIN) for key in found)
        return np.fromiter(hits, np.int16, batch_length(batch))

    def why(row: Mapping[str, Any]) -> str:
        return "known: " + ", ".join(f"{column} {row.get(column)!r}" for column in on)

    return LF(name, vote, labels=labels, kind="lookup", columns=tuple(on), why=why)


def _keys(columns: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, ...] | None]:
    """Return each row's key; None where a part is missing or empty."""
    parts = []
    for name in names:
        column = columns[name]
        if isinstance(column, pa.ChunkedArray):
            column = column.to_pylist()
        texts = [None if v is None else str(v) for v in column]
        parts.append(normalized(texts).to_pylist())
    return [key if all(key) else None for key in zip(*parts, strict=True)]


def crowd(
    answers: pa.Table,
    *,
    task: str = "task",
    worker: str = "worker",
    label: str = "label",
    id_column: str = "id",
) -> list[LF]:
    """Return a labeling function per worker of a long table of answers.

    Parameters
    ----------
    answers
        One row per answer: the row's id, the worker, the class.
    task, worker, label
        Its columns.
    id_column
        The data's column of row ids.

    Raises
    ------
    DataError
        A missing column, or a worker who answered one task twice and differently.

    Examples
    --------
    >>> said = pa.table({"task": ["r1", "r2"], "worker": ["ann", "ann"], "label": ["A", "B"]})
    >>> [ann] = crowd(said)
    >>> ann.name, ann.labels, ann({"id": ["r2", "r3"]})[0].tolist()
    ('ann', ('A', 'B'), [1, -1])
    """
    for wanted in (task, worker, label):
        if wanted not in answers.column_names:
            guess = did_you_mean(wanted, answers.column_names)
            raise DataError(f"the answers have no column {wanted!r}{guess}")
    of: dict[str, dict[str, str]] = {}
    columns = (answers[c].to_pylist() for c in (task, worker, label))
    for row, who, said in zip(*columns, strict=True):
        if said is None:
            continue
        mine = of.setdefault(str(who), {})
        if mine.setdefault(str(row), str(said)) != str(said):
            raise DataError(f"worker {who!r} gave two answers", row=row, field=label)
    return [_worker(name, said, id_column) for name, said in of.items()]


def _worker(name: str, said: Mapping[str, str], id_column: str) -> LF:
    labels = tuple(dict.fromkeys(said.values()))
    number = {row: labels.index(c) for row, c in said.items()}

    def vote(batch: Batch) -> Votes:
        hits = (number.get(str(row), ABSTAIN) for row in batch[id_column])
        return np.fromiter(hits, np.int16, batch_length(batch))

    return LF(
        name,
        vote,
        labels=labels,
        kind="crowd",
        columns=(id_column,),
        why=lambda row: f"answered {said.get(str(row.get(id_column)))!r}",
    )
