"""What to do next: what is missing, wrong or superfluous among labeling functions, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.analysis.diagnostics import Array, Summary, conflicts, overlaps
from llmlabel.analysis.effects import Effects
from llmlabel.evaluate.intervals import wilson
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix

__all__ = ["Suggestion", "next_steps"]

_LEAST_GOLD: Final = 10  # votes on gold rows
_SAME: Final = 0.95  # of the rows on which both vote
_LEAST_SHARED: Final = 20
_CLUSTERS: Final = 8
_TYPICAL: Final = 3
_WORSE: Final = -0.002


@dataclass(frozen=True)
class Suggestion:
    """One thing to do.

    Parameters
    ----------
    kind
        ``uncovered``, ``class_without_votes``, ``worse_than_chance``, ``repeats``,
        ``better_without``, ``llm_clash``.
    what
        A sentence for people.
    rows
        About how many rows it is about: what suggestions are ranked by.
    lfs, examples
        Which LFs, and a few row ids or texts.
    """

    kind: str
    what: str
    rows: float
    lfs: tuple[str, ...] = ()
    examples: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**vars(self), "lfs": list(self.lfs), "examples": list(self.examples)}


def next_steps(
    L: VoteMatrix,
    found: Summary,
    *,
    texts: Sequence[str] | None = None,
    vectors: npt.NDArray[Any] | None = None,
    effect: Effects | None = None,
    prompted: Sequence[str] = (),
    seed: int = 0,
) -> list[Suggestion]:
    """Return what to do next, what touches most rows first.

    Parameters
    ----------
    L
        The votes.
    found
        Their `summary`, with gold where there is some.
    texts, vectors
        Of the rows; with both, rows without votes are shown in clusters.
    effect
        What `effects` found.
    prompted
        The names of LFs that a language model answers.

    Examples
    --------
    >>> from llmlabel.analysis import summary
    >>> L = VoteMatrix([[0, -1], [0, 0], [-1, -1], [-1, -1]], ["a", "b"], ["HAM", "SPAM"])
    >>> [s.kind for s in next_steps(L, summary(L))]
    ['uncovered', 'class_without_votes']
    """
    out = [
        *_uncovered(L, texts, vectors, seed),
        *_classes(L),
        *_worse(L, found),
        *_repeats(L, found),
        *_clashes(L, prompted),
    ]
    if effect is not None:
        out += _better_without(L, effect)
    return sorted(out, key=lambda s: -s.rows)


def _uncovered(
    L: VoteMatrix,
    texts: Sequence[str] | None,
    vectors: npt.NDArray[Any] | None,
    seed: int,
) -> list[Suggestion]:
    rows = np.flatnonzero(~L.covered())
    if not len(rows):
        return []
    share = len(rows) / len(L)
    what = f"{len(rows):,} rows ({share:.0%}) have no vote"
    if texts is None or vectors is None or len(rows) < 2 * _CLUSTERS:
        shown = () if texts is None else tuple(texts[i] for i in rows[:_TYPICAL])
        return [Suggestion("uncovered", f"{what}: write LFs for them", len(rows), examples=shown)]
    out = []
    for members in _clusters(np.asarray(vectors[rows], np.float32), seed):
        typical = tuple(texts[rows[i]] for i in members[:_TYPICAL])
        part = f"{len(members):,} rows without a vote are alike: write an LF for them"
        out.append(Suggestion("uncovered", part, len(members), examples=typical))
    return out


def _clusters(vectors: npt.NDArray[np.float32], seed: int) -> list[npt.NDArray[np.intp]]:
    """Return the members of each cluster, the most typical first."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(_CLUSTERS, n_init=1, random_state=seed, batch_size=4096).fit(vectors)
    distance = model.transform(vectors)
    out = []
    for c in range(_CLUSTERS):
        members = np.flatnonzero(model.labels_ == c)
        if len(members):
            out.append(members[np.argsort(distance[members, c], kind="stable")])
    return out


