"""Rows as token ids and labels of a causal language model, and blocks of them. Needs no torch."""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llmlabel.distill.causal_rows import Row, SpannedText, Turns, read_rows
from llmlabel.errors import ConfigError, DataError

__all__ = ["IGNORED", "Encoder", "Examples", "OnTooLong", "collate", "encode_rows", "pack"]

IGNORED: Final = -100
"""The label of a token that is not learned; what torch's cross-entropy leaves out."""
OnTooLong = Literal["error", "drop"]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Examples:
    """Tokenised rows.

    Parameters
    ----------
    ids
        n arrays of token ids, each of shape (length,).
    labels
        n arrays like them: the token's own id where it is learned, -100 elsewhere. The first
        is never learned: nothing comes before it that could predict it.
    weights : array, shape (n,)
        How much each row's loss counts.
    rows : array, shape (n,)
        Which of the given rows each is.
    truncated
        How many prompts were cut.
    dropped
        How many rows were left out.
    across
        Rows in which a token holds characters of a prompt and of what follows it, see
        `encode_rows`.
    """

    ids: tuple[Ints, ...]
    labels: tuple[Ints, ...]
    weights: npt.NDArray[np.float64]
    rows: Ints
    truncated: int
    dropped: int
    across: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Ints:
        """Tokens of each example, shape (n,)."""
        return np.array([len(i) for i in self.ids], np.int64)

    @property
    def targets(self) -> Ints:
        """Learned tokens of each example, shape (n,)."""
        return np.array([(one != IGNORED).sum() for one in self.labels], np.int64)

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of ids, labels and weights, in their order."""
        digest = hashlib.sha256(self.lengths.tobytes())
        for part in (*self.ids, *self.labels, self.weights):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


class Encoder:
    """Token ids of texts, and which token a character belongs to.

    Parameters
    ----------
    tokenizer
        Of transformers. A slow one knows no offsets; see `spanned`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._fast = bool(tokenizer.is_fast)
        self.eos: int | None = tokenizer.eos_token_id
        bos = tokenizer.bos_token_id
        # Whether it is put in front is the tokenizer's own habit, which no attribute tells.
        puts_it = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
        self.bos: int | None = bos if puts_it else None
        self.first: int | None = bos

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens of the tokenizer's own."""
        found: list[list[int]] = self._call(texts)["input_ids"] if texts else []
        return found

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt as they begin a row of prompt and completion."""
        return [*([] if self.bos is None else [self.bos]), *self.plain([text])[0]]

    def spanned(
        self, texts: Sequence[SpannedText]
    ) -> list[tuple[Ints, npt.NDArray[np.bool_], bool]]:
        """Return each text's ids, which are learned, and whether one reaches into a span.

        The ids of the text before a span are a prefix of the whole's ids wherever a token
        ends there, and then their number is the place. Where a token reaches across, the
        offsets tell: it is learned where any of its characters is. A slow tokenizer has none;
        the text is then tokenised in pieces, so that no token reaches across.
        """
        whole = self._call([t.text for t in texts], offsets=self._fast)
        cuts = [sorted({at for span in t.spans for at in span} - {len(t.text)}) for t in texts]
        heads = iter(
            self.plain([t.text[:at] for t, c in zip(texts, cuts, strict=True) for at in c])
        )
        out = []
        for i, text in enumerate(texts):
            ids: list[int] = whole["input_ids"][i]
            offsets = whole["offset_mapping"][i] if self._fast else None
            known = {at: next(heads) for at in cuts[i]}
            places = {at: len(h) for at, h in known.items() if ids[: len(h)] == h}
            if len(places) < len(known) and offsets is None:
                ids, places = self._pieces(text.text, cuts[i])
            places[len(text.text)] = len(ids)
            across = any(start not in places for start, _ in text.spans)
            learned = _learned(text.spans, places, offsets, len(ids))
            out.append((*self._closed(text, ids, learned), across))
        return out

    def _pieces(self, text: str, cuts: Sequence[int]) -> tuple[list[int], dict[int, int]]:
        edges = [0, *cuts, len(text)]
        parts = self.plain([text[a:b] for a, b in itertools.pairwise(edges)])
        ends = np.cumsum([len(p) for p in parts]).tolist()
        return [i for p in parts for i in p], dict(zip(cuts, ends, strict=False))

    def _closed(
        self, text: SpannedText, ids: list[int], learned: npt.NDArray[np.bool_]
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Put the special tokens around that the text lacks."""
        before = [self.bos] if text.bos and self.bos is not None else []
        after = [self.eos] if text.eos and self.eos is not None else []
        if after and ids and ids[-1] == self.eos and learned[-1]:
            after = []
        mask = np.concatenate([np.zeros(len(before), bool), learned, np.ones(len(after), bool)])
        return np.array([*before, *ids, *after], np.int64), mask

    def _call(self, texts: Sequence[str], *, offsets: bool = False) -> Any:
        more = {"return_offsets_mapping": True} if offsets else {}
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False, **more)


