"""How far texts are to be trusted beside votes: whether they help to foretell other LFs' votes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from llmlabel.labelmodel.explanation import log_softmax
from llmlabel.labelmodel.majority import vote_shares
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.text import Features, fit_text
from llmlabel.votes import VoteMatrix

__all__ = ["text_trust"]

_SPLITS: Final = 4
_ROWS: Final = 20_000
_GRID: Final = np.array([0.0, 0.125, 0.25, 0.5, 1.0])
_LEAST: Final = 1e-3  # of a vote's probability: one surprise does not decide


def text_trust(
    L: VoteMatrix,
    features: Features,
    weights: Array,
    posterior_of: Callable[[VoteMatrix], Array],
    *,
    strength: float,
    text_weight: float,
) -> float:
    """Return the share of `text_weight` at which texts foretell votes best, 0 to 1.

    The LFs are divided at random. One half labels rows and teaches the text's
    classifier, and both together foretell what the other half says of rows on which
    both have votes. A classifier that has only learned the words by which its own LFs
    vote says them twice, and makes wrong votes surer: it foretells worse than the votes
    alone, and is not trusted. So it is where no rows have votes of both halves.

    Parameters
    ----------
    L
        The votes.
    features : shape (n, d)
    weights : array, shape (n,)
    posterior_of
        Labels the rows by some LFs' votes.
    strength, text_weight
        As of `TwoRateModel`.
    """
    rows = np.flatnonzero(L.covered() & (weights > 0))
    if len(rows) > _ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _ROWS, replace=False))
    L, features, weights = L.take(rows), features[rows], weights[rows]
    scores, counts = [], []
    for split in range(_SPLITS):
        order = np.random.default_rng(split).permutation(len(L.lf_names))
        own = L.select([L.lf_names[j] for j in np.sort(order[: -(-len(order) // 2)])])
        other = L.select([L.lf_names[j] for j in np.sort(order[-(-len(order) // 2) :])])
        both = own.covered() & other.covered()
        if not both.any():
            continue
        known = own.covered()
        posterior = posterior_of(own.take(known))
        text = fit_text(features[known], posterior, weights[known], strength)
        said = vote_shares(other.votes[both], len(L.classes))
        odds = text_weight * text.log_odds(features[both])
        alone = np.log(np.maximum(posterior[both[known]], 1e-12))
        scores.append([_foretold(alone + share * odds, said) for share in _GRID])
        counts.append(weights[both])
    if not scores:
        return 0.0
    found, count = np.concatenate(scores, axis=1), np.concatenate(counts)
    gain = found - found[0]
    mean = gain @ count / count.sum()
    best = int(mean.argmax())
    error = np.sqrt(count**2 @ (gain[best] - mean[best]) ** 2) / count.sum()
    return float(_GRID[best]) if mean[best] > error else 0.0


def _foretold(scores: Array, said: Array) -> Array:
    """Return the log probability of what was said of each row."""
    log_posterior, _ = log_softmax(scores)
    return np.asarray(np.log(np.maximum((np.exp(log_posterior) * said).sum(axis=1), _LEAST)))
