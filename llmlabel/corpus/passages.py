"""Lines, paragraphs and sentences that stand in several documents: counted, or cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.corpus.ngrams import Hashes, Offsets, mixed, ngrams, ranges
from llmlabel.corpus.segment import Segments, batches, segment
from llmlabel.errors import ConfigError, DataError, UnknownNameError

__all__ = [
    "UNITS",
    "Cut",
    "Passages",
    "Unit",
    "cut_passages",
    "joined_passages",
    "passages",
    "repeated",
]

Bools = npt.NDArray[np.bool_]
Unit = Literal["line", "paragraph", "sentence"]

_PARTS: Final = 16  # of all hashes are sorted one after the other
_TOP: Final = np.uint64(60)

# Every character belongs to one passage, white space after it included, so that what is
# left after a cut is the text as it was.
UNITS: Final[dict[Unit, str]] = {
    "line": r"[^\n]*\n|[^\n]+",
    "paragraph": r"(?s).+?(?:\n[ \t]*\n\s*|\z)",
    # ... and the full stops, exclamation and question marks of Chinese, Hindi and Arabic.
    "sentence": (
        r"(?s).+?(?:[.!?]+[\"'\x{2019}\x{201D})\]]*\s+"
        r"|[\x{3002}\x{FF01}\x{FF1F}\x{0964}\x{061F}]+[\"'\x{2019}\x{201D}\x{300D}\x{300F}\x{FF09}]*\s*"
        r"|\n\s*|\z)"
    ),
}


@dataclass(frozen=True)
class Passages:
    """The passages of n documents as hashes, or runs of them.

    Parameters
    ----------
    hashes : uint64 array, shape (p,)
        Of the passages' words; 0 where a passage has fewer than the least number.
    offsets : int64 array, shape (n + 1,)
        Where each document's passages begin.
    """

    hashes: Hashes
    offsets: Offsets


@dataclass(frozen=True)
class Cut:
    """What is left of n documents.

    Parameters
    ----------
    texts
        Without the passages that were cut.
    share : float32 array, shape (n,)
        Of a document's characters that were cut.
    passages : int64 array, shape (n,)
        Passages that were cut.
    """

    texts: list[str]
    share: npt.NDArray[np.float32]
    passages: npt.NDArray[np.int64]


def passages(
    texts: Sequence[str],
    unit: Unit = "line",
    *,
    min_words: int = 5,
    segments: Segments | None = None,
) -> Passages:
    r"""Return the hashes of the passages of documents.

    Parameters
    ----------
    texts
        n documents.
    unit
        ``"line"``, ``"paragraph"`` (blank lines between) or ``"sentence"`` (ends with a full
        stop, exclamation or question mark, or with the line).
    min_words
        Shorter passages are never repeated: headings, names, "Yes."
    segments
        The documents' segmentation, where filters have made it already.

    Notes
    -----
    A hash is of the words in lower case: punctuation and white space do not count.

    Examples
    --------
    >>> found = passages(["One line.\nAnother.", "one line"], min_words=1)
    >>> found.offsets.tolist(), bool(found.hashes[0] == found.hashes[2])
    ([0, 2, 3], True)
    """
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    if min_words < 1:
        raise ConfigError(f"min_words: expected at least 1, got {min_words}")
    hashes, counts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    if segments is not None and len(segments) != len(texts):
        raise DataError(f"{len(texts)} texts, but a segmentation of {len(segments)}")
    for batch in [slice(0, len(texts))] if segments is not None else batches(texts):
        pieces = pl.Series(texts[batch], dtype=pl.String).str.extract_all(UNITS[unit])
        counts.append(pieces.list.len().to_numpy().astype(np.int64))
        lengths = pieces.explode(empty_as_null=False).str.len_chars().to_numpy().astype(np.int64)
        hashes.append(_hash(segments or segment(texts[batch]), lengths, counts[-1], min_words))
    return Passages(np.concatenate(hashes), np.cumsum(np.concatenate(counts)))


def joined_passages(parts: Sequence[Passages]) -> Passages:
    """Return the passages of all parts, one after the other."""
    counts = [np.diff(part.offsets) for part in parts]
    hashes = [part.hashes for part in parts]
    return Passages(
        np.concatenate([np.empty(0, np.uint64), *hashes]),
        np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts])),
    )


def repeated(
    found: Passages, *, max_documents: int = 1, keep_first: bool = True, run: int = 1
) -> Bools:
    r"""Return which passages stand in too many documents and are to be cut.

    Parameters
    ----------
    found
        The passages of all documents, of all shards (`joined_passages`).
    max_documents
        In how many documents a passage may stand.
    keep_first
        Whether the first document (in the order of rows) that has it keeps it; else nobody.
    run
        Passages in a row that have to be the same together: 3 with sentences (of one word
        and more) is C4's rule (C. Raffel et al. 2020, JMLR 21).

    Returns
    -------
    Bool array of shape (p,). Memory: about 10 bytes per passage beside the hashes.

    Examples
    --------
    >>> found = passages(["Only here.", "Share it.\nNew.", "Share it!\nOld."], min_words=1)
    >>> repeated(found).tolist()
    [False, False, False, True, False]
    """
    if max_documents < 1 or run < 1:
        raise ConfigError(
            f"expected max_documents and run of at least 1, got {max_documents} and {run}"
        )
    hashes, offsets, begin = found.hashes, found.offsets, np.arange(len(found.hashes))
    if run > 1:
        hashes, offsets = ngrams(found.hashes, found.offsets, run, whole=False)
        begin = ranges(found.offsets[:-1], np.diff(offsets))
        for step in range(run):
            hashes[found.hashes[begin + step] == 0] = 0
    cut = np.zeros(len(found.hashes), np.bool_)
    for part in range(_PARTS):
        at = np.flatnonzero((hashes >> _TOP == part) & (hashes != 0))
        document = np.searchsorted(offsets, at, side="right") - 1
        lost = begin[at[_too_often(hashes[at], document, max_documents, keep_first)]]
        for step in range(run):
            cut[lost + step] = True
    return cut


def cut_passages(texts: Sequence[str], unit: Unit, found: Passages, cut: Bools) -> Cut:
    """Return documents without some of their passages.

    Parameters
    ----------
    texts
        n documents.
    unit, found
        As `passages` was asked, and what it found for these documents.
    cut : bool array, shape (p,)
        Of these documents' passages (a part of what `repeated` returned for all).
    """
    if len(found.offsets) != len(texts) + 1 or len(cut) != len(found.hashes):
        raise DataError(
            f"{len(texts)} texts and {len(cut)} flags, but {len(found.hashes)} passages of "
            f"{len(found.offsets) - 1} documents"
        )
    counts = np.diff(found.offsets)
    document = np.repeat(np.arange(len(texts)), counts)
    lost = np.bincount(document[cut], minlength=len(texts))
    rows = np.flatnonzero(lost)
    out, share = list(texts), np.zeros(len(texts), np.float32)
    if not rows.size:
        return Cut(out, share, lost)
    flags = pl.Series(~cut[np.isin(document, rows)])
    pieces = pl.Series([texts[row] for row in rows.tolist()]).str.extract_all(UNITS[unit])
    if (pieces.list.len().to_numpy() != counts[rows]).any():
        raise DataError(f"the passages are not {unit}s of these texts")
    frame = pl.DataFrame({"row": document[np.isin(document, rows)], "piece": pieces.explode()})
    rest = frame.filter(flags).group_by("row").agg(pl.col("piece").str.join(""))
    left = dict(rest.iter_rows())
    for row in rows.tolist():
        out[row] = left.get(row, "").rstrip()
        share[row] = 1.0 - len(out[row]) / max(len(texts[row]), 1)
    return Cut(out, share, lost)


def _hash(found: Segments, lengths: Offsets, counts: Offsets, min_words: int) -> Hashes:
    """Return the hash of each passage from the words that begin in it."""
    document = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(lengths) + document + 1  # the batch begins with a newline, texts end in one
    bounds = np.concatenate(([0], np.searchsorted(found.terms.start, ends)))
    words = np.diff(bounds)
    place = np.arange(len(found.terms)) - np.repeat(bounds[:-1], words)
    sums = np.zeros(len(place) + 1, np.uint64)
    np.cumsum(mixed(found.term_hashes + mixed(place.astype(np.uint64))), out=sums[1:])
    hashes = mixed(sums[bounds[1:]] - sums[bounds[:-1]])
    hashes[words < min_words] = 0
    return hashes


def _too_often(hashes: Hashes, document: Offsets, most: int, keep_first: bool) -> Bools:
    order = np.argsort(hashes, kind="stable")
    keys, owner = hashes[order], document[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    other = new.copy()
    other[1:] |= owner[1:] != owner[:-1]
    group = np.cumsum(new) - 1
    lost = np.bincount(group[other])[group] > most if len(keys) else new
    if keep_first:
        lost &= owner != owner[np.flatnonzero(new)][group]
    out = np.zeros(len(keys), np.bool_)
    out[order] = lost
    return out
