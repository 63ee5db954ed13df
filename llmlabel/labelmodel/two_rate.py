"""The two-rate model: the default label model, robust where its assumptions fail."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.labelmodel.base import (
    LabelModel,
    check_weights,
    nothing_to_learn,
    require_votes,
)
from llmlabel.labelmodel.dependence import (
    agreement_counts,
    phi,
    shares_of_rows,
    vote_shares_of,
)
from llmlabel.labelmodel.explanation import Explanation
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import Counts, Prior, Scorer, alike, count, learn_rates, softmax
from llmlabel.labelmodel.voterows import VoteRows, chunk_size, distinct_rows, sample_rows, vote_rows
from llmlabel.votes import FloatArray, VoteMatrix

__all__ = ["TwoRateModel"]


MS, ANCHOR, FINAL, EML = 0.0, 0.0, None, 0.2
_SHARP: Final = 0.9  # what a vote is worth where dependence is looked for: nearly sure classes


class TwoRateModel(LabelModel):
    r"""Two rates for each labeling function and vote, and a share for the majority vote.

    The rates of LF j and vote v are how often it votes v on rows of that class and on
    rows of any other class, the first never below the second:

    .. math:: \alpha_{jv} = P(x_j = v | y = v) \ge \beta_{jv} = P(x_j = v | y \ne v)

    A full confusion matrix has k of these instead of two, and too little says what they
    are where no row has a label. With :math:`\varnothing` for silence,
    :math:`P(\varnothing | y) = 1 - \alpha_{jy} - \sum_{v \ne y} \beta_{jv}`, and a row's
    score for class y is

    .. math:: s_y = \log \pi_y + \sum_{j: x_j = y} w_j \log \frac{\alpha_{jy}}{\beta_{jy}}
              + \lambda \sum_{j: x_j = \varnothing} \log P(\varnothing | y)

    with the weight :math:`w_j = 1 / (1 + \sum_l \phi_{jl} [x_l = x_j])` of LFs that agree
    beyond what the class explains (`dependence.phi`). The posterior is the log pool with
    the majority vote, :math:`a = \log (p (k - 1) / (1 - p))` being what a vote of the
    prior's precision p is worth:

    .. math:: \log p(y | x) = (1 - b) s_y + b a \sum_j [x_j = y] + \text{const}

    *Fit*. EM from the majority vote, `max_iter` steps and not to convergence: dependent
    LFs would slowly trade the classes for some other grouping of the rows. With
    :math:`n_{jv}` votes, :math:`r_{jv}` of them expected to be right, :math:`N_v` of N
    rows of class v, :math:`S_j` = `prior_votes` + `prior_share` :math:`n_j` votes of the
    prior and :math:`q_v` the class share it assumes,

    .. math:: \alpha_{jv} = \frac{r_{jv} + S_j p}{N_v + S_j q_v N / n_{jv}}, \quad
              \beta_{jv} = \frac{n_{jv} - r_{jv} + S_j (1 - p)}
                                {N - N_v + S_j (1 - q_v) N / n_{jv}}

    *Confidences* make a vote a mixture: with the probability
    :math:`c' = (k c - 1) / (k - 1)` it is the vote that the rates describe, otherwise a
    draw that does not look at the class. Its odds are
    :math:`(c' \alpha + (1 - c') \bar n) / (c' \beta + (1 - c') \bar n)` with
    :math:`\bar n = n_{jv} / N`; it counts c' in the M-step and in the majority vote. At
    c = 1, and without a confidence, this is a hard vote.
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "prior_precision": (1e-3, 1 - 1e-3),  # 0 and 1 would make votes impossible
        "prior_votes": (1e-3, math.inf),  # without a prior a vote unseen in a class is impossible
        "prior_share": (0.0, math.inf),
        "prior_anchor": (0.0, 1.0),
        "balance_shrinkage": (1e-6, 1 - 1e-6),
        "abstain_weight": (0.0, 1.0),
        "majority_weight": (0.0, 1.0),
        "dependence": (0.0, math.inf),
        "least_phi": (0.0, 1.0),
        "max_iter": (1, math.inf),
        "max_patterns": (2, math.inf),
    }

    def __init__(
        self,
        *,
        prior_precision: float = 0.7,
        prior_votes: float = 50.0,
        prior_share: float = 0.3,
        prior_anchor: float = 0.5,
        balance_shrinkage: float = 0.5,
        abstain_weight: float = 0.2,
        majority_weight: float = 1 / 3,
        dependence: float = 1.0,
        least_phi: float = 0.05,
        uncovered: str = "balance",
        max_iter: int = 3,
        max_patterns: int = 200_000,
    ) -> None:
        self.prior_precision = prior_precision
        self.prior_votes = prior_votes
        self.prior_share = prior_share
        self.prior_anchor = prior_anchor
        self.balance_shrinkage = balance_shrinkage
        self.abstain_weight = abstain_weight
        self.majority_weight = majority_weight
        self.dependence = dependence
        self.least_phi = least_phi
        self.uncovered = uncovered
        self.max_iter = max_iter
        self.max_patterns = max_patterns

    def fit(self, L: VoteMatrix, *, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Learn from votes alone; see `LabelModel.fit`."""
        self._check_parameters()
        votes = require_votes(L)
        if len(L.classes) < 2:
            raise DataError(f"expected at least two classes, got {', '.join(L.classes) or 'none'}")
        weights = check_weights(sample_weight, len(L))
        rows = distinct_rows(votes, len(L.classes), L.confidences, weights)
        if not len(rows):
            raise nothing_to_learn(len(L))
        self.classes_ = np.array(L.classes, np.str_)
        self.lf_names_ = L.lf_names
        self._learn(sample_rows(rows, int(self.max_patterns)))
        return self

    def _learn(self, rows: VoteRows) -> None:
        m, k = rows.shape
        prior = self._prior_of_rates()
        sharp = Scorer(alike(m, k, _SHARP), 0.0, 0.0, 0.0)
        excess = phi(agreement_counts(rows), expected_counts(rows, sharp, None), self.least_phi)
        self.dependence_ = self.dependence * excess
        shares = shares_of_rows(rows, self.dependence_)
        rates = alike(m, k, self.prior_precision)
        scorer = Scorer(rates, 0.0, 0.0, 0.0)
        start = expected_counts(rows, scorer, shares)
        for _ in range(int(self.max_iter)):
            counts = expected_counts(rows, scorer, shares)
            counts = counts + start.scaled(ANCHOR)
            rates = learn_rates(counts, rates.balance, prior)
            scorer = Scorer(rates, EML, 0.0, 0.0, 1.0, MS)
        odds = math.log(self.prior_precision * (k - 1) / (1 - self.prior_precision))
        if FINAL is not None:
            b = counts.classes / counts.classes.sum()
            rates = replace(rates, balance=(1 - FINAL) * b + FINAL / k)
        self.scorer_ = Scorer(rates, self.abstain_weight, self.majority_weight, odds, 1.0, MS)
        final = expected_counts(rows, self.scorer_, shares)
        # The balance that rows are scored with is cautious; the one to report is not.
        plain = replace(rates, balance=counts.classes / counts.classes.sum())
        found = expected_counts(
            rows, Scorer(plain, self.abstain_weight, 0.0, 0.0, 1.0, MS), shares
        ).classes
        self.class_balance_ = found / found.sum()
        one = self.prior_precision
        self.lf_accuracies_ = (final.right.sum(axis=1) + one) / (final.votes.sum(axis=1) + 1)

    def _prior_of_rates(self) -> Prior:
        return Prior(
            self.prior_precision,
            self.prior_votes,
            self.prior_share,
            self.prior_anchor,
            self.balance_shrinkage / (1 - self.balance_shrinkage),
        )

    def explain(self, L_row: VoteMatrix) -> Explanation:
        """Return what each labeling function adds to a row's log posterior."""
        votes = self._require_known(L_row)
        if len(votes) != 1:
            raise DataError(f"explain: expected the votes of one row, got {len(votes)} rows")
        k = len(self.classes_)
        chunk = vote_rows(votes, k, L_row.confidences).chunk(0, 1)
        prior, terms = np.log(self._prior()), np.zeros((votes.shape[1], k))
        if len(chunk.lf):
            prior = self.scorer_.prior_terms()
            terms = self.scorer_.silence_terms()
            terms[chunk.lf] = 0
            shares = vote_shares_of(chunk, self.dependence_, k)
            terms[chunk.lf, chunk.label] = self.scorer_.vote_terms(chunk, shares)
        return Explanation.from_terms(L_row.classes, self.lf_names_, votes[0], prior, terms)

    def predict_proba(self, L: VoteMatrix) -> Array:
        """Return class probabilities, shape (n, k); see `LabelModel.predict_proba`."""
        votes = self._require_known(L)
        k = len(self.classes_)
        out = np.empty((len(L), k))
        step = chunk_size(k)
        for start in range(0, len(out), step):
            part = votes[start : start + step]
            sure = None if L.confidences is None else L.confidences[start : start + step]
            rows = vote_rows(part, k, sure)
            chunk = rows.chunk(0, len(rows))
            shares = vote_shares_of(chunk, self.dependence_, k)
            found = softmax(self.scorer_.scores(chunk, shares))
            found[np.diff(rows.starts) == 0] = self._prior()
            out[start : start + step] = found
        return out


def expected_counts(rows: VoteRows, scorer: Scorer, shares: FloatArray | None) -> Counts:
    """Score all rows and count (E-step), a chunk at a time."""
    m, k = rows.shape
    total = Counts(np.zeros((m, k)), np.zeros((m, k)), np.zeros(k))
    for votes, chunk in rows.chunks():
        posterior = softmax(scorer.scores(chunk, None if shares is None else shares[votes]))
        total += count(chunk, posterior, m)
    return total
