"""One pass over a batch of documents: everything that needs a document's own text alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from llmlabel.corpus.decontaminate import BenchmarkIndex, find_leaks, mask_leaks
from llmlabel.corpus.families import FAMILIES, family_verdict
from llmlabel.corpus.language import identify
from llmlabel.corpus.normalize import normalize
from llmlabel.corpus.personal import KINDS, find_personal, mask_personal
from llmlabel.corpus.segment import segment
from llmlabel.corpus.sketches import Sketches, sketch
from llmlabel.corpus.verdict import Verdict
from llmlabel.io import add_columns

__all__ = ["Cleaned", "Cleaning", "clean_batch", "read_sketches", "sketch_columns"]

Texts = list[str]
Reasons = npt.NDArray[np.object_]
_SHOWN: Final = 400  # characters of a dropped document that are kept to be looked at


@dataclass(frozen=True)
class Cleaning:
    """What is done to documents.

    Parameters
    ----------
    normalize
        Whether texts are repaired and put into one form first.
    languages
        Least probability by code of the languages that stay; None: all do.
    identifier
        Who tells the language.
    drop
        Families of rules, or rules (``gopher_quality.min_words``), that drop a document.
        All others are noted and left to vote.
    personal
        What is done about personal data: ``None`` looks for none.
    kinds, regions
        See `find_personal`.
    leaks
        The n-grams of benchmarks, or None.
    on_leak
        What is done about those.
    sketched
        Whether sketches are made, for duplicates.
    """

    normalize: bool = True
    languages: Mapping[str, float] | None = None
    identifier: Literal["py3langid", "lingua"] | None = "py3langid"
    drop: tuple[str, ...] = ()
    personal: Literal["mask", "drop"] | None = None
    kinds: tuple[str, ...] = KINDS
    regions: tuple[str, ...] = ("US",)
    leaks: BenchmarkIndex | None = None
    on_leak: Literal["drop", "mask"] = "drop"
    sketched: bool = True


@dataclass(frozen=True)
class Cleaned:
    """A batch after cleaning.

    Parameters
    ----------
    documents
        Those that stay: all columns, the cleaned ``text``, and what was found. Columns of
        the input whose names these take are called ``given.NAME``.
    dropped
        The others: all columns but the text, of which the beginning is left, ``step`` and
        ``reason``.
    sketches
        A row per document that stays.
    counts
        How many documents were changed or dropped, and what was found.
    """

    documents: pa.Table
    dropped: pa.Table
    sketches: pa.Table | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def clean_batch(table: pa.Table, how: Cleaning) -> Cleaned:
    """Clean a batch of documents.

    Parameters
    ----------
    table
        With ``id`` and ``text``.
    how
        What is done.

    Examples
    --------
    >>> rows = pa.table({"id": ["a", "b"], "text": ["Call me: a.b@example.org", "  "]})
    >>> found = clean_batch(rows, Cleaning(personal="mask", identifier=None))
    >>> found.documents["text"].to_pylist(), found.dropped["reason"].to_pylist()
    (['Call me: <EMAIL>'], ['empty'])
    """
    texts: Texts = table["text"].to_pylist()
    given = texts
    if how.normalize:
        texts = normalize(texts)
    steps = np.full(len(texts), "", object)
    reasons = np.full(len(texts), "", object)
    found: dict[str, Any] = {}
    counts: dict[str, int] = {
        "normalized": sum(a is not b and a != b for a, b in zip(given, texts, strict=True))
    }
    empty = np.array([not text.strip() for text in texts], np.bool_)
    _mark(steps, reasons, "text", np.where(empty, "empty", "").astype(object))
    if how.identifier is not None:
        codes, sure = identify(texts, backend=how.identifier)
        found |= {"language": pa.array(codes), "language_confidence": pa.array(sure)}
        if how.languages is not None:
            _mark(steps, reasons, "language", _other_languages(codes, sure, how.languages))
    found["characters"] = pa.array([len(text) for text in texts], pa.int64())
    # Most of a crawl is in other languages: what has gone needs no rules, but a beginning to show.
    gone = steps != ""
    # Twice what is shown, so that an address at the cut is whole, and masked.
    texts = [t[: 2 * _SHOWN] if out else t for t, out in zip(texts, gone.tolist(), strict=True)]
    segments = segment(texts)
    found["words"] = pa.array(segments.words.counts, mask=gone)
    for family in FAMILIES:
        verdict = family_verdict(family, segments)
        told = verdict.reason.copy()
        told[gone] = None
        found[family] = _encoded(told)
        _mark(steps, reasons, family, _dropping(verdict, family, how.drop))
    if how.leaks is not None:
        leaks = find_leaks(texts, how.leaks, segments=segments)
        counts["leaks"] = len(np.unique(leaks.document))
        if how.on_leak == "drop":
            _mark(steps, reasons, "benchmarks", leaks.verdict().reason)
        else:
            texts = mask_leaks(texts, leaks)
            blank = np.array([not text.strip() for text in texts], np.bool_)
            nothing_else = np.where(blank, leaks.verdict().reason, "").astype(object)
            _mark(steps, reasons, "benchmarks", nothing_else)
    if how.personal is not None:
        texts = _personal(texts, how, steps, reasons, counts)
    return _split(table, texts, found, steps, reasons, how.sketched, counts)


def _mark(steps: Reasons, reasons: Reasons, step: str, reason: Reasons) -> None:
    """Note the first step that drops a document, and why."""
    new = (steps == "") & (reason != "")
    steps[new], reasons[new] = step, reason[new]


def _other_languages(
    codes: npt.NDArray[np.str_], sure: npt.NDArray[Any], least: Mapping[str, float]
) -> Reasons:
    """Return why a document's language drops it, as `language_filter` says it."""
    out = [
        "" if p >= least.get(c, 2) else ("language.unsure" if c in least else f"language.{c}")
        for c, p in zip(codes.tolist(), sure.tolist(), strict=True)
    ]
    return np.array(out, object)


