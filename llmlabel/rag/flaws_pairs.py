"""Flaws that show beside another document: near duplicates and outdated versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.corpus.lsh import THRESHOLD, joined
from llmlabel.errors import DataError
from llmlabel.lf.core import LF, Batch
from llmlabel.rag import flaw_words as words
from llmlabel.rag.related import Related
from llmlabel.schema import ABSTAIN

__all__ = [
    "BESIDE",
    "Versions",
    "beside",
    "near_duplicate_lfs",
    "outdated_lfs",
    "retired_terms",
]

BESIDE: Final = "rag.beside"
_SAID: Final = ("rag.superseded_by", "rag.expired")

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]

_TYPE: Final = [
    ("row", np.int64),
    ("keeper", np.int64),
    *((name, np.float32) for name in ("cosine", "lexical", "minhash", "agreement")),
    ("newer", np.int64),
    *((name, np.float32) for name in ("topic", "days", "kept_share", "rival")),
    *((name, np.int64) for name in ("changed", "agreed", "denied")),
]


@dataclass(frozen=True)
class Versions:
    """When two documents are one, and when one has taken the place of the other.

    Parameters
    ----------
    same_lexical, same_cosine, same_minhash
        The least similarity of near duplicates; one is enough.
    same_agreement
        The least share of comparable facts on which near duplicates agree.
    topic
        The least mean of the cosines of embeddings, words and titles of versions of one
        document: for MiniLM halfway between versions and others of one half of a help centre.
    min_days
        How much newer the newer one is, at least.
    sure_topic
        From this likeness on one other number beside the same word is enough; below, it
        takes `many_denied` of them and `long_days`.
    many_denied, long_days
        See `sure_topic`.
    margin
        How much nearer to the newer one another older document may be: with 0 each is the
        other's nearest.
    """

    same_lexical: float = 0.7
    same_cosine: float = 0.9
    same_minhash: float = THRESHOLD
    same_agreement: float = 0.6
    topic: float = 0.47
    min_days: int = 90
    sure_topic: float = 0.6
    many_denied: int = 2
    long_days: int = 365
    margin: float = 0.0

    def same(self, pairs: Related) -> Bools:
        """Return which pairs are near duplicates, shape (p,)."""
        alike = (
            (pairs.lexical >= self.same_lexical)
            | (pairs.cosine >= self.same_cosine)
            | (pairs.minhash >= self.same_minhash)
        )
        return np.asarray(alike & (pairs.agreement >= self.same_agreement), np.bool_)


def beside(
    pairs: Related, order: Ints, dates: Days, usable: Bools, versions: Versions | None = None
) -> npt.NDArray[np.void]:
    """Return for each document what stands beside it.

    Parameters
    ----------
    pairs
        Of n documents.
    order : int array, shape (n,)
        All rows, best first: of near duplicates the first one stays.
    dates : datetime64[D] array, shape (n,)
        NaT where there is none.
    usable : bool array, shape (n,)
        Whether a document may take another's place.
    versions
        When two are one.

    Returns
    -------
    A structured array of shape (n,): ``row``; ``keeper``, the row that stays of its near
    duplicates (its own without any), with ``cosine``, ``lexical``, ``minhash`` and
    ``agreement`` to it; ``newer``, the later document that is most like it (-1 without),
    of those on its topic one with other numbers, with ``topic``, ``days`` between them, ``changed`` facts, ``agreed`` and ``denied`` words,
    ``kept_share``, the share of these that agree, and ``rival``, the likeness of the nearest other older
    document to that one.
    """
    n, rules = len(order), versions or Versions()
    out = np.zeros(n, _TYPE)
    out["row"] = np.arange(n)
    label = _joined_usable(pairs, rules.same(pairs), usable, n)
    out["keeper"] = _keepers(label, order)
    _to_keeper(out, pairs)
    _to_newer(out, pairs, dates, usable, label, rules)
    return out


def _joined_usable(pairs: Related, same: Bools, usable: Bools, n: int) -> Ints:
    good = same & usable[pairs.left] & usable[pairs.right]
    return np.asarray(joined(n, pairs.left[good], pairs.right[good]), np.int64)


def _keepers(label: Ints, order: Ints) -> Ints:
    _, cluster = np.unique(label, return_inverse=True)
    _, best = np.unique(cluster[order], return_index=True)
    return np.asarray(order[best][cluster], np.int64)


def _to_keeper(out: npt.NDArray[np.void], pairs: Related) -> None:
    for one, other in ((pairs.left, pairs.right), (pairs.right, pairs.left)):
        own = out["keeper"][one] == other
        for name in ("cosine", "lexical", "minhash", "agreement"):
            out[name][one[own]] = getattr(pairs, name)[own]


def _to_newer(
    out: npt.NDArray[np.void],
    pairs: Related,
    dates: Days,
    usable: Bools,
    label: Ints,
    rules: Versions,
) -> None:
    out["newer"] = -1
    gap = (dates[pairs.right] - dates[pairs.left]).astype("timedelta64[D]")
    known = ~np.isnat(gap)
    days = np.where(known, gap.astype(np.int64), 0)
    at = np.flatnonzero(known & (np.abs(days) >= rules.min_days))
    forward = days[at] > 0
    old = np.where(forward, pairs.left[at], pairs.right[at])
    new = np.where(forward, pairs.right[at], pairs.left[at])
    at, old, new = (x[usable[new]] for x in (at, old, new))
    topic = pairs.topic[at]
    # Of several on the topic one with other numbers says the most.
    agrees = (pairs.denied[at] == 0) | (pairs.agreement[at] >= rules.same_agreement)
    rank = np.lexsort((new, -topic, agrees | (topic < rules.topic), old))
    first = rank[np.unique(old[rank], return_index=True)[1]]
    row = old[first]
    out["newer"][row], out["topic"][row] = new[first], topic[first]
    out["days"][row] = np.abs(days[at[first]])
    out["kept_share"][row] = pairs.agreement[at[first]]
    for name in ("changed", "agreed", "denied"):
        out[name][row] = getattr(pairs, name)[at[first]]
    out["rival"][row] = _rivals(old, new, topic, label, row, new[first])


def _rivals(
    old: Ints, new: Ints, topic: npt.NDArray[np.float32], label: Ints, rows: Ints, newer: Ints
) -> npt.NDArray[np.float32]:
    """Return how like its newer document the nearest other older one (no duplicate) is."""
    rank = np.lexsort((-topic, new))
    sorted_new, begin = np.unique(new[rank], return_index=True)
    best = rank[begin]
    place = np.searchsorted(sorted_new, newer)
    found = np.where(label[old[best]][place] != label[rows], topic[best][place], 0.0)
    return np.asarray(found, np.float32)


def near_duplicate_lfs(versions: Versions | None = None) -> list[LF]:
    """Return LFs for near duplicates of a document that stays, by words, runs and embedding.

    They read the column ``rag.beside`` (`beside`) and ``rag.keeper_id``.
    """
    rules = versions or Versions()
    said = {
        "minhash": ("same runs of words", rules.same_minhash),
        "lexical": ("same words", rules.same_lexical),
        "cosine": ("embedding", rules.same_cosine),
    }

    def lf(field: str, what: str, least: float) -> LF:
        return _lf(
            f"near_duplicate.{field}",
            "NEAR_DUPLICATE",
            lambda m: (m["keeper"] != m["row"]) & (m[field] >= least),
            lambda row: f"like {row['rag.keeper_id']} ({what}: {float(row[BESIDE][field]):.2f})",
            ("rag.keeper_id",),
        )

    linked = _lf(
        "near_duplicate.linked",
        "NEAR_DUPLICATE",
        lambda m: (
            (m["keeper"] != m["row"])
            & np.all([m[field] < least for field, (_, least) in said.items()], axis=0)
        ),
        lambda row: f"like {row['rag.keeper_id']} through another document",
        ("rag.keeper_id",),
    )
    alone = _lf(
        "near_duplicate.alone",
        "GOOD",
        lambda m: m["keeper"] == m["row"],
        lambda _: "no other document like it that is better",
    )
    return [*(lf(field, *what) for field, what in said.items()), linked, alone]


def outdated_lfs(column: str = "text", versions: Versions | None = None) -> list[LF]:
    """Return LFs for documents that another has taken the place of.

    `outdated.newer`: a newer document on the same topic has other numbers;
    `outdated.superseded`: metadata says so (``rag.superseded_by``);
    `outdated.says`: it says so itself, or its validity has ended (``rag.expired``);
    `outdated.terms`: it uses names that newer documents have given up (``rag.retired``).
    `outdated.current` says GOOD: no newer document on the topic; `outdated.predecessor` says
    GOOD: the newer one is nearer to another old document; `outdated.agrees` says GOOD: the
    newer one has the same numbers. Where metadata or the text itself says that it is old,
    these three are silent.
    """
    rules = versions or Versions()

    def succeeded(m: Any) -> Any:
        other = (m["denied"] > 0) & (m["kept_share"] < rules.same_agreement)
        clearly = (m["denied"] >= rules.many_denied) & (m["days"] >= rules.long_days)
        same = (m["topic"] >= rules.sure_topic) | ((m["topic"] >= rules.topic) & clearly)
        return (m["newer"] >= 0) & other & same

    def newer(row: Mapping[str, Any]) -> str:
        found = row[BESIDE]
        changes = row["rag.changes"]
        return (
            f"{row['rag.newer_id']} is {int(found['days'])} days newer, on the same topic "
            f"(likeness {float(found['topic']):.2f}), with other numbers"
            + (f": {changes}" if changes else "")
        )

    def column_lf(name: str, read: str, say: str) -> LF:
        def vote(batch: Batch) -> npt.NDArray[np.int16]:
            said = np.array([bool(value) for value in batch[read]], np.bool_)
            return np.where(said, 0, ABSTAIN).astype(np.int16)

        return LF(
            f"outdated.{name}",
            vote,
            labels=("OUTDATED",),
            kind="version",
            columns=(column, read),
            why=lambda row: say.format(row[read]),
        )

    return [
        _lf("outdated.newer", "OUTDATED", succeeded, newer, ("rag.newer_id", "rag.changes")),
        column_lf("superseded", "rag.superseded_by", "{} says that it supersedes it"),
        column_lf("says", "rag.expired", 'it says "{}"'),
        column_lf("terms", "rag.retired", 'newer documents no longer say "{}"'),
        _lf(
            "outdated.current",
            "GOOD",
            lambda m: (m["newer"] < 0) | (m["topic"] < rules.topic - 0.08),
            lambda _: "no newer document on its topic",
        ),
        _lf(
            "outdated.predecessor",
            "GOOD",
            lambda m: (m["newer"] >= 0) & (m["rival"] > m["topic"] + rules.margin),
            lambda row: f"another old document is nearer to {row['rag.newer_id']}",
            ("rag.newer_id",),
        ),
        _lf(
            "outdated.agrees",
            "GOOD",
            lambda m: (m["agreed"] > 0) & (m["kept_share"] >= rules.same_agreement),
            lambda row: f"{row['rag.newer_id']}, newer, has the same numbers",
            ("rag.newer_id",),
        ),
    ]


def _lf(
    name: str,
    label: str,
    test: Callable[[Any], Any],
    say: Callable[[Mapping[str, Any]], str],
    columns: tuple[str, ...] = (),
) -> LF:
    silent = _SAID if name.startswith("outdated.") and label == "GOOD" else ()
    columns = (*columns, *silent)

    def vote(batch: Batch) -> npt.NDArray[np.int16]:
        found = np.asarray(test(np.asarray(batch[BESIDE])), np.bool_)
        for column in silent:
            found = found & np.array([not value for value in batch[column]], np.bool_)
        return np.where(found, 0, ABSTAIN).astype(np.int16)

    return LF(name, vote, labels=(label,), kind="version", columns=(BESIDE, *columns), why=say)


def expired(texts: Sequence[str], dates: Days) -> list[str]:
    """Return what each text says of its own end, the empty string where it says nothing.

    An end of validity counts where its year is before that of the newest document.
    """
    newest = dates[~np.isnat(dates)]
    year = int(newest.max().astype("datetime64[Y]").astype(int)) + 1970 if len(newest) else 0
    text = pl.col("text")
    found = pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)}).select(
        says=text.str.extract(f"({words.OUTDATED})"),
        until=text.str.extract(f"({words.EXPIRED})"),
        year=text.str.extract(words.EXPIRED).cast(pl.Int64),
    )
    ended = pl.when(pl.col("year") < year).then(pl.col("until"))
    return found.select(pl.coalesce("says", ended).fill_null("")).to_series().to_list()


def retired_terms(texts: Sequence[str], dates: Days, *, min_documents: int = 2) -> list[str]:
    """Return for each text a name in capitals that newer documents have given up, or "".

    A name is two or three capitalised words in a row. It is retired where at least
    `min_documents` use it and all of them are among the older half of the dated ones.

    Examples
    --------
    >>> dates = np.array(["2021-01-01", "2021-02-01", "2024-01-01", "2024-02-01"], "M8[D]")
    >>> retired_terms(["With Lark Points", "Use Lark Points", "Ridge Club", "Ridge Club"], dates)
    ['Lark Points', 'Lark Points', '', '']
    """
    if len(texts) != len(dates):
        raise DataError(f"{len(texts)} texts, but {len(dates)} dates")
    dated = np.sort(dates[~np.isnat(dates)])
    if len(dated) < 2 * min_documents:
        return [""] * len(texts)
    frame = pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)}).with_columns(
        row=pl.int_range(pl.len()),
        # A document without a date may be the newest.
        day=pl.Series(np.where(np.isnat(dates), dated[-1], dates).astype("datetime64[ms]")),
    )
    terms = (
        frame.select(
            "row",
            "day",
            # The first word of a sentence has a capital for another reason.
            term=pl.col("text")
            .str.replace_all(r"(^|[.!?:|\n*#-]\s*)[A-Z]", "$1")
            .str.extract_all(r"\b[A-Z][a-z]+(?: [A-Z][a-z]+){1,2}\b"),
        )
        .explode("term")
        .drop_nulls("term")
        .unique(["row", "term"])
    )
    middle = dated[len(dated) // 2].astype("datetime64[ms]").item()
    given_up = (
        terms.group_by("term")
        .agg(n=pl.len(), last=pl.col("day").max())
        .filter((pl.col("n") >= min_documents) & (pl.col("last") < middle))
    )
    found = terms.join(given_up, on="term", how="semi").group_by("row").agg(pl.col("term").min())
    out = [""] * len(texts)
    for row, term in found.iter_rows():
        out[row] = term
    return out
