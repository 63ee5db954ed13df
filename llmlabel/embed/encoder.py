"""What an encoder is: anything with ``.encode``; a name and a fingerprint make it cacheable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, DataError

__all__ = [
    "Encoder",
    "EncoderFallbackWarning",
    "HasEncode",
    "Progress",
    "Vectors",
    "check_texts",
    "encode_unit",
    "unit_rows",
]

Vectors = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with (texts done, all texts)."""


class EncoderFallbackWarning(UserWarning):
    """A plainer encoder stands in for the one that is not installed."""


@runtime_checkable
class HasEncode(Protocol):
    """Anything that turns texts into rows of numbers: sentence-transformers, model2vec, yours."""

    def encode(self, sentences: Sequence[str], /) -> Any:
        """Return an array of shape (n, d)."""


@runtime_checkable
class Encoder(HasEncode, Protocol):
    """An encoder that says who it is, so that its vectors can be cached and checked."""

    @property
    def name(self) -> str:
        """What `load_encoder` finds it by."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the vectors' meaning does (sha256 of the model's files)."""


def unit_rows(vectors: npt.ArrayLike) -> Vectors:
    """Scale each row to length one; a zero row stays zero.

    Examples
    --------
    >>> unit_rows([[3, 4], [0, 0]]).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    array: Vectors = np.asarray(vectors, np.float32)
    # Summed in float64: squares of small or large float32 numbers leave its range.
    norms = np.sqrt(np.einsum("nd,nd->n", array, array, dtype=np.float64))[:, None]
    scaled: Vectors = np.divide(array, np.where(norms > 0, norms, 1), dtype=np.float32)
    return scaled


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list.

    Raises
    ------
    DataError
        One string instead of several, or a value that is no string.
    """
    if isinstance(texts, str):
        raise DataError(f"expected a list of texts, got the one text {texts[:40]!r}")
    found = list(texts)
    wrong = next((i for i, text in enumerate(found) if not isinstance(text, str)), None)
    if wrong is not None:
        raise DataError(f"expected text, got {type(found[wrong]).__name__}", row=wrong)
    return found


def encode_unit(encoder: HasEncode, texts: Sequence[str]) -> Vectors:
    """Encode texts and check what comes back.

    Returns
    -------
    array of float32, shape (n, d)
        Unit rows.

    Raises
    ------
    ConfigError
        The encoder returned another shape, or numbers that are not finite.
    """
    label = getattr(encoder, "name", type(encoder).__name__)
    vectors = np.asarray(encoder.encode(texts), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ConfigError(
            f"encoder {label!r}: expected an array of shape ({len(texts)}, d) for {len(texts)} texts, "
            f"got {vectors.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ConfigError(
            f"encoder {label!r}: the vector of {texts[bad[0]][:40]!r} is not finite "
            f"(so are {bad.size - 1} others)"
        )
    return unit_rows(vectors)
