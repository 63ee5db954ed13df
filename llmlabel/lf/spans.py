"""Labeling functions that mark spans of a text, and their votes on its tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, DataError, LabelingFunctionError, UnknownNameError
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix, vote_dtype

__all__ = ["Span", "SpanLF", "TokenVotes", "apply_spans", "span_names", "span_regex", "tokenize"]

OUTSIDE: Final = "O"
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, order=True)
class Span:
    """Characters start to end of a text, and the class of what stands there."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class SpanLF:
    """A labeling function over spans.

    Parameters
    ----------
    name
        Its name.
    find
        From a text to the spans it is sure of. On the rest of the text it abstains, or
        says *outside* where `exhaustive`.
    labels
        The classes it knows.
    exhaustive
        Whether what it does not mark is in no span.
    """

    name: str
    find: Callable[[str], Sequence[Span]]
    labels: tuple[str, ...]
    exhaustive: bool = False


def span_regex(name: str, pattern: str, label: str, *, case_sensitive: bool = True) -> SpanLF:
    r"""Mark what a regular expression matches; the group ``span`` alone, where it has one.

    Examples
    --------
    >>> lf = span_regex("title", r"(?:Mr|Ms)\. (?P<span>[A-Z]\w+)", "PER")
    >>> lf.find("Ask Ms. Lee.")
    [Span(start=8, end=11, label='PER')]
    """
    try:
        compiled = re.compile(pattern, 0 if case_sensitive else re.IGNORECASE)
    except re.error as error:
        raise ConfigError(f"LF {name!r}: {pattern!r} is no regular expression: {error}") from None
    group = "span" if "span" in compiled.groupindex else 0

    def find(text: str) -> list[Span]:
        found = (m.span(group) for m in compiled.finditer(text))
        return [Span(start, end, label) for start, end in found if end > start]

    return SpanLF(name, find, (label,))


def span_names(name: str, names: Mapping[str, Sequence[str]]) -> SpanLF:
    """Mark the names of a list, the longest first, without regard to case.

    Examples
    --------
    >>> lf = span_names("cities", {"LOC": ["New York", "York"]})
    >>> lf.find("in new york")
    [Span(start=3, end=11, label='LOC')]
    """
    label_of = {n.casefold(): label for label, members in names.items() for n in members}
    if not label_of:
        raise ConfigError(f"LF {name!r}: expected at least one name")
    longest = sorted(label_of, key=lambda n: (-len(n), n))
    compiled = re.compile(
        r"(?<!\w)(?:" + "|".join(map(re.escape, longest)) + r")(?!\w)", re.IGNORECASE
    )

    def find(text: str) -> list[Span]:
        found = compiled.finditer(text)
        known = ((m, label_of.get(m[0].casefold())) for m in found)
        return [Span(m.start(), m.end(), label) for m, label in known if label is not None]

    return SpanLF(name, find, tuple(names))


def tokenize(text: str) -> list[tuple[int, int]]:
    """Return where each word and each sign begins and ends.

    Examples
    --------
    >>> tokenize("Hi, you")
    [(0, 2), (2, 3), (4, 7)]
    """
    return [m.span() for m in _TOKEN.finditer(text)]


@dataclass(frozen=True, eq=False)
class TokenVotes:
    """Span votes as votes on tokens, for `SequenceModel`.

    Parameters
    ----------
    votes
        A row per token of all texts, a column per LF. The classes are ``O`` and, for each
        class X, ``B-X`` (a span's first token) and ``I-X``.
    lengths : array of int, shape (texts,)
        How many tokens each text has.
    offsets : array of int, shape (tokens, 2)
        Where each token begins and ends in its text.
    """

    votes: VoteMatrix
    lengths: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def spans(self, tags: Sequence[str]) -> list[list[Span]]:
        """Return each text's spans from a BIO tag per token.

        Raises
        ------
        DataError
            Another number of tags than of tokens.
        """
        if len(tags) != len(self.offsets):
            raise DataError(f"expected {len(self.offsets)} tags, one per token, got {len(tags)}")
        out: list[list[Span]] = []
        at = 0
        for length in self.lengths:
            found: list[Span] = []
            for i in range(at, at + int(length)):
                begin, end = (int(x) for x in self.offsets[i])
                prefix, _, label = str(tags[i]).partition("-")
                follows = prefix == "I" and found and i > at and tags[i - 1] != OUTSIDE
                if follows and found[-1].label == label:
                    found[-1] = Span(found[-1].start, end, label)
                elif label:
                    found.append(Span(begin, end, label))
            out.append(found)
            at += int(length)
        return out