def _classes(L: VoteMatrix) -> list[Suggestion]:
    out = []
    for c, name in enumerate(L.classes):
        votes = int(np.equal(L.votes, c).sum())
        if not votes:
            # Nobody knows how many rows it has: an even share is the guess.
            what = f"no LF ever votes for {name}: no row can get it"
            out.append(Suggestion("class_without_votes", what, len(L) / len(L.classes)))
    return out


def _worse(L: VoteMatrix, found: Summary) -> list[Suggestion]:
    """LFs that are right less often than a guess would be, surely where there is gold."""
    out = []
    k = len(L.classes)
    for j, name in enumerate(L.lf_names):
        voted = found.coverage[j] * len(L)
        if found.correct is not None and found.incorrect is not None:
            right, n = int(found.correct[j]), int(found.correct[j] + found.incorrect[j])
            if n < _LEAST_GOLD:
                continue
            high = wilson(right, n)[1]
            if high < max(1 / k, 0.5) and high < 0.5:
                what = f"{name} is right on {right} of {n} gold rows: turn it round or drop it"
                out.append(Suggestion("worse_than_chance", what, voted, (name,)))
        elif found.learned_accuracy is not None and found.learned_accuracy[j] < 1 / k:
            sure = found.learned_accuracy[j]
            what = f"{name} is believed to be right on {sure:.0%} of its votes, less than a guess"
            out.append(Suggestion("worse_than_chance", what, voted, (name,)))
    return out


def _repeats(L: VoteMatrix, found: Summary) -> list[Suggestion]:
    """Pairs of which one votes where the other does, and the same."""
    both, clash, n = overlaps(L), conflicts(L), len(L)
    out = []
    for j, name in enumerate(L.lf_names):
        for i in range(len(L.lf_names)):
            mine, theirs = found.coverage[j], found.coverage[i]
            if i == j or not mine or mine > theirs or (mine == theirs and i > j):
                continue
            shared = both[j, i]
            if n * shared < _LEAST_SHARED or shared < _SAME * mine or clash[j, i] > 0.05 * shared:
                continue
            other = L.lf_names[i]
            what = f"{name} says what {other} says on {shared / mine:.0%} of its rows"
            out.append(Suggestion("repeats", what, n * shared, (name, other)))
    return out


def _clashes(L: VoteMatrix, prompted: Sequence[str]) -> list[Suggestion]:
    """Which class the LLM says where heuristics say another."""
    plain = [name for name in L.lf_names if name not in prompted]
    asked = [name for name in L.lf_names if name in prompted]
    if not plain or not asked:
        return []
    own = L.select(plain)
    counts = np.stack([(own.votes == c).sum(axis=1) for c in range(len(L.classes))], axis=1)
    one = counts.max(axis=1) > counts.sum(axis=1) / 2
    theirs = np.where(one, counts.argmax(axis=1), ABSTAIN)
    out = []
    for name in asked:
        said = L[name]
        differ = (said != ABSTAIN) & (theirs != ABSTAIN) & (said != theirs)
        if not differ.any():
            continue
        pairs = said[differ].astype(np.int64) * len(L.classes) + theirs[differ]
        pair = int(np.bincount(pairs).argmax())
        count = int((pairs == pair).sum())
        a, b = L.classes[pair // len(L.classes)], L.classes[pair % len(L.classes)]
        what = (
            f"{name} and the heuristics clash on {int(differ.sum()):,} rows; most often "
            f"({count:,}) it says {a} and they say {b}"
        )
        out.append(Suggestion("llm_clash", what, float(differ.sum()), (name,)))
    return out


def _better_without(L: VoteMatrix, effect: Effects) -> list[Suggestion]:
    """LFs without which label model and student are both better on gold rows."""
    if effect.label_model is None:
        return []
    out = []
    for j, name in enumerate(effect.lf_names):
        gain: Array = -effect.label_model
        both = effect.student is None or effect.student[j] <= 0
        if effect.label_model[j] < _WORSE and both:
            what = f"without {name} the label model is {100 * gain[j]:.1f} points better"
            out.append(Suggestion("better_without", what, float(gain[j] * len(L)), (name,)))
    return out
