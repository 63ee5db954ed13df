"""What a shard keeps of its documents so that duplicates are found without their texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.exact import text_hashes
from llmlabel.corpus.minhash import HASHES, SHINGLE, Signatures, signatures
from llmlabel.corpus.segment import Segments, batches, segment
from llmlabel.errors import DataError, no_such_file
from llmlabel.io import atomic_write

__all__ = ["Sketches", "joined_sketches", "load_sketches", "save_sketches", "sketch"]

_FORMAT: Final = 1  # raised when the same text gets another signature


@dataclass(frozen=True)
class Sketches:
    """Exact hashes and MinHash signatures of n documents: 528 bytes each.

    Parameters
    ----------
    exact : uint64 array, shape (n, 2)
    minhash : uint16 array, shape (n, hashes)
    shingle
        Words per n-gram of the signatures.
    """

    exact: npt.NDArray[np.uint64]
    minhash: Signatures
    shingle: int = SHINGLE

    def __len__(self) -> int:
        return len(self.exact)


def sketch(
    texts: Sequence[str],
    *,
    segments: Segments | None = None,
    shingle: int = SHINGLE,
    hashes: int = HASHES,
) -> Sketches:
    """Return what duplicates are found by; each document's depends on its text alone.

    Parameters
    ----------
    texts
        n documents.
    segments
        Their segmentation, where filters have made it already.
    shingle, hashes
        See `minhash.signatures`.

    Examples
    --------
    >>> a = sketch(["One and the same.", "Another text."])
    >>> b = sketch(["one and the  same."])
    >>> bool((a.exact[0] == b.exact[0]).all()), bool((a.minhash[0] == b.minhash[0]).all())
    (True, True)
    """
    if segments is not None and len(segments) != len(texts):
        raise DataError(f"{len(texts)} texts, but a segmentation of {len(segments)}")
    parts = [segments] if segments is not None else (segment(texts[s]) for s in batches(texts))
    found = [
        signatures(part.term_hashes, part.terms.offsets, shingle=shingle, hashes=hashes)
        for part in parts
    ]
    table = np.concatenate([np.empty((0, hashes), np.uint16), *found])
    return Sketches(text_hashes(texts), table, shingle)


def joined_sketches(parts: Sequence[Sketches]) -> Sketches:
    """Return the sketches of all parts, one after the other.

    Raises
    ------
    DataError
        They were made with different settings.
    """
    if not parts:
        raise DataError("no sketches to join")
    made = {(part.shingle, part.minhash.shape[1]) for part in parts}
    if len(made) > 1:
        raise DataError(f"sketches of different settings (shingle, hashes): {sorted(made)}")
    return Sketches(
        np.concatenate([part.exact for part in parts]),
        np.concatenate([part.minhash for part in parts]),
        parts[0].shingle,
    )


def save_sketches(sketches: Sketches, folder: str | Path) -> None:
    """Write sketches into a folder; what says that it is whole is written last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sketches.json").unlink(missing_ok=True)
    for name, array in (("exact", sketches.exact), ("minhash", sketches.minhash)):
        with atomic_write(folder / f"{name}.npy") as part:
            np.save(part, array, allow_pickle=False)
    with atomic_write(folder / "sketches.json") as part:
        part.write_text(json.dumps(_meta(sketches)) + "\n", encoding="utf-8")


def load_sketches(folder: str | Path) -> Sketches:
    """Return the sketches of a folder as memory maps.

    Raises
    ------
    DataError
        The folder is none of `save_sketches`, was not finished, or is of another version.
    """
    folder = Path(folder)
    file = folder / "sketches.json"
    if not file.is_file():
        raise DataError(f"no sketches: {no_such_file(file)}", file=file)
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        exact, minhash = (
            np.load(folder / f"{name}.npy", mmap_mode="r" if meta["documents"] else None)
            for name in ("exact", "minhash")
        )
        found = Sketches(exact, minhash, int(meta["shingle"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"no sketches: {error}", file=file) from error
    if meta != _meta(found):
        raise DataError(f"expected sketches of {_meta(found)}, got {meta}", file=file)
    return found


def _meta(sketches: Sketches) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "documents": len(sketches),
        "shingle": sketches.shingle,
        "hashes": sketches.minhash.shape[1],
    }
