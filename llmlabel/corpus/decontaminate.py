"""Benchmark texts in a corpus: found by n-grams of words, dropped or masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.corpus.ngrams import Hashes, ngrams
from llmlabel.corpus.segment import Segments, batches, segment
from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import ConfigError, DataError, no_such_file
from llmlabel.io import read_table

__all__ = [
    "BenchmarkIndex",
    "Leaks",
    "benchmark_index",
    "find_leaks",
    "mask_leaks",
    "read_benchmark",
]

Ints = npt.NDArray[np.int64]

WORDS: Final = 13
_FILTER_BITS: Final = 22  # a table of 4 MB tells most n-grams of a corpus from those looked for


@dataclass(frozen=True)
class BenchmarkIndex:
    """The n-grams of benchmarks.

    Parameters
    ----------
    hashes : uint64 array, shape (k,)
        Sorted.
    source : int32 array, shape (k,)
        The benchmark of each n-gram, an index into `names`; the first that has it.
    names
        Of the benchmarks.
    n
        Words per n-gram.
    short
        Texts per benchmark that have fewer words than that and cannot be found.
    """

    hashes: Hashes
    source: npt.NDArray[np.int32]
    names: tuple[str, ...]
    n: int
    short: Mapping[str, int]


@dataclass(frozen=True)
class Leaks:
    """Stretches of documents that stand in a benchmark too, in order.

    Parameters
    ----------
    document : int64 array, shape (s,)
    start, end : int64 arrays, shape (s,)
        Of the stretch, in characters of the document.
    benchmark : object array, shape (s,)
        Its name.
    words : object array, shape (s,)
        The stretch as it is written in the document.
    documents
        How many were searched.
    """

    document: Ints
    start: Ints
    end: Ints
    benchmark: npt.NDArray[np.object_]
    words: npt.NDArray[np.object_]
    documents: int

    def verdict(self) -> Verdict:
        """Return why documents are dropped: the benchmark and the first words of the stretch."""
        reason = np.full(self.documents, "", object)
        for i in range(len(self.document) - 1, -1, -1):
            shown = " ".join(self.words[i].split())
            shown = shown if len(shown) <= 120 else shown[:117] + "..."
            reason[self.document[i]] = f"in benchmark {self.benchmark[i]}: {shown}"
        length = np.zeros(self.documents, np.int64)
        np.add.at(length, self.document, self.end - self.start)
        return Verdict(reason, {"leaked_characters": length})


def read_benchmark(path: str | Path, columns: Iterable[str] | None = None) -> list[str]:
    """Return the texts of a benchmark file.

    Parameters
    ----------
    path
        A table (JSONL, Parquet, CSV, ...), of which the columns of text are read, or ``.txt``,
        which is one text per paragraph.
    columns
        Which columns; by default all of text.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        if not path.is_file():
            raise DataError(no_such_file(path), file=path)
        parts = path.read_text(encoding="utf-8", errors="replace").split("\n\n")
        return [part for part in parts if part.strip()]
    table = read_table(path)
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or _large(f.type)]
    names = texts if columns is None else list(columns)
    for name in names:
        if name not in texts:
            raise DataError(
                f"no column of text {name!r} (there are: {', '.join(texts)})", file=path
            )
    return [text for name in names for text in table[name].to_pylist() if text]


def benchmark_index(
    benchmarks: Mapping[str, Sequence[str]], *, n: int = WORDS, allow: Sequence[str] = ()
) -> BenchmarkIndex:
    """Return the n-grams of benchmarks, to be looked for in documents.

    Parameters
    ----------
    benchmarks
        Texts by name.
    n
        Words in a row that have to be the same (case and punctuation do not count); 13 as in
        T. Brown et al. (2020), Language models are few-shot learners, appendix C. Where a
        script has no spaces between words, a word is a character: take more of them.
    allow
        Texts whose n-grams may stand in documents: licences, fixed phrases, quotations.

    Examples
    --------
    >>> index = benchmark_index({"qa": ["what is the capital of france", "too short"]}, n=4)
    >>> len(index.hashes), dict(index.short)
    (3, {'qa': 1})
    """
    if n < 1:
        raise ConfigError(f"n: expected at least 1 word, got {n}")
    hashes, source, short = [np.empty(0, np.uint64)], [np.empty(0, np.int32)], {}
    for i, (name, texts) in enumerate(benchmarks.items()):
        grams, short[name] = _grams(texts, n)
        hashes.append(grams)
        source.append(np.full(len(grams), i, np.int32))
    different, first = np.unique(np.concatenate(hashes), return_index=True)
    wanted = ~np.isin(different, _grams(allow, n)[0])
    return BenchmarkIndex(
        different[wanted], np.concatenate(source)[first[wanted]], tuple(benchmarks), n, short
    )