def _learned(
    spans: Sequence[tuple[int, int]],
    places: dict[int, int],
    offsets: Sequence[tuple[int, int]] | None,
    n: int,
) -> npt.NDArray[np.bool_]:
    edges = np.array([] if offsets is None else offsets, np.int64).reshape(-1, 2)
    mask = np.zeros(n, bool)
    for start, end in spans:
        first = places.get(start)
        if first is None:
            first = int(np.searchsorted(edges[:, 1], start, side="right"))
        last = places.get(end)
        if last is None:
            last = int(np.searchsorted(edges[:, 0], end, side="left"))
        mask[first:last] = True
    return mask


def encode_rows(
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    max_length: int,
    turns: Turns = "all",
    on_too_long: OnTooLong = "error",
) -> Examples:
    """Tokenise rows for training on their completions.

    A row of prompt and completion is the two put together and the end-of-text token; one of
    messages is what the chat template makes of them, and ends with the end-of-text token
    where the template itself ends an answer with nothing. Labels are -100 everywhere but on
    the completion, or on the assistant's turns.

    A row that is too long loses the beginning of its prompt, never a token of what is learned;
    a first special token stays.

    Text is tokenised as a whole. Where a token then holds the end of a prompt and the beginning
    of its completion, it is learned, and `Examples.across` counts the row: a prompt that is
    tokenised alone, to generate from it, ends otherwise there. A prompt that ends in a space is
    the usual reason; begin the completion with it instead.

    Parameters
    ----------
    rows
        n rows, each with ``prompt`` and ``completion``, or with ``messages``; optionally with
        a ``weight``.
    tokenizer
        Of transformers.
    max_length
        The most tokens of a row.
    turns
        Which assistant turns of messages are learned: all, or the last only.
    on_too_long
        What happens to a row whose learned tokens do not fit behind a token of its prompt, or
        that has none: an error, or it is dropped and counted.

    Raises
    ------
    DataError
        A row of another form, too long or without a token to learn; no row left.
    ConfigError
        A `max_length` below 2, messages without a chat template, unknown options.
    """
    if max_length < 2:
        raise ConfigError(f"max_length: expected at least 2 tokens, got {max_length}")
    if on_too_long not in ("error", "drop"):
        raise ConfigError(f"on_too_long: expected 'error' or 'drop', got {on_too_long!r}")
    texts = read_rows(rows, tokenizer, turns=turns)
    encoder = Encoder(tokenizer)
    kept: list[tuple[Ints, Ints]] = []
    numbers: list[int] = []
    truncated = across = 0
    for i, (ids, learned, reaches) in enumerate(encoder.spanned(texts)):
        labels = np.where(learned, ids, IGNORED)
        labels[:1] = IGNORED
        problem = _problem(labels, max_length)
        if problem is None:
            numbers.append(i)
            kept.append(_cut(ids, labels, max_length, encoder.first))
            truncated += len(ids) > max_length
            across += reaches
        elif on_too_long == "error":
            raise DataError(
                problem, row=i, hint="a greater max_length, or on_too_long='drop' to leave it out"
            )
    if not kept:
        raise DataError(f"none of {len(rows)} rows has a completion that fits into {max_length}")
    return Examples(
        ids=tuple(ids for ids, _ in kept),
        labels=tuple(labels for _, labels in kept),
        weights=np.array([texts[i].weight for i in numbers]),
        rows=np.array(numbers, np.int64),
        truncated=truncated,
        dropped=len(rows) - len(kept),
        across=across,
    )


