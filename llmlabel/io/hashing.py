"""Numbers whose bits are mixed: what hashes of words, rows and draws have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["mix"]

_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return 64-bit numbers with their bits mixed, one to one.

    Notes
    -----
    The finaliser of splitmix64: G. Steele, D. Lea and C. Flood (2014), Fast splittable
    pseudorandom number generators.

    Examples
    --------
    >>> mix(np.array([1], np.uint64)).tolist()
    [6238072747940578789]
    """
    value = value ^ (value >> np.uint64(30))
    value *= _FIRST
    value ^= value >> np.uint64(27)
    value *= _SECOND
    value ^= value >> np.uint64(31)
    return value
