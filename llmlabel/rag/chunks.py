"""Documents to chunks: by structure, tokens, sentences or meaning; never more than so many tokens."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.rag.boundaries import Level, capped, structure
from llmlabel.rag.cutting import Text, cut, cut_tokens
from llmlabel.rag.fitting import Piece, fit
from llmlabel.rag.semantic_breaks import Encode, semantic_breaks
from llmlabel.rag.tokenizers import Tokenizer, default_tokenizer, tokenizer_of

__all__ = ["Chunking", "Strategy", "chunk_documents", "texts_with_headings"]

Strategy = Literal["structure", "tokens", "sentences", "semantic"]

_BATCH_CHARACTERS: Final = 1 << 21
_OWN: Final = ("id", "document", "text", "start", "end", "headings", "tokens")


@dataclass(frozen=True)
class Chunking:
    """How documents are cut.

    Parameters
    ----------
    strategy : {"structure", "tokens", "sentences", "semantic"}
        ``structure``: sections, then blocks, items and sentences; tables and code that fit
        stay whole. ``tokens``: windows. ``sentences``: as many whole sentences as fit.
        ``semantic``: sentences up to where the meaning turns.
    size
        Tokens that a chunk has at most. Special tokens are not counted: an encoder of 256
        tokens that adds two takes chunks of 254.
    overlap
        Tokens of the last chunk that the next one repeats, at most; ``structure`` repeats
        none over a heading, ``semantic`` none over a break.
    breaks
        ``semantic``: the share of places between sentences where the meaning turns.

    Raises
    ------
    ConfigError
        A number out of its range, or an unknown strategy.
    """

    strategy: Strategy = "structure"
    size: int = 200
    overlap: int = 0
    breaks: float = 0.1

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise UnknownNameError("chunking strategy", self.strategy, get_args(Strategy))
        if self.size < 1:
            raise ConfigError(f"size: expected at least 1 token, got {self.size}")
        if not 0 <= self.overlap < self.size:
            raise ConfigError(
                f"overlap: expected 0 to {self.size - 1} tokens, less than the size, "
                f"got {self.overlap}"
            )
        if not 0 < self.breaks < 1:
            raise ConfigError(f"breaks: expected a share between 0 and 1, got {self.breaks}")


_DEFAULTS: Final = Chunking()


def chunk_documents(
    documents: pa.Table,
    chunking: Chunking = _DEFAULTS,
    *,
    tokenizer: Tokenizer | Callable[[str], Any] | Any | None = None,
    encode: Encode | None = None,
) -> pa.Table:
    r"""Cut documents into chunks.

    Parameters
    ----------
    documents
        Columns ``id`` and ``text``; every other column is repeated in each chunk.
    chunking
        How.
    tokenizer
        What counts tokens: see `tokenizer_of`. By default `default_tokenizer`.
    encode
        ``semantic``: sentences to unit vectors, shape (n, d).

    Returns
    -------
    Columns ``id`` (``DOCUMENT#n``, n from 0), ``document``, ``text``, ``start`` and ``end``
    (code points: ``text[start:end]`` of the document is the very chunk), ``headings`` (those
    that all of the chunk stands below), ``tokens``, and the documents' others. Chunks are in
    the order of the documents and of their texts, without white space at their ends; all
    that is no white space is in one of them.

    Raises
    ------
    DataError
        A column is missing, holds nulls or has a chunk's name; an id occurs twice; or one
        character alone has more tokens than `size`.
    ConfigError
        ``semantic`` without `encode`, or a tokenizer that is none.

    Examples
    --------
    >>> text = "# Tents\n\nPitch it dry.\n\n## Repair\n\nSew the tear. Seal the seam."
    >>> found = chunk_documents(
    ...     pa.table({"id": ["a"], "text": [text]}),
    ...     Chunking(size=8),
    ...     tokenizer=lambda t: [(m.start(), m.end()) for m in __import__("re").finditer(r"\S+", t)],
    ... )
    >>> found.select(["id", "start", "end", "headings", "tokens"]).to_pylist()[1]
    {'id': 'a#1', 'start': 24, 'end': 63, 'headings': ['Tents', 'Repair'], 'tokens': 8}
    """
    _check(documents)
    tokens = default_tokenizer() if tokenizer is None else tokenizer_of(tokenizer)
    texts: list[str] = documents["text"].to_pylist()
    if chunking.strategy == "semantic":
        if encode is None:
            raise ConfigError(
                "the chunking strategy 'semantic' needs encode, from texts to vectors"
            )
        turns = semantic_breaks(texts, encode, chunking.breaks)
    else:
        turns = [[] for _ in texts]
    ids = documents["id"].to_pylist()
    parts = [
        _batch(texts[a:b], turns[a:b], ids[a:b], a, chunking, tokens) for a, b in _batches(texts)
    ]
    return _joined(documents, parts)


def texts_with_headings(chunks: pa.Table) -> list[str]:
    r"""Return each chunk's text below its title and headings, for an index that sees them.

    Examples
    --------
    >>> texts_with_headings(pa.table({"text": ["Sew it."], "headings": [["Tents", "Repair"]]}))
    ['Tents > Repair\nSew it.']
    """
    titles: list[str | None] = (
        chunks["title"].to_pylist() if "title" in chunks.column_names else [None] * len(chunks)
    )
    found = []
    columns = (chunks["text"].to_pylist(), chunks["headings"].to_pylist(), titles)
    for text, headings, title in zip(*columns, strict=True):
        path = [*([title] if title and title not in headings[:1] else []), *headings]
        found.append(f"{' > '.join(path)}\n{text}" if path else text)
    return found


@dataclass(frozen=True)
class _Part:
    """The chunks of some documents."""

    rows: list[int]
    pieces: list[Piece]
    texts: list[str]
    headings: list[tuple[str, ...]]
    tokens: npt.NDArray[np.int64]


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start, size = 0, 0
    for row, text in enumerate(texts):
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield start, row + 1
            start, size = row + 1, 0
    if start < len(texts):
        yield start, len(texts)


def _batch(
    texts: Sequence[str],
    turns: Sequence[Sequence[int]],
    ids: Sequence[str],
    first: int,
    chunking: Chunking,
    tokenizer: Tokenizer,
) -> _Part:
    starts = tokenizer.starts(texts)
    found = [_text(t, s, chunking) for t, s in zip(texts, starts, strict=True)]

    def pieces_of(row: int, size: int) -> list[Piece]:
        overlap = min(chunking.overlap, size - 1)
        if chunking.strategy == "tokens":
            return cut_tokens(found[row], size, overlap)
        edges = [0, *turns[row], len(texts[row])]
        return [
            p for a, b in itertools.pairwise(edges) for p in cut(found[row], size, overlap, a, b)
        ]

    rows, pieces, tokens = fit(found, pieces_of, chunking.size, tokenizer, ids)
    headings = [_path(found[row], piece) for row, piece in zip(rows, pieces, strict=True)]
    own = [texts[row][a:b] for row, (a, b) in zip(rows, pieces, strict=True)]
    return _Part([first + row for row in rows], pieces, own, headings, tokens)


def _text(text: str, starts: npt.NDArray[np.int64], chunking: Chunking) -> Text:
    found = structure(text)
    if chunking.strategy in ("sentences", "semantic"):
        whole = chunking.strategy == "semantic"
        found = capped(found, Level.SENTENCE, keep_whole=whole)
    return Text(text, starts, found)


def _path(found: Text, piece: Piece) -> tuple[str, ...]:
    """Return the headings that all of a piece stands below."""
    headings = found.boundaries.headings
    if not headings:
        return ()
    after = bisect_right(headings, piece[0], key=lambda h: h[0])
    path = headings[after - 1][1] if after else ()
    for _, other in headings[after : bisect_left(headings, piece[1], key=lambda h: h[0])]:
        if not path:
            break
        common = [a == b for a, b in zip(path, other, strict=False)]
        path = path[: common.index(False) if False in common else len(common)]
    return path


def _joined(documents: pa.Table, parts: Sequence[_Part]) -> pa.Table:
    rows = np.array([row for part in parts for row in part.rows], np.int64)
    pieces = np.array([p for part in parts for p in part.pieces], np.int64).reshape(-1, 2)
    new = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    numbers = np.arange(len(rows)) - np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
    names = documents["id"].take(pa.array(rows)).to_pylist()
    own = {
        "id": pa.array(
            [f"{d}#{n}" for d, n in zip(names, numbers.tolist(), strict=True)], pa.string()
        ),
        "document": pa.array(names, pa.string()),
        "text": pa.array([t for part in parts for t in part.texts], pa.string()),
        "start": pa.array(pieces[:, 0]),
        "end": pa.array(pieces[:, 1]),
        "headings": pa.array([list(h) for p in parts for h in p.headings], pa.list_(pa.string())),
        "tokens": pa.array(np.concatenate([np.empty(0, np.int64), *(p.tokens for p in parts)])),
    }
    others = documents.drop_columns(["id", "text"]).take(pa.array(rows))
    return pa.table({**own, **{name: others[name] for name in others.column_names}})


def _check(documents: pa.Table) -> None:
    names = documents.column_names
    for name in ("id", "text"):
        if name not in names:
            raise DataError(f"no such column (columns: {', '.join(names[:12])})", field=name)
        if documents[name].null_count:
            raise DataError("expected text in every row, got null", field=name)
    ids = documents["id"].to_pylist()
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise DataError(
            "this id occurs twice; expected one of its own for each document", row=twice
        )
    taken = [name for name in names if name in _OWN and name not in ("id", "text")]
    if taken:
        raise DataError("a chunk has a column of this name; rename the document's", field=taken[0])
