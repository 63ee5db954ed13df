"""How the two-rate model learns: rows gathered, EM from the majority vote, judged by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.labelmodel.base import check_weights, nothing_to_learn
from llmlabel.labelmodel.dependence import agreement_counts, phi, shares_of_rows
from llmlabel.labelmodel.gold import GoldRows, calibrate, check_gold, gold_counts, gold_rows
from llmlabel.labelmodel.goodness import (
    Estimate,
    FitReport,
    accuracy_intervals,
    estimated_accuracy,
    held_out_report,
)
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import (
    Counts,
    Prior,
    Scorer,
    alike,
    learn_rates,
    log_odds_of,
)
from llmlabel.labelmodel.scoring import class_shares, expected_counts
from llmlabel.labelmodel.voterows import (
    DistinctRows,
    find_rows,
    merge_rows,
    sample_rows,
    with_votes,
)
from llmlabel.votes import FloatArray, VoteMatrix

__all__ = ["Learned", "Seen", "Settings", "gather", "learn"]

_BALANCE_STEPS: Final = 3
_LEAST_SHARE: Final = 1e-6
_LEAST_WORTH: Final = 0.05  # of an LF's votes in the check of the fit
_LEAST_ODDS: Final = 0.1
_DEPENDENCE_ROWS: Final = 50_000  # distinct: pairs of LFs are counted on them
_SHARP: Final = 0.9  # what a vote is worth where dependence is looked for: nearly sure classes


@dataclass(frozen=True)
class Settings:
    """The parameters of `TwoRateModel` that learning needs, by their names there."""

    prior_precision: float
    prior_votes: float
    prior_share: float
    prior_anchor: float
    balance_shrinkage: float
    start_weight: float
    fit_abstain_weight: float
    abstain_weight: float
    majority_weight: float
    dependence: float
    least_phi: float
    gold_weight: float
    fall_back: bool
    max_iter: int
    max_patterns: int

    @property
    def prior(self) -> Prior:
        """What is believed of the rates beforehand."""
        shrinkage = self.balance_shrinkage / (1 - self.balance_shrinkage)
        given = (self.prior_precision, self.prior_votes, self.prior_share, self.prior_anchor)
        return Prior(*given, shrinkage)


@dataclass(frozen=True, eq=False)
class Seen:
    """Everything learned from so far."""

    rows: DistinctRows
    gold: GoldRows

    def joined(self, other: Seen) -> Seen:
        """Return the rows of both."""
        return Seen(merge_rows(self.rows, other.rows), self.gold.joined(other.gold))


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned; see the attributes of `TwoRateModel`."""

    scorer: Scorer
    dependence: Array
    accuracies: Array
    intervals: Array
    balance: Array
    report: FitReport
    fell_back: bool
    estimate: Estimate


def gather(
    L: VoteMatrix, sample_weight: npt.ArrayLike | None, gold: npt.ArrayLike | None
) -> tuple[Seen, npt.NDArray[np.bool_]]:
    """Check what was given; return its distinct rows, and which rows have votes.

    Raises
    ------
    DataError
        Fewer than two classes, no vote on any row, weights or gold labels that are none.
    """
    k = len(L.classes)
    if k < 2:
        raise DataError(f"expected at least two classes, got {', '.join(L.classes) or 'none'}")
    weights = check_weights(sample_weight, len(L))
    known = check_gold(gold, len(L), k)
    labelled = gold_rows(L, known)
    if known is not None and len(labelled.labels):
        weights = np.where(known >= 0, 0.0, 1.0 if weights is None else weights)
    rows, covered = find_rows(L, weights)
    if not rows.weights.any() and not len(labelled.labels):
        raise nothing_to_learn(len(L))
    return Seen(rows, labelled), covered