def apply_spans(
    lfs: Sequence[SpanLF],
    texts: Sequence[str],
    classes: Sequence[str],
    *,
    tokens: Callable[[str], Sequence[tuple[int, int]]] = tokenize,
) -> TokenVotes:
    """Let span LFs vote on the tokens of texts.

    A token is in a span where they share a character. Where spans of one LF overlap, the
    first and longer one counts.

    Raises
    ------
    ConfigError
        No LFs, or two of one name.
    UnknownNameError
        A span's class that is none of `classes`.
    LabelingFunctionError
        An LF crashed, or marked what is not in the text: named, with the text's number.

    Examples
    --------
    >>> names = span_names("names", {"PER": ["Ann Lee"]})
    >>> found = apply_spans([names], ["Hi Ann Lee!"], ["PER"])
    >>> [found.votes.classes[v] if v >= 0 else None for v in found.votes["names"]]
    [None, 'B-PER', 'I-PER', None]
    >>> found.spans(["O", "B-PER", "I-PER", "O"])
    [[Span(start=3, end=10, label='PER')]]
    """
    if not lfs:
        raise ConfigError("expected at least one labeling function")
    names = [lf.name for lf in lfs]
    if len(set(names)) < len(names):
        raise ConfigError("two span labeling functions have the same name")
    tags = [OUTSIDE, *(f"{p}-{c}" for c in classes for p in "BI")]
    known = {c: 1 + 2 * i for i, c in enumerate(classes)}
    offsets = [list(tokens(text)) for text in texts]
    lengths = np.array([len(o) for o in offsets], np.int64)
    flat = np.array([o for each in offsets for o in each], np.int64).reshape(-1, 2)
    votes = np.full((len(flat), len(lfs)), ABSTAIN, vote_dtype(len(tags)))
    ends = np.cumsum(lengths)
    for j, lf in enumerate(lfs):
        if lf.exhaustive:
            votes[:, j] = 0
        for i, text in enumerate(texts):
            rows = slice(int(ends[i] - lengths[i]), int(ends[i]))
            _mark(votes[rows, j], flat[rows], _found(lf, text, i), lf, known)
    votes.setflags(write=False)
    return TokenVotes(VoteMatrix(votes, names, tags), lengths, flat)


def _found(lf: SpanLF, text: str, number: int) -> list[Span]:
    try:
        spans = sorted(lf.find(text), key=lambda s: (s.start, -s.end))
    except Exception as error:
        raise LabelingFunctionError(
            f"LF {lf.name!r} crashed on text number {number}: {type(error).__name__}: {error}"
        ) from error
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise LabelingFunctionError(
                f"LF {lf.name!r} marked characters {span.start} to {span.end} of text number "
                f"{number}, which has {len(text)}"
            )
    return spans


def _mark(
    votes: npt.NDArray[np.signedinteger],
    offsets: npt.NDArray[np.int64],
    spans: Sequence[Span],
    lf: SpanLF,
    known: Mapping[str, int],
) -> None:
    free = np.ones(len(votes), np.bool_)
    for span in spans:
        if span.label not in known:
            raise UnknownNameError("class", span.label, known, where=f"LF {lf.name!r}")
        inside = np.flatnonzero((offsets[:, 0] < span.end) & (offsets[:, 1] > span.start))
        if len(inside) and free[inside].all():
            votes[inside] = known[span.label] + 1
            votes[inside[0]] = known[span.label]
            free[inside] = False