def _problem(labels: Ints, max_length: int) -> str | None:
    """Say why a row cannot be learned from, or None."""
    learned = np.flatnonzero(labels != IGNORED)
    if not learned.size:
        return "no token to learn: expected a completion behind at least one token"
    needed = len(labels) - int(learned[0])
    if needed + 1 > max_length:
        return (
            f"{needed} tokens from the first that is learned to the end, expected at most "
            f"{max_length - 1}: max_length is {max_length} and a token must come before"
        )
    return None


def _cut(ids: Ints, labels: Ints, max_length: int, first: int | None) -> tuple[Ints, Ints]:
    over = len(ids) - max_length
    if over <= 0:
        return ids, labels
    lead = int(ids[0] == first)
    return (
        np.concatenate([ids[:lead], ids[lead + over :]]),
        np.concatenate([labels[:lead], labels[lead + over :]]),
    )


def pack(lengths: npt.ArrayLike, max_length: int) -> list[Ints]:
    """Put rows together into blocks of at most `max_length` tokens.

    The longest first, each into the fullest block that still has room (best fit decreasing).

    Parameters
    ----------
    lengths : array, shape (n,)

    Returns
    -------
    The rows of each block, ascending.

    Examples
    --------
    >>> [block.tolist() for block in pack([3, 6, 2, 5], max_length=8)]
    [[1, 2], [0, 3]]
    """
    sizes = np.asarray(lengths, np.int64)
    blocks: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left of each block, ascending, and the block
    for i in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[i])
        at = bisect_left(room, (size, -1))
        if at == len(room):
            left, block = max_length, len(blocks)
            blocks.append([])
        else:
            left, block = room.pop(at)
        blocks[block].append(i)
        insort(room, (left - size, block))
    return [np.sort(np.array(block, np.int64)) for block in blocks]


def collate(examples: Examples, blocks: Sequence[Ints], pad_id: int) -> dict[str, npt.NDArray[Any]]:
    """Put blocks of examples into one batch, padded on the right.

    Returns
    -------
    Arrays of shape (b, longest): ``input_ids``, ``labels``, ``position_ids`` that begin anew
    with each row, ``segments`` (which row of its block a token is of; -1 is padding) and
    ``weights``.
    """
    lengths = [[len(examples.ids[i]) for i in block] for block in blocks]
    shape = (len(blocks), max(map(sum, lengths)))
    batch: dict[str, npt.NDArray[Any]] = {
        "input_ids": np.full(shape, pad_id, np.int64),
        "labels": np.full(shape, IGNORED, np.int64),
        "position_ids": np.zeros(shape, np.int64),
        "segments": np.full(shape, -1, np.int64),
        "weights": np.zeros(shape, np.float32),
    }
    for b, (block, sizes) in enumerate(zip(blocks, lengths, strict=True)):
        n = sum(sizes)
        batch["input_ids"][b, :n] = np.concatenate([examples.ids[i] for i in block])
        batch["labels"][b, :n] = np.concatenate([examples.labels[i] for i in block])
        batch["position_ids"][b, :n] = np.concatenate([np.arange(s) for s in sizes])
        batch["segments"][b, :n] = np.repeat(np.arange(len(sizes)), sizes)
        batch["weights"][b, :n] = np.repeat(examples.weights[block], sizes)
    return batch