def find_leaks(
    texts: Sequence[str], index: BenchmarkIndex, *, segments: Segments | None = None
) -> Leaks:
    """Find the stretches of documents whose n-grams stand in a benchmark.

    Parameters
    ----------
    texts
        Documents.
    index
        From `benchmark_index`.
    segments
        The documents' segmentation, where filters have made it already.

    Returns
    -------
    Leaks: n-grams that overlap or touch are one stretch, named after its first n-gram's
    benchmark.

    Notes
    -----
    Hashes of 64 bits are not compared with words again: a million n-grams of benchmarks and
    a trillion of a corpus meet by chance about once in 20 such runs.

    Examples
    --------
    >>> index = benchmark_index({"qa": ["what is the capital of france"]}, n=4)
    >>> found = find_leaks(["Ask: what is the Capital, of France?", "nothing here"], index)
    >>> found.verdict().reason.tolist()
    ['in benchmark qa: what is the Capital, of France', '']
    """
    if segments is not None and len(segments) != len(texts):
        raise DataError(f"{len(texts)} texts, but a segmentation of {len(segments)}")
    known = np.zeros(1 << _FILTER_BITS, np.bool_)
    known[index.hashes >> np.uint64(64 - _FILTER_BITS)] = True
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    for batch in [slice(0, len(texts))] if segments is not None else batches(texts):
        found = _find(segments or segment(texts[batch]), index, known)
        parts.append((found[0] + batch.start, *found[1:]))
    empty = np.empty(0, np.int64)
    document, start, end, source = (
        np.concatenate([empty, *(part[i] for part in parts)]) for i in range(4)
    )
    words = [
        texts[d][s:e]
        for d, s, e in zip(document.tolist(), start.tolist(), end.tolist(), strict=True)
    ]
    names = np.array([*index.names, ""], object)
    return Leaks(
        document, start, end, names[source], np.array([*words, None], object)[:-1], len(texts)
    )


def mask_leaks(texts: Sequence[str], leaks: Leaks, mask: str = "") -> list[str]:
    """Return documents with `mask` in place of the stretches that were found."""
    out = list(texts)
    # From the end, so that the places before stay right.
    for i in range(len(leaks.document) - 1, -1, -1):
        row, start, end = (int(a[i]) for a in (leaks.document, leaks.start, leaks.end))
        out[row] = out[row][:start] + mask + out[row][end:]
    return out


def _large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _grams(texts: Sequence[str], n: int) -> tuple[Hashes, int]:
    """Return the n-grams of texts, and how many texts have none but have words."""
    hashes, short = [np.empty(0, np.uint64)], 0
    for batch in batches(texts):
        found = segment(texts[batch])
        grams, offsets = ngrams(found.term_hashes, found.terms.offsets, n, whole=False)
        hashes.append(grams)
        short += int(((np.diff(offsets) == 0) & (found.terms.counts > 0)).sum())
    return np.concatenate(hashes), short


def _find(
    found: Segments, index: BenchmarkIndex, known: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return document, start, end and benchmark of each stretch of a batch."""
    terms = found.terms
    grams, bounds = ngrams(found.term_hashes, terms.offsets, index.n, whole=False)
    maybe = np.flatnonzero(known[grams >> np.uint64(64 - _FILTER_BITS)])
    place = np.minimum(np.searchsorted(index.hashes, grams[maybe]), len(index.hashes) - 1)
    hit = index.hashes[place] == grams[maybe] if len(index.hashes) else np.zeros(0, np.bool_)
    at, source = maybe[hit], index.source[place[hit]].astype(np.int64)
    document = np.searchsorted(bounds, at, side="right") - 1
    word = terms.offsets[document] + at - bounds[document]
    new = np.ones(len(at), np.bool_)
    new[1:] = (document[1:] != document[:-1]) | (word[1:] > word[:-1] + index.n)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(at))[: len(first)] - 1
    owner = document[first]
    base = found.offsets[owner]
    return (
        owner,
        terms.start[word[first]] - base,
        terms.end[word[last] + index.n - 1] - base,
        source[first],
    )