def learn(seen: Seen, settings: Settings, groups: npt.NDArray[np.intp]) -> Learned:
    """Learn rates and weights, and find out how far they are to be trusted."""
    rows, gold = sample_rows(seen.rows, int(settings.max_patterns)), seen.gold
    dependence = _dependence(rows if len(rows) else gold.rows, settings, groups)
    if dependence.any():
        rows = with_votes(rows)
    shares = shares_of_rows(rows, dependence)
    scorer, counts, balance = _steps(rows, shares, gold, settings)
    scorer = calibrate(
        gold, scorer, counts, balance, settings.prior, settings.gold_weight, dependence
    )
    return _judged(rows, shares, gold, scorer, dependence, settings)


def _steps(
    rows: DistinctRows, shares: FloatArray | None, gold: GoldRows, settings: Settings
) -> tuple[Scorer, Counts, Array]:
    """Return the scorer after the EM steps, the counts of its last and the balance before."""
    m, k = rows.shape
    labelled = gold_counts(gold).scaled(settings.gold_weight)
    rates = alike(m, k, settings.prior_precision)
    counts = start = expected_counts(rows, Scorer(rates, 0.0, 0.0, 0.0), shares)
    for step in range(int(settings.max_iter)):
        if step:
            scorer = Scorer(rates, settings.fit_abstain_weight, 0.0, 0.0)
            counts = expected_counts(rows, scorer, shares)
        counts = counts + start.scaled(settings.start_weight)
        balance = rates.balance
        rates = learn_rates(counts + labelled, balance, settings.prior)
    # A prior that thinks nothing of votes does not turn the majority vote round.
    odds = max(_LEAST_ODDS, log_odds_of(settings.prior_precision, k))
    return Scorer(rates, settings.abstain_weight, settings.majority_weight, odds), counts, balance


def _judged(
    rows: DistinctRows,
    shares: FloatArray | None,
    gold: GoldRows,
    scorer: Scorer,
    dependence: Array,
    settings: Settings,
) -> Learned:
    known = gold_counts(gold)
    final = expected_counts(rows, scorer, shares) + known
    one = settings.prior_precision
    accuracies = (final.right.sum(axis=1) + one) / (final.votes.sum(axis=1) + 1)
    balance = _balance(rows, scorer, shares, known.classes, settings.abstain_weight)
    worth = np.maximum(accuracies - 1 / len(balance), _LEAST_WORTH)
    report = held_out_report(rows, scorer, shares, dependence, worth)
    fell_back = bool(settings.fall_back and not report.trusted)
    if fell_back:
        scorer = scorer.majority_only()
    return Learned(
        scorer,
        dependence,
        accuracies,
        accuracy_intervals(accuracies, final),
        balance,
        report,
        fell_back,
        estimated_accuracy(rows, scorer, shares),
    )


def _balance(
    rows: DistinctRows,
    scorer: Scorer,
    shares: FloatArray | None,
    gold: Array,
    abstain_weight: float,
) -> Array:
    """Return the class balance that agrees with itself.

    The pool with the majority vote leans to the uniform, and the balance of the fit is
    half the majority vote's: so start from it and repeat without either.
    """
    rates = scorer.rates
    for _ in range(_BALANCE_STEPS):
        model = Scorer(rates, abstain_weight, 0.0, 0.0)
        found = class_shares(rows, model, shares) + gold
        rates = replace(rates, balance=np.maximum(found / found.sum(), _LEAST_SHARE))
    return np.asarray(found / found.sum())


def _dependence(rows: DistinctRows, settings: Settings, groups: npt.NDArray[np.intp]) -> Array:
    whole, rows = rows, sample_rows(rows, _DEPENDENCE_ROWS)
    m, k = rows.shape
    weights = rows.weights
    drawn = (
        None if len(rows) == len(whole) else float(weights.sum() ** 2 / (weights @ weights))
    )  # Kish
    sharp = Scorer(alike(m, k, _SHARP), 0.0, 0.0, 0.0)
    counts = expected_counts(rows, sharp, None)
    found = phi(agreement_counts(rows), counts, settings.least_phi, groups, drawn)
    return settings.dependence * found
