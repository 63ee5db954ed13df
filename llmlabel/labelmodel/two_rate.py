"""The two-rate model: the default label model, robust where its assumptions fail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from llmlabel.errors import DataError
from llmlabel.labelmodel.base import LabelModel, require_votes
from llmlabel.labelmodel.dependence import group_numbers, vote_shares_of
from llmlabel.labelmodel.explanation import Explanation
from llmlabel.labelmodel.goodness import Estimate, FellBackWarning, FitReport, warn_of_fall_back
from llmlabel.labelmodel.patterns import Array
from llmlabel.labelmodel.rates import softmax
from llmlabel.labelmodel.scoring import repeated_rows, vote_scores
from llmlabel.labelmodel.text import Features, TextModel, check_features, fit_text, text_terms
from llmlabel.labelmodel.text_trust import text_trust
from llmlabel.labelmodel.two_rate_fit import Settings, gather, learn
from llmlabel.labelmodel.voterows import vote_rows
from llmlabel.votes import VoteMatrix

__all__ = ["FellBackWarning", "TwoRateModel"]


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
    learned from the posteriors by a linear classifier per fold of rows, and add up to
    `text_weight` times its log-odds to the score (`text.TextModel`): as much as helps to
    foretell the votes of LFs that it did not learn from (`text_trust`). *Trust*: where the
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
        What the text's log-odds count at most. 2: a soft label knows less than the text that
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
        prior_share: float = 0.1,
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
        max_patterns: int = 100_000,
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
        self.check_parameters()
        require_votes(L)
        self._seen, self.covered_ = gather(L, sample_weight, gold)
        self._learn(L)
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
        self.check_parameters()
        require_votes(L)
        seen, covered = gather(L, sample_weight, gold)
        if hasattr(self, "_seen"):
            self._require_known(L)
            seen = self._seen.joined(seen)
        self._seen, self.covered_ = seen, covered
        self._learn(L)
        return self

    def _learn(self, L: VoteMatrix) -> None:
        self.classes_ = np.array(L.classes, np.str_)
        self.lf_names_ = L.lf_names
        settings = Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})
        found = learn(self._seen, settings, group_numbers(self.groups, self.lf_names_))
        self.scorer_, self.dependence_ = found.scorer, found.dependence
        self.lf_accuracies_, self.lf_accuracy_intervals_ = found.accuracies, found.intervals
        self.class_balance_, self.estimated_accuracy_ = found.balance, found.estimate
        self.fit_report_, self.fell_back_ = found.report, found.fell_back
        self.text_ = None
        if self.fell_back_:
            warn_of_fall_back(self.fit_report_)

    def _learn_text(self, L: VoteMatrix, features: Features, weights: Array) -> None:
        def posterior_of(some: VoteMatrix) -> Array:
            groups = group_numbers(self.groups, self.lf_names_)
            own = [groups[L.position(name)] for name in some.lf_names]
            model = clone(self).set_params(
                fall_back=False, groups=[None if g < 0 else int(g) for g in own]
            )
            return np.asarray(model.fit(some).predict_proba(some))

        text = fit_text(features, self.predict_proba(L), weights, self.text_strength)
        trust = text_trust(
            L,
            features,
            weights,
            posterior_of,
            strength=self.text_strength,
            text_weight=self.text_weight,
        )
        self.text_ = replace(text, trust=trust)

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
        text = text_terms(self.text_, features, votes, self.text_weight)
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
        text = text_terms(self.text_, features, votes, self.text_weight)
        if text is None and (seen := repeated_rows(L)) is not None:
            distinct, index = seen
            found = self.predict_proba(distinct)
            return np.asarray(found.take(index, axis=0, mode="clip"))  # clip: not checked
        out = np.empty((len(L), len(self.classes_)))
        for at, scores, silent in vote_scores(L, self.scorer_, self.dependence_):
            if text is None:
                found = softmax(scores)
                found[:, silent] = self._prior()[:, None]
            else:
                found = softmax(np.where(silent, 0, scores) + text[at].T)
            out[at] = found.T
        return out
