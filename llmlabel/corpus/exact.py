"""Exact duplicates: documents that are the same but for case and white space."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["exact_groups", "text_hashes"]

Ints = npt.NDArray[np.int64]

_SPACE: Final = b" \t\n\r\x0b\x0c"


def text_hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    r"""Return a 128-bit hash of each text in lower case, without its (ASCII) white space.

    Two different texts of a billion share a hash with a probability of 1e-21, so equal
    hashes are taken for equal texts.

    Parameters
    ----------
    texts
        n texts.

    Returns
    -------
    uint64 array of shape (n, 2): BLAKE2b, the same on every machine.

    Examples
    --------
    >>> a, b, c = text_hashes(["One text.", "one  text.\n", "One text"])
    >>> bool((a == b).all()), bool((a == c).all())
    (True, False)
    """
    digests = [
        hashlib.blake2b(
            text.lower().encode("utf-8", "surrogatepass").translate(None, _SPACE), digest_size=16
        ).digest()
        for text in texts
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64).reshape(-1, 2)


def exact_groups(hashes: npt.NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Return one row per different hash, in the order of hashes, and the group of each row.

    Parameters
    ----------
    hashes : uint64 array, shape (n, 2)

    Returns
    -------
    Rows, shape (g,), the first of each group; groups, shape (n,), from 0 to g - 1. Which
    text has which number does not depend on the order of the rows.

    Examples
    --------
    >>> rows, group = exact_groups(np.array([[9, 0], [2, 0], [9, 0]], np.uint64))
    >>> rows.tolist(), group.tolist()
    ([1, 0], [1, 0, 1])
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    changes = np.ones(len(hashes), np.bool_)
    for part in range(2):
        column = hashes[order, part]
        same = column[1:] == column[:-1]
        changes[1:] &= same
    changes[1:] = ~changes[1:]
    group = np.empty(len(hashes), np.int64)
    group[order] = np.cumsum(changes) - 1
    return order[changes], group
