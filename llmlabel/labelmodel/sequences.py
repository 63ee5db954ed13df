"""Chains of tokens: forward-backward and Viterbi over all sentences at once, BIO tags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.labelmodel.patterns import Array

__all__ = ["Chains", "Smoothed", "bio_tags", "chains", "smooth", "viterbi"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Chains:
    """Sentences in the order in which they are worked through: all first tokens, then all second.

    Sentences are sorted by length, longest first, so that the tokens at one position are
    a block and belong to the first sentences: nothing is padded.

    Parameters
    ----------
    order : array of int, shape (n,)
        ``tokens[order]`` is in that order.
    starts : array of int, shape (t + 1,)
        Block p is ``starts[p]`` to ``starts[p + 1]``; t is the longest sentence.
    """

    order: Ints
    starts: Ints

    @property
    def blocks(self) -> list[slice]:
        """The blocks in order of position."""
        return [slice(a, b) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]


@dataclass(frozen=True, eq=False)
class Smoothed:
    """What forward-backward finds.

    Parameters
    ----------
    posterior : array, shape (n, k)
        P(class of a token | all votes of its sentence).
    first : array, shape (k,)
        Expected number of sentences that begin with each class.
    moves : array, shape (k, k)
        Expected number of moves from class to class.
    log_evidence : float
        Log probability of all votes.
    """

    posterior: Array
    first: Array
    moves: Array
    log_evidence: float


def chains(lengths: npt.ArrayLike, n: int) -> Chains:
    """Return the working order of sentences with these lengths, n tokens in all.

    Raises
    ------
    DataError
        Lengths that are no positive whole numbers, or do not add up to n.

    Examples
    --------
    >>> found = chains([1, 3], 4)
    >>> found.order.tolist(), found.starts.tolist()
    ([1, 0, 2, 3], [0, 2, 3, 4])
    """
    given = np.asarray(lengths)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu") or (given < 1).any():
        raise DataError("lengths: expected one positive whole number per sentence")
    if given.sum() != n:
        raise DataError(f"lengths: they add up to {given.sum()}; there are {n} tokens")
    given = given.astype(np.int64)  # no sentence at all is an array of floats
    longest_first = np.argsort(-given, kind="stable")
    rank = np.empty(len(given), np.int64)
    rank[longest_first] = np.arange(len(given))
    begins = np.cumsum(given) - given
    position = np.arange(n, dtype=np.int64) - np.repeat(begins, given)
    order = np.lexsort((np.repeat(rank, given), position))
    starts = np.concatenate([[0], np.cumsum(np.bincount(position))]).astype(np.int64)
    return Chains(order, starts)


def smooth(log_likelihood: Array, layout: Chains, start: Array, moves: Array) -> Smoothed:
    """Run forward-backward [1]_ on every sentence.

    Parameters
    ----------
    log_likelihood : array, shape (n, k)
        Log probability of each token's votes given its class.
    layout
        Of `chains`.
    start, moves : arrays, shapes (k,) and (k, k)
        P(first class) and P(next class | class), by row.

    References
    ----------
    .. [1] L. R. Rabiner, "A tutorial on hidden Markov models", Proceedings of the IEEE
       77(2), 1989, 257-286; scaled as in its section V.

    Examples
    --------
    >>> votes = np.log([[0.9, 0.1], [0.5, 0.5]])  # the second token has no vote
    >>> sticky = np.array([[0.8, 0.2], [0.2, 0.8]])
    >>> smooth(votes, chains([2], 2), np.array([0.5, 0.5]), sticky).posterior.round(2).tolist()
    [[0.9, 0.1], [0.74, 0.26]]
    """
    ordered = log_likelihood[layout.order]
    peak = ordered.max(axis=1, keepdims=True)
    likelihood = np.exp(ordered - peak)
    blocks = layout.blocks
    forward, scale = np.empty_like(likelihood), np.empty(len(likelihood))
    for p, block in enumerate(blocks):
        size = block.stop - block.start
        before = start if p == 0 else forward[blocks[p - 1]][:size] @ moves
        joint = before * likelihood[block]
        scale[block] = joint.sum(axis=1)
        forward[block] = joint / scale[block, None]
    backward = np.ones_like(likelihood)
    counted = np.zeros_like(moves)
    for p in range(len(blocks) - 1, 0, -1):
        block, size = blocks[p], blocks[p].stop - blocks[p].start
        past = slice(blocks[p - 1].start, blocks[p - 1].start + size)
        after = likelihood[block] * backward[block] / scale[block, None]
        counted += forward[past].T @ after
        backward[past] = after @ moves.T
    posterior = forward * backward
    posterior /= posterior.sum(axis=1, keepdims=True)
    out = np.empty_like(posterior)
    out[layout.order] = posterior
    first = posterior[blocks[0]].sum(axis=0) if blocks else np.zeros(len(start))
    evidence = float(np.log(scale).sum() + peak.sum())
    return Smoothed(out, first, counted * moves, evidence)


def viterbi(log_likelihood: Array, layout: Chains, start: Array, moves: Array) -> Ints:
    """Return the most probable classes of each sentence as a whole, shape (n,).

    Examples
    --------
    >>> votes = np.log([[0.9, 0.1], [0.45, 0.55]])
    >>> sticky = np.array([[0.8, 0.2], [0.2, 0.8]])
    >>> viterbi(votes, chains([2], 2), np.array([0.5, 0.5]), sticky).tolist()
    [0, 0]
    """
    ordered = log_likelihood[layout.order]
    with np.errstate(divide="ignore"):  # forbidden moves are minus infinity
        log_start, log_moves = np.log(start), np.log(moves)
    best, came = np.empty_like(ordered), np.zeros(ordered.shape, np.int64)
    blocks = layout.blocks
    for p, block in enumerate(blocks):
        if p == 0:
            best[block] = log_start + ordered[block]
            continue
        size = block.stop - block.start
        paths = best[blocks[p - 1]][:size, :, None] + log_moves
        came[block] = paths.argmax(axis=1)
        best[block] = paths.max(axis=1) + ordered[block]
    chosen = best.argmax(axis=1)
    for p in range(len(blocks) - 1, 0, -1):
        block, size = blocks[p], blocks[p].stop - blocks[p].start
        past = slice(blocks[p - 1].start, blocks[p - 1].start + size)
        chosen[past] = came[block][np.arange(size), chosen[block]]
    out = np.empty(len(chosen), np.int64)
    out[layout.order] = chosen
    return out


def bio_tags(classes: npt.ArrayLike, lengths: npt.ArrayLike, *, outside: str = "O") -> list[str]:
    """Return BIO tags of token classes: a run of one class within a sentence is one span.

    Examples
    --------
    >>> bio_tags(["PER", "PER", "O", "ORG", "ORG"], [4, 1])
    ['B-PER', 'I-PER', 'O', 'B-ORG', 'B-ORG']
    """
    names = np.asarray(classes, np.str_)
    layout = chains(lengths, len(names))
    begins = np.zeros(len(names), bool)
    begins[layout.order[layout.blocks[0]] if len(names) else slice(0)] = True
    begins[1:] |= names[1:] != names[:-1]
    prefixed = np.char.add(np.where(begins, "B-", "I-"), names)
    tags: list[str] = np.where(names == outside, outside, prefixed).tolist()
    return tags