def _dropping(verdict: Verdict, family: str, drop: Sequence[str]) -> Reasons:
    """Return a family's reasons where they are to drop, "" elsewhere."""
    if family in drop:
        return verdict.reason
    rules = [name for name in drop if name.startswith(f"{family}.")]
    return np.where(np.isin(verdict.reason.astype(str), rules), verdict.reason, "").astype(object)


def _personal(
    texts: Texts, how: Cleaning, steps: Reasons, reasons: Reasons, counts: dict[str, int]
) -> Texts:
    found = find_personal(texts, kinds=how.kinds, regions=how.regions)
    for kind, number in found.counts().items():
        counts[f"personal_{kind}"] = int(np.sum(number))
    if how.personal == "drop":
        _mark(steps, reasons, "personal", found.verdict(drop=how.kinds).reason)
    # Of those that are dropped too: a report shows how they begin.
    return mask_personal(texts, found)


def _split(
    table: pa.Table,
    texts: Texts,
    found: Mapping[str, pa.Array],
    steps: Reasons,
    reasons: Reasons,
    sketched: bool,
    counts: Mapping[str, int],
) -> Cleaned:
    """Part the documents that stay from the others."""
    text = table.schema.get_field_index("text")
    table = table.set_column(text, "text", pa.array(texts, pa.string()))
    table = add_columns(table, found)
    stays = steps == ""
    gone = table.filter(pa.array(~stays))
    beginnings = [t[:_SHOWN] for t in gone["text"].to_pylist()]
    said = {"step": steps, "reason": reasons}
    dropped = add_columns(
        gone.drop_columns(["text"]),
        {
            "text": pa.array(beginnings, pa.string()),
            **{name: _encoded(values[~stays]) for name, values in said.items()},
        },
    )
    documents = table.filter(pa.array(stays))
    made = sketch_columns(documents["text"].to_pylist()) if sketched else None
    return Cleaned(documents, dropped, made, counts)


def _encoded(values: Reasons) -> pa.Array:
    return pa.array(values.tolist(), pa.string()).dictionary_encode()


def sketch_columns(texts: Sequence[str]) -> pa.Table:
    """Return documents' sketches as a table, a row each: see `read_sketches`."""
    made = sketch(texts)
    width = made.minhash.shape[1] * made.minhash.dtype.itemsize
    flat = pa.py_buffer(np.ascontiguousarray(made.minhash).tobytes())
    return pa.table(
        {
            "first": pa.array(made.exact[:, 0]),
            "second": pa.array(made.exact[:, 1]),
            "minhash": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), len(made), [None, flat]
            ),
        }
    )


def read_sketches(file: Path) -> Sketches:
    """Read the sketches of a part file of `sketch_columns`."""
    table = pq.read_table(file).combine_chunks()
    width = table.schema.field("minhash").type.byte_width
    column = table["minhash"]
    chunks = [
        np.frombuffer(c.buffers()[1], np.uint8)[c.offset * width :][: len(c) * width]
        for c in column.chunks
    ]
    flat = np.concatenate(chunks) if chunks else np.zeros(0, np.uint8)
    exact = np.column_stack([table["first"].to_numpy(), table["second"].to_numpy()])
    return Sketches(exact, flat.view(np.uint16).reshape(-1, width // 2))
