"""The two-rate model: the default label model, robust where its assumptions fail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

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
    group_numbers,
    phi,
    shares_of_rows,
    vote_shares_of,
)
from llmlabel.labelmodel.explanation import Explanation
from llmlabel.labelmodel.gold import GoldRows, calibrate, check_gold, gold_counts, gold_rows
from llmlabel.labelmodel.goodness import (
    Estimate,
    FellBackWarning,
    FitReport,
    accuracy_intervals,
    estimated_accuracy,
    held_out_report,
    warn_of_fall_back,
)
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import (
    Prior,
    Scorer,
    alike,
    expected_counts,
    learn_rates,
    log_odds_of,
    softmax,
)
from llmlabel.labelmodel.text import Features, TextModel, check_features, fit_text
from llmlabel.labelmodel.voterows import (
    VoteRows,
    chunk_size,
    distinct_rows,
    merge_rows,
    sample_rows,
    vote_rows,
)
from llmlabel.schema import ABSTAIN
from llmlabel.votes import FloatArray, IntArray, VoteMatrix

__all__ = ["FellBackWarning", "TwoRateModel"]

_BALANCE_STEPS: Final = 3
_LEAST_SHARE: Final = 1e-6
_LEAST_WORTH: Final = 0.05  # of an LF's votes in the check of the fit
_LEAST_ODDS: Final = 0.1
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

    *Fit*. EM from the majority vote, a few steps and not to convergence: dependent LFs
    would slowly trade the classes for some other grouping of the rows. With
    :math:`n_{jv}` votes, :math:`r_{jv}` of them expected to be right, :math:`N_v` of N
    rows of class v, :math:`S_j` = `prior_votes` + `prior_share` :math:`n_j` votes of the
    prior and :math:`q_v = h \pi_v + (1 - h) / k` the class share it assumes, h being
    `prior_anchor`,

    .. math:: \alpha_{jv} = \frac{r_{jv} + S_j p}{N_v + S_j q_v N / n_{jv}}, \quad
              \beta_{jv} = \frac{n_{jv} - r_{jv} + S_j (1 - p)}
                                {N - N_v + S_j (1 - q_v) N / n_{jv}}

    The majority vote's counts are added to r, n and N with the weight `start_weight`.

    *Confidences* make a vote a mixture: with the probability
    :math:`c' = (k c - 1) / (k - 1)` it is the vote that the rates describe, otherwise a
    draw that does not look at the class. Its odds are
    :math:`(c' \alpha + (1 - c') \bar n) / (c' \beta + (1 - c') \bar n)` with
    :math:`\bar n = n_{jv} / N`; it counts c' in the M-step and in the majority vote. At
    c = 1, and without a confidence, this is a hard vote.

    *Gold rows* count `gold_weight` rows of their true class in the M-step, and set a scale
    and an offset per class for the scores (`gold.calibrate`). *Texts*, as `features`, are
    learned from the posteriors by a linear classifier per fold of rows, and add
    `text_weight` times its log-odds to the score (`text.TextModel`). *Trust*: where the
    model foretells the votes of left-out LFs worse than the majority vote does
    (`goodness.held_out_report`), the majority vote is returned, with a warning.

    Parameters
    ----------
    prior_precision
        How often a vote is right in the prior, where the classes are alike: better than
        chance, and far from sure.
    prior_votes
        The votes that the prior of each LF is worth, whatever the data: LFs that vote
        rarely are taken for ordinary ones.
    prior_share
        As many again per vote that was seen: LFs are never as independent as the model
        believes, so more rows do not make it as sure as it thinks.
    prior_anchor
        0: the prior is one lift over chance for all classes. 1: one precision, which
        takes each vote for a class of 1 % to be right 70 times as often as that class
        occurs, and drifts away on imbalanced classes when repeated.
    balance_shrinkage
        The uniform distribution's share in the class balance that rows are scored with: a
        class looks rarer than it is where its LFs are silent.
    start_weight
        What the majority vote counts in every M-step, the row itself counting 1: it holds
        EM to the classes that the LFs name.
    fit_abstain_weight, abstain_weight
        What a silence counts while EM learns the rates, and in the rows' probabilities:
        all, since without it classes with many one-sided LFs attract rows from step to
        step; and little, since why an LF is silent on a row often has nothing to do with
        the class.
    majority_weight
        The majority vote's share b in the log pool. It bounds what wrong rates can do.
    dependence
        Multiplies :math:`\phi`; 0 takes LFs for independent, 1 lets two exact copies
        count as one.
    least_phi
        Dependence below this is taken for none: most pairs have some by chance.
    groups
        LFs that depend on each other, as those that come from one LLM call: a group per LF
        in order, or by LF name; None is no group.
    gold_weight
        What a gold row counts in the M-step. Rows without gold labels are many and wrong
        together, gold ones few and right.
    text_weight
        What the text's log-odds count. 2: a soft label knows less than the text that
        learned from thousands of them.
    text_strength
        The inverse L2 penalty of the text's classifier, scikit-learn's C. For rows of
        length one, as TF-IDF and embeddings are.
    fall_back
        Whether a model that foretells worse returns the majority vote.
    uncovered : {"balance", "uniform"}
        What a row without votes gets: the learned class balance, or 1/k for each class.
    max_iter
        EM steps.
    max_patterns
        Of more distinct rows than this, a sample stands for all.

    Attributes
    ----------
    class_balance_ : array, shape (k,)
        The class balance of the rows with votes.
    covered_ : array of bool, shape (n,)
        Which rows of the last `fit` or `partial_fit` had votes.
    lf_accuracies_ : array, shape (m,)
        How often each LF is believed to be right where it votes.
    lf_accuracy_intervals_ : array, shape (m, 2)
        Their 95 % intervals.
    dependence_ : array, shape (m, m)
        What each two LFs take from each other's weight where they agree.
    estimated_accuracy_ : Estimate
        How many of the covered rows are labeled rightly, with an interval; no gold needed.
    fit_report_ : FitReport
        How well model and majority vote foretell the votes of left-out LFs.
    fell_back_ : bool
        Whether the majority vote is what `predict_proba` returns.
    scorer_ : Scorer
        The learned rates and what makes scores of them.
    text_ : TextModel or None
        The text's classifier, where there were features.

    Examples
    --------
    >>> L = VoteMatrix(
    ...     [[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0], [-1, -1, -1]],
    ...     ["a", "b", "c"], ["HAM", "SPAM"],
    ... )
    >>> model = TwoRateModel().fit(L)
    >>> model.predict_proba(L)[:, 1].round(2).tolist()
    [0.93, 0.72, 0.28, 0.07, 0.5]
    >>> model.covered_.tolist()
    [True, True, True, True, False]
    """

    _bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "prior_precision": (1e-3, 1 - 1e-3),  # 0 and 1 would make votes impossible
        "prior_votes": (1e-3, math.inf),  # without a prior a vote unseen in a class is impossible
        "prior_share": (0.0, math.inf),
        "prior_anchor": (0.0, 1.0),
        "balance_shrinkage": (1e-6, 1 - 1e-6),  # a share of 0 would make a class impossible
        "start_weight": (0.0, math.inf),
        "fit_abstain_weight": (0.0, 1.0),
        "gold_weight": (0.0, math.inf),
        "text_weight": (0.0, math.inf),
        "text_strength": (1e-6, math.inf),
        "abstain_weight": (0.0, 1.0),
        "majority_weight": (0.0, 1.0),
        "dependence": (0.0, math.inf),
        "least_phi": (0.0, 1.0),
        "max_iter": (1, math.inf),
        "max_patterns": (2, math.inf),
    }

    covered_: npt.NDArray[np.bool_]
    lf_accuracies_: Array
    lf_accuracy_intervals_: Array
    dependence_: Array
    estimated_accuracy_: Estimate
    fit_report_: FitReport
    fell_back_: bool
    text_: TextModel | None

    def __init__(
        self,
        *,
        prior_precision: float = 0.7,
        prior_votes: float = 50.0,
        prior_share: float = 0.3,
        prior_anchor: float = 0.0,
        balance_shrinkage: float = 0.1,
        start_weight: float = 1.0,
        fit_abstain_weight: float = 1.0,
        abstain_weight: float = 0.2,
        majority_weight: float = 1 / 3,
        dependence: float = 1.0,
        least_phi: float = 0.05,
        groups: Mapping[str, Any] | Sequence[Any] | None = None,
        gold_weight: float = 30.0,
        text_weight: float = 2.0,
        text_strength: float = 10.0,
        fall_back: bool = True,
        uncovered: str = "balance",
        max_iter: int = 3,
        max_patterns: int = 200_000,
    ) -> None:
        self.prior_precision = prior_precision
        self.prior_votes = prior_votes
        self.prior_share = prior_share
        self.prior_anchor = prior_anchor
        self.balance_shrinkage = balance_shrinkage
        self.start_weight = start_weight
        self.fit_abstain_weight = fit_abstain_weight
        self.abstain_weight = abstain_weight
        self.majority_weight = majority_weight
        self.dependence = dependence
        self.least_phi = least_phi
        self.groups = groups
        self.gold_weight = gold_weight
        self.text_weight = text_weight
        self.text_strength = text_strength
        self.fall_back = fall_back
        self.uncovered = uncovered
        self.max_iter = max_iter
        self.max_patterns = max_patterns

    def fit(
        self,
        L: VoteMatrix,
        *,
        sample_weight: npt.ArrayLike | None = None,
        gold: npt.ArrayLike | None = None,
        features: Features | None = None,
    ) -> Self:
        """Learn from votes, and from gold labels and texts where there are some.

        Parameters
        ----------
        L
            The votes of m labeling functions on n rows.
        sample_weight : array, shape (n,), optional
            How often each row counts, 1 by default.
        gold : array of int, shape (n,), optional
            The classes of the rows where they are known, -1 elsewhere.
        features : array or sparse matrix, shape (n, d), optional
            What the rows' texts are: embeddings, TF-IDF.

        Raises
        ------
        ConfigError
            A parameter outside its range.
        DataError
            Fewer than two classes, no vote on any row, or weights, gold labels or
            features of another shape or kind.
        """
        self._seen = self._gathered(L, sample_weight, gold)
        self._learn()
        self.covered_ = L.covered()
        self.text_ = None
        if features is not None:
            weights = np.ones(len(L)) if sample_weight is None else np.asarray(sample_weight)
            self._learn_text(L, check_features(features, len(L)), weights * self.covered_)
        return self

    def partial_fit(
        self,
        L: VoteMatrix,
        *,
        sample_weight: npt.ArrayLike | None = None,
        gold: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn from more rows; after all shards the model is that of one `fit`.

        The distinct rows seen so far are kept and the model is learned anew from them.
        """
        if hasattr(self, "_seen"):
            self._require_known(L)
        more = self._gathered(L, sample_weight, gold)
        if hasattr(self, "_seen"):
            more = self._seen.joined(more)
        self._seen = more
        self._learn()
        self.covered_ = L.covered()
        self.text_ = None
        return self

    def _gathered(
        self, L: VoteMatrix, sample_weight: npt.ArrayLike | None, gold: npt.ArrayLike | None
    ) -> _Seen:
        """Check what was given and return its distinct rows."""
        self.check_parameters()
        votes = require_votes(L)
        k = len(L.classes)
        if k < 2:
            raise DataError(f"expected at least two classes, got {', '.join(L.classes) or 'none'}")
        weights = check_weights(sample_weight, len(L))
        known = check_gold(gold, len(L), k)
        labelled = gold_rows(L, known)
        if len(labelled.labels):
            weights = np.where(known >= 0, 0.0, 1.0 if weights is None else weights)
        rows = distinct_rows(votes, k, L.confidences, weights)
        if not len(rows) and not len(labelled.labels):
            raise nothing_to_learn(len(L))
        self.classes_ = np.array(L.classes, np.str_)
        self.lf_names_ = L.lf_names
        return _Seen(rows, labelled)

    def _learn(self) -> None:
        rows = sample_rows(self._seen.rows, int(self.max_patterns))
        gold = self._seen.gold
        m, k = rows.shape
        prior = self._prior_of_rates()
        labelled = gold_counts(gold).scaled(self.gold_weight)
        self.dependence_ = self._find_dependence(rows if len(rows) else gold.rows)
        shares = shares_of_rows(rows, self.dependence_)
        rates = alike(m, k, self.prior_precision)
        counts = start = expected_counts(rows, Scorer(rates, 0.0, 0.0, 0.0), shares)
        for step in range(int(self.max_iter)):
            if step:
                scorer = Scorer(rates, self.fit_abstain_weight, 0.0, 0.0)
                counts = expected_counts(rows, scorer, shares)
            counts = counts + start.scaled(self.start_weight)
            balance = rates.balance
            rates = learn_rates(counts + labelled, balance, prior)
        # A prior that thinks nothing of votes does not turn the majority vote round.
        odds = max(_LEAST_ODDS, log_odds_of(self.prior_precision, k))
        scorer = Scorer(rates, self.abstain_weight, self.majority_weight, odds)
        scorer = calibrate(gold, scorer, counts, balance, prior, self.gold_weight, self.dependence_)
        self._judge(rows, scorer, shares)

    def _judge(self, rows: VoteRows, scorer: Scorer, shares: FloatArray | None) -> None:
        """Find out how far the model is to be trusted, and what it believes of the LFs."""
        gold = gold_counts(self._seen.gold)
        final = expected_counts(rows, scorer, shares) + gold
        one = self.prior_precision
        self.lf_accuracies_ = (final.right.sum(axis=1) + one) / (final.votes.sum(axis=1) + 1)
        self.lf_accuracy_intervals_ = accuracy_intervals(self.lf_accuracies_, final)
        self.class_balance_ = self._balance(rows, scorer, shares, gold.classes)
        k = len(self.class_balance_)
        worth = np.maximum(self.lf_accuracies_ - 1 / k, _LEAST_WORTH)
        self.fit_report_ = held_out_report(rows, scorer, shares, self.dependence_, worth)
        self.fell_back_ = bool(self.fall_back and not self.fit_report_.trusted)
        if self.fell_back_:
            scorer = scorer.majority_only()
            warn_of_fall_back(self.fit_report_)
        self.scorer_ = scorer
        self.estimated_accuracy_ = estimated_accuracy(rows, scorer, shares)

    def _balance(
        self, rows: VoteRows, scorer: Scorer, shares: FloatArray | None, gold: Array
    ) -> Array:
        """Return the class balance that agrees with itself.

        The pool with the majority vote leans to the uniform, and the balance of the fit is
        half the majority vote's: so start from it and repeat without either.
        """
        rates = scorer.rates
        for _ in range(_BALANCE_STEPS):
            model = Scorer(rates, self.abstain_weight, 0.0, 0.0)
            found = expected_counts(rows, model, shares).classes + gold
            rates = replace(rates, balance=np.maximum(found / found.sum(), _LEAST_SHARE))
        return np.asarray(found / found.sum())

    def _learn_text(self, L: VoteMatrix, features: Features, weights: Array) -> None:
        self.text_ = fit_text(features, self.predict_proba(L), weights, self.text_strength)

    def _find_dependence(self, rows: VoteRows) -> Array:
        m, k = rows.shape
        sharp = Scorer(alike(m, k, _SHARP), 0.0, 0.0, 0.0)
        counts = expected_counts(rows, sharp, None)
        groups = group_numbers(self.groups, self.lf_names_)
        found = phi(agreement_counts(rows), counts, self.least_phi, groups)
        return self.dependence * found

    def _prior_of_rates(self) -> Prior:
        return Prior(
            self.prior_precision,
            self.prior_votes,
            self.prior_share,
            self.prior_anchor,
            self.balance_shrinkage / (1 - self.balance_shrinkage),
        )

    def explain(self, L_row: VoteMatrix, *, features: Features | None = None) -> Explanation:
        """Return what each labeling function adds to a row's log posterior.

        Parameters
        ----------
        L_row
            The votes of one row, as ``L.take([i])`` gives them.
        features : shape (1, d), optional
            The row's features, whose part is in the explanation's prior.

        Returns
        -------
        An `Explanation` whose prior and contributions add up to the logs of what
        `predict_proba` returns, the majority vote's share and the dependent LFs' weights
        among them. Silent LFs contribute what their silence says.

        Examples
        --------
        >>> L = VoteMatrix([[1, 1], [0, 0], [1, -1]], ["a", "b"], ["HAM", "SPAM"])
        >>> why = TwoRateModel().fit(L).explain(L.take([2]))
        >>> prior, contributions = why.log_odds("SPAM", "HAM")
        >>> bool(contributions[0] > 0)
        True
        """
        votes = self._require_known(L_row)
        if len(votes) != 1:
            raise DataError(f"explain: expected the votes of one row, got {len(votes)} rows")
        k = len(self.classes_)
        text = self._text_terms(features, votes)
        chunk = vote_rows(votes, k, L_row.confidences).chunk(0, 1)
        terms = np.zeros((votes.shape[1], k))
        if len(chunk.lf):
            prior = self.scorer_.prior_terms() + (0.0 if text is None else text[0])
            terms = self.scorer_.silence_terms()
            terms[chunk.lf] = 0
            shares = vote_shares_of(chunk, self.dependence_, k)
            terms[chunk.lf, chunk.label] = self.scorer_.vote_terms(chunk, shares)
        else:
            prior = np.log(self._prior()) if text is None else text[0]
        return Explanation.from_terms(L_row.classes, self.lf_names_, votes[0], prior, terms)

    def predict_proba(self, L: VoteMatrix, *, features: Features | None = None) -> Array:
        """Return class probabilities, shape (n, k); see `LabelModel.predict_proba`.

        Parameters
        ----------
        features : array or sparse matrix, shape (n, d), optional
            Needs a model fitted with features. Rows without votes then have what their
            texts say, and the class balance no part in it.
        """
        votes = self._require_known(L)
        text = self._text_terms(features, votes)
        k = len(self.classes_)
        out = np.empty((len(L), k))
        step = chunk_size(k)
        for start in range(0, len(out), step):
            at = slice(start, start + step)
            sure = None if L.confidences is None else L.confidences[at]
            rows = vote_rows(votes[at], k, sure)
            chunk = rows.chunk(0, len(rows))
            scores = self.scorer_.scores(chunk, vote_shares_of(chunk, self.dependence_, k))
            silent = np.diff(rows.starts) == 0
            if text is not None:
                scores = np.where(silent[:, None], 0, scores) + text[at]
            out[at] = softmax(scores)
            if text is None:
                out[at][silent] = self._prior()
        return out

    def _text_terms(self, features: Features | None, votes: IntArray) -> Array | None:
        """Return what each row's text adds to its classes; without votes its log probabilities."""
        if features is None:
            return None
        if self.text_ is None:
            raise DataError("features were given to a model fitted without features")
        found = check_features(features, len(votes))
        width = self.text_.weights.shape[1] - 1
        if found.shape[1] != width:
            raise DataError(f"features: expected {width} columns as in fit, got {found.shape[1]}")
        alone = self.text_.log_probabilities(found)
        silent = ~(votes != ABSTAIN).any(axis=1)
        odds = self.text_weight * self.text_.trust * (alone - np.log(self.text_.balance))
        return np.where(silent[:, None], alone, odds)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Everything learned from so far."""

    rows: VoteRows
    gold: GoldRows

    def joined(self, other: _Seen) -> _Seen:
        return _Seen(merge_rows(self.rows, other.rows), self.gold.joined(other.gold))
