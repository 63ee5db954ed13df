"""Why a row got its probabilities: what each labeling function added, in log-odds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmlabel.errors import UnknownNameError
from llmlabel.labelmodel.patterns import Array
from llmlabel.votes import IntArray

__all__ = ["Explanation", "log_softmax"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """A row's log posterior, taken apart.

    ``log_posterior == prior + contributions.sum(axis=0) - log_evidence``, where the
    evidence is one number for all classes: in the log-odds of two classes it cancels,
    and prior and contributions add up exactly.

    Parameters
    ----------
    classes
        Class names, k of them.
    lf_names
        The labeling functions, m of them.
    votes : array of int, shape (m,)
        The row's votes, -1 where one abstained.
    prior : array, shape (k,)
        Log prior probability of each class.
    contributions : array, shape (m, k)
        What each labeling function adds to each class, its mean over the classes taken
        out: positive for a class it speaks for, zero where it says nothing.
    log_posterior : array, shape (k,)
        The logs of the row's probabilities.
    log_evidence : float
        What normalises them.
    """

    classes: tuple[str, ...]
    lf_names: tuple[str, ...]
    votes: IntArray
    prior: Array
    contributions: Array
    log_posterior: Array
    log_evidence: float

    @classmethod
    def from_terms(
        cls,
        classes: tuple[str, ...],
        lf_names: tuple[str, ...],
        votes: IntArray,
        prior: Array,
        terms: Array,
    ) -> Explanation:
        """Take the class means out of each labeling function's terms, shape (m, k), and add up."""
        centred = terms - terms.mean(axis=1, keepdims=True)
        posterior, evidence = log_softmax((prior + centred.sum(axis=0))[None, :])
        return cls(classes, lf_names, votes, prior, centred, posterior[0], float(evidence[0]))

    def log_odds(self, of: str, against: str) -> tuple[float, Array]:
        """Return the log-odds of two classes: the prior's part and each LF's, shape (m,).

        Their sum is ``log p(of) - log p(against)``.
        """
        a, b = self._index(of), self._index(against)
        return float(self.prior[a] - self.prior[b]), self.contributions[:, a] - self.contributions[
            :, b
        ]

    def _index(self, name: str) -> int:
        if name not in self.classes:
            raise UnknownNameError("class", name, self.classes)
        return self.classes.index(name)


def log_softmax(scores: Array) -> tuple[Array, Array]:
    """Return each row of scores normalised, shape (u, k), and its log normaliser, shape (u,)."""
    top = scores.max(axis=1, keepdims=True)
    total = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    return scores - total, total[:, 0]
