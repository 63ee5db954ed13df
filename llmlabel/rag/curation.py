"""From votes on flaws to what is done with each document: keep, drop, merge, mask or tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.majority import MajorityVote
from llmlabel.labelmodel.per_class import OneModelPerClass
from llmlabel.lf import LF, apply_per_class
from llmlabel.rag.contradictions import contradiction_candidates, verdict_lf
from llmlabel.rag.curation_columns import Collection, collection_of, pair_columns, text_columns
from llmlabel.rag.flaws import FLAWS, absent_of, flaw_task, pair_lfs, text_lfs
from llmlabel.rag.flaws_pairs import BESIDE, Versions
from llmlabel.rag.flaws_personal import mask_persons
from llmlabel.rag.related import related
from llmlabel.rag.surface import SURFACE
from llmlabel.votes import VoteMatrix

__all__ = ["ACTIONS", "BY_WORDS", "DEFAULT_ACTIONS", "Action", "Curated", "Curation", "curate"]

Action = Literal["keep", "drop", "merge", "mask", "tag"]
ACTIONS: Final[tuple[Action, ...]] = ("keep", "drop", "merge", "mask", "tag")

DEFAULT_ACTIONS: Final[Mapping[str, Action]] = {
    "BOILERPLATE": "drop",
    "NEAR_DUPLICATE": "merge",
    "OUTDATED": "drop",
    "THIN": "drop",
    "PROMOTIONAL": "drop",
    "PERSONAL": "mask",
    "CONTRADICTION": "tag",
    "METADATA_MISSING": "tag",
    "UNANSWERABLE": "tag",
}
_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("action", pa.string()),
        ("flaw", pa.string()),
        ("reason", pa.string()),
        ("into", pa.string()),
        ("text", pa.string()),
        ("flaws", pa.list_(pa.string())),
    ]
)
_FINDINGS: Final = ("email", "phone", "name", "address", "birth", "secret")
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Curation:
    """How a collection is curated.

    Parameters
    ----------
    actions
        By flaw what is done, over `DEFAULT_ACTIONS`. ``"merge"`` goes with NEAR_DUPLICATE and
        OUTDATED, ``"mask"`` with PERSONAL.
    min_words
        Of a document that is not thin; for passages fewer (8).
    required
        Columns that must not be empty; by default title and date, where there are any.
    max_findings
        With more data of persons than this a document is about them and is dropped: their
        names cannot all be masked.
    versions
        When two documents are one, or one the newer version of the other.
    neighbours, least
        With how many nearest documents each is compared, and the least cosine of these. It
        and `versions` are set for MiniLM's vectors of texts and titles; for vectors of
        TF-IDF + SVD, whose cosines are lower, see `BY_WORDS`.
    """

    actions: Mapping[str, Action] = field(default_factory=dict)
    min_words: int = 30
    required: tuple[str, ...] | None = None
    max_findings: int = 2
    versions: Versions = field(default_factory=Versions)
    neighbours: int = 16
    least: float = 0.5

    def __post_init__(self) -> None:
        for flaw, action in self.actions.items():
            if flaw not in FLAWS:
                raise UnknownNameError("flaw", flaw, FLAWS, where="actions")
            if action not in ACTIONS:
                raise UnknownNameError("action", action, ACTIONS, where=f"actions: {flaw}")
            if action == "merge" and flaw not in _PARTNER:
                raise ConfigError(f"actions: {flaw}: merge goes with {' and '.join(_PARTNER)}")
            if action == "mask" and flaw != "PERSONAL":
                raise ConfigError(f"actions: {flaw}: only PERSONAL can be masked")

    def action(self, flaw: str) -> Action:
        """Return what is done about a flaw."""
        return self.actions.get(flaw, DEFAULT_ACTIONS[flaw])


BY_WORDS: Final = Curation(least=0.05, versions=Versions(topic=0.23, sure_topic=0.4))
"""For vectors of TF-IDF + SVD, titles compared by their words; set on the same half."""

_PARTNER: Final = {"NEAR_DUPLICATE": "keeper", "OUTDATED": "newer"}


@dataclass(frozen=True, eq=False)
class Curated:
    """What is done with each of n documents, and what led to it.

    Parameters
    ----------
    actions : table of n rows
        ``id``; ``action``; ``flaw``, the one that decided (empty where kept); ``reason``, the
        evidence in words; ``into``, the id of the kept document that stands for it (null
        without); ``text`` to index (masked where that is the action; null where it is left
        out); ``flaws``, all that were found.
    votes
        By flaw, the votes whether it is there.
    probabilities : float array, shape (n, k)
        Of the k flaws of `flaws`.
    flaws
        Their names.
    candidates
        Pairs of kept documents that may contradict each other (`contradiction_candidates`).
    """

    actions: pa.Table
    votes: Mapping[str, VoteMatrix]
    probabilities: npt.NDArray[np.float64]
    flaws: tuple[str, ...]
    candidates: pa.Table

    @property
    def kept(self) -> Bools:
        """Whether each document is in the index, shape (n,)."""
        said = self.actions["action"].to_numpy(zero_copy_only=False)
        return ~np.isin(said, ["drop", "merge"])

    def counts(self) -> dict[str, dict[str, int]]:
        """Return by action how many documents each flaw decided about."""
        out: dict[str, dict[str, int]] = {}
        pairs = zip(
            self.actions["action"].to_pylist(), self.actions["flaw"].to_pylist(), strict=True
        )
        for action, flaw in pairs:
            part = out.setdefault(action, {})
            part[flaw or ""] = part.get(flaw or "", 0) + 1
        return out


def curate(
    table: pa.Table | Mapping[str, Sequence[Any]],
    *,
    vectors: npt.NDArray[Any] | None = None,
    title_vectors: npt.NDArray[Any] | None = None,
    id_column: str = "id",
    text_column: str = "text",
    title_column: str | None = "title",
    date_column: str | None = "updated",
    supersedes_column: str | None = None,
    how: Curation | None = None,
    lfs: Sequence[LF] = (),
    model: LabelModel | None = None,
    verdicts: pa.Table | None = None,
) -> Curated:
    """Find what harms retrieval in a collection, and decide about every document.

    The LFs of `flaws` vote on each flaw; a label model per flaw turns votes into a
    probability, and a flaw above .5 with a vote for it is there. What decides about a
    document is the first of its flaws that leaves it out, else one that masks, else one that
    tags. A near duplicate gives way to a document that is no copy by its own words ("printed
    version"), then the newer, then the one with less around it, then the fuller (of about as many words the first id), never to
    one that is left out for another flaw.

    Parameters
    ----------
    table
        n documents or passages.
    vectors : array, shape (n, d), optional
        Unit vectors of the texts. None: near duplicates by MinHash alone, and outdated
        versions only among them.
    title_vectors : array, shape (n, d), optional
        Unit vectors of the titles; by default titles are compared by their words.
    id_column, text_column
        Where ids (all different) and texts are.
    title_column, date_column
        Where titles and dates (ISO 8601 text, dates or timestamps) are; a column that the
        table lacks is not used.
    supersedes_column
        Where a document names the id of the one that it has taken the place of.
    how
        Thresholds and actions.
    lfs
        More LFs that vote for flaws, for example `answerability_lfs`.
    model
        A label model, cloned for each flaw; by default the majority vote.
    verdicts
        Judged pairs (`judge_contradictions`).

    Raises
    ------
    DataError
        A missing column, a repeated or missing id, arrays of other lengths.

    Notes
    -----
    100,000 passages of 100 words take 42 s of CPU time and 6 kB each beside their texts without
    vectors; with them the index of neighbours (HNSW, above 20,000) adds some minutes.

    Examples
    --------
    >>> texts = ["[Home](/) [Sale](/sale) [Help](/help) Skip to content | Sitemap | © Us",
    ...          "It depends. Please ask our team.",
    ...          "You can send an item back within 30 days of delivery if it is unused and in "
    ...          "its box. Open My orders, choose the item and print the label. Postage is £4.50."]
    >>> done = curate({"id": ["a", "b", "c"], "text": texts})
    >>> done.actions["action"].to_pylist(), done.actions["flaw"].to_pylist()
    (['drop', 'drop', 'keep'], ['BOILERPLATE', 'THIN', ''])
    >>> done.actions["reason"][1].as_py()
    '6 words, fewer than 30; 6 words that put the reader off'
    """
    how = how or Curation()
    docs = collection_of(
        table, id_column, text_column, title_column, date_column, supersedes_column
    )
    for name, given in (("vectors", vectors), ("title_vectors", title_vectors)):
        if given is not None and len(given) != len(docs):
            raise DataError(f"{len(docs)} documents, but {len(given)} {name}")
    columns = text_columns(docs)
    first = [*text_lfs(min_words=how.min_words, required=_required(how, docs)), *lfs]
    alone = _Found.of(first, columns, model)
    pairs = related(
        docs.texts,
        vectors,
        titles=docs.titles,
        title_vectors=title_vectors,
        neighbours=how.neighbours,
        least=how.least,
    )
    usable = ~_left_out(alone, columns, how)
    columns |= pair_columns(docs, columns[SURFACE], pairs, usable, how.versions)
    second = pair_lfs(versions=how.versions)
    if verdicts is not None:
        second.append(verdict_lf(verdicts))
    beside = _Found.of(second, columns, model)
    found = alone.joined(beside, first + second)
    actions = _actions(docs, columns, found, how)
    kept = ~np.isin(actions["action"].to_numpy(zero_copy_only=False), ["drop", "merge"])
    candidates = contradiction_candidates(
        docs.texts, docs.ids, pairs, among=kept, topic=how.versions.topic
    )
    names = tuple(found.probabilities)
    matrix = np.stack([found.probabilities[name] for name in names], axis=1)
    return Curated(actions, found.votes, matrix, names, candidates)


@dataclass(frozen=True, eq=False)
class _Found:
    """Which flaws each document has, and who says so."""

    lfs: Sequence[LF]
    votes: dict[str, VoteMatrix]
    probabilities: dict[str, npt.NDArray[np.float64]]

    @classmethod
    def of(cls, lfs: Sequence[LF], columns: Mapping[str, Any], model: LabelModel | None) -> _Found:
        all_votes = apply_per_class(lfs, columns, flaw_task(), absent=absent_of(lfs))
        votes = {name: L for name, L in all_votes.items() if name in FLAWS and L.shape[1]}
        voted = {name: L for name, L in votes.items() if (L.votes == 1).any()}
        probabilities = {name: np.zeros(len(L)) for name, L in votes.items()}
        if voted:
            fitted = OneModelPerClass(model or MajorityVote()).fit(voted)
            proba = fitted.predict_proba(voted)
            for c, (name, L) in enumerate(voted.items()):
                # Silence is no evidence, whatever the share of the class.
                probabilities[name] = np.where((L.votes == 1).any(axis=1), proba[:, c], 0.0)
        return cls(lfs, votes, probabilities)

    def joined(self, other: _Found, lfs: Sequence[LF]) -> _Found:
        both = {**self.votes, **other.votes}
        return _Found(lfs, both, {**self.probabilities, **other.probabilities})

    def has(self, flaw: str, n: int) -> Bools:
        return np.asarray(self.probabilities.get(flaw, np.zeros(n)) > 0.5, np.bool_)

    def reason(self, flaw: str, row: int, columns: Mapping[str, Any]) -> str:
        L = self.votes[flaw]
        known = {lf.name: lf for lf in self.lfs}
        values = {name: column[row] for name, column in columns.items()}
        said = []
        for name, vote in zip(L.lf_names, L.votes[row], strict=True):
            why = known[name].why
            if vote == 1:
                said.append(name if why is None else why(values))
        return "; ".join(said)


def _required(how: Curation, docs: Collection) -> tuple[str, ...]:
    if how.required is None:
        return tuple(name for name in ("title", "date") if name in docs.columns)
    for name in how.required:
        if name not in docs.columns:
            raise UnknownNameError("column", name, docs.columns, where="required")
    return how.required


def _crowded(columns: Mapping[str, Any], how: Curation) -> Bools:
    counts = np.asarray(columns["rag.personal"])
    return np.asarray(np.sum([counts[f] for f in _FINDINGS], axis=0) > how.max_findings, np.bool_)


def _drops(flaw: str, found: _Found, columns: Mapping[str, Any], how: Curation) -> Bools:
    """Return which documents a flaw leaves out."""
    n = len(columns["text"])
    has, action = found.has(flaw, n), how.action(flaw)
    if action in ("drop", "merge"):
        return has
    if action == "mask":
        return has & _crowded(columns, how)
    return np.zeros(n, np.bool_)


def _left_out(found: _Found, columns: Mapping[str, Any], how: Curation) -> Bools:
    lost = [_drops(flaw, found, columns, how) for flaw in FLAWS]
    return np.asarray(np.any(lost, axis=0), np.bool_)


def _actions(
    docs: Collection, columns: Mapping[str, Any], found: _Found, how: Curation
) -> pa.Table:
    n = len(docs)
    action, flaw = np.full(n, "keep", object), np.full(n, "", object)
    has = {name: found.has(name, n) for name in FLAWS}
    out = {name: _drops(name, found, columns, how) for name in FLAWS}
    # What is written last decides: tags, masks, other documents, then the document itself.
    steps: list[tuple[str, Bools, str]] = []
    for kind in ("tag", "mask"):
        steps += [(f, has[f], kind) for f in reversed(FLAWS) if how.action(f) == kind]
    for name in (*_FIRST, *(f for f in reversed(FLAWS) if f not in _FIRST)):
        kind = "merge" if how.action(name) == "merge" else "drop"
        steps.append((name, out[name], kind))
    for name, rows, kind in steps:
        action[rows], flaw[rows] = kind, name
    left = np.isin(action, ["drop", "merge"])
    into = _into(np.asarray(columns[BESIDE]), flaw, left)
    action[(action == "merge") & (into < 0)] = "drop"
    reason = np.full(n, "", object)
    for row in np.flatnonzero(flaw != "").tolist():
        reason[row] = found.reason(str(flaw[row]), row, columns)
    text = np.array([*docs.texts, None], object)[:-1]
    masked = np.flatnonzero(has["PERSONAL"] & (how.action("PERSONAL") == "mask") & ~left)
    text[masked] = np.array([*mask_persons([docs.texts[i] for i in masked]), None], object)[:-1]
    text[left] = None
    names = np.array([*docs.ids, None], object)
    flaws = [[name for name in FLAWS if has[name][row]] for row in range(n)]
    return pa.table(
        [docs.ids, action, flaw, reason, names[into], text, flaws],
        schema=_SCHEMA,
    )


_FIRST: Final = ("OUTDATED", "NEAR_DUPLICATE")


def _into(
    beside: npt.NDArray[np.void], flaw: npt.NDArray[np.object_], left: Bools
) -> npt.NDArray[np.int64]:
    """Return the row of the kept document that stands for one that is left out, or -1."""
    n = len(flaw)
    own = np.arange(n)
    step = np.where(left, -1, own)
    for name, partner in _PARTNER.items():
        rows = left & (flaw == name)
        step[rows] = beside[partner][rows]
    step = np.append(step, -1)  # -1 leads to itself
    for _ in range(max(n, 2).bit_length()):
        step = step[step]
    return np.where(left, step[:-1], -1)
