"""How good a retrieval is: nDCG, recall and MRR per question, and two retrievals compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.evaluate import Interval
from llmlabel.extras import need_packages

__all__ = ["Comparison", "Qrels", "Quality", "compare", "measure", "paired_bootstrap"]

Array = npt.NDArray[np.float64]
Qrels = Mapping[str, Mapping[str, int]]
"""The grades of the documents that are relevant to each question."""

_BLOCK: Final = 1 << 22


@dataclass(frozen=True)
class Quality:
    """Figures per question.

    Parameters
    ----------
    questions
        n ids.
    values
        By the metric's name, such as ``ndcg@10``, the figures of shape (n,).
    """

    questions: tuple[str, ...]
    values: Mapping[str, Array]

    def mean(self, metric: str) -> float:
        """Return a metric's mean over the questions."""
        if metric not in self.values:
            raise UnknownNameError("metric", metric, self.values)
        return float(self.values[metric].mean())

    def means(self) -> dict[str, float]:
        """Return the means of all metrics."""
        return {name: float(v.mean()) for name, v in self.values.items()}


@dataclass(frozen=True)
class Comparison:
    """One retrieval beside another on the same questions.

    Parameters
    ----------
    metric
        What is compared.
    before, after
        The means.
    difference
        After less before, with its paired bootstrap interval.
    p_value
        Two-sided, of no difference.
    wins, losses
        (question, difference), the largest first; the other questions are ties.
    """

    metric: str
    before: float
    after: float
    difference: Interval
    p_value: float
    wins: tuple[tuple[str, float], ...]
    losses: tuple[tuple[str, float], ...]
    ties: int


def measure(
    ids: npt.NDArray[np.object_] | Sequence[Sequence[str]],
    questions: Sequence[str],
    qrels: Qrels,
    *,
    ks: Sequence[int] = (10,),
) -> Quality:
    """Measure a ranking by trec_eval's definitions.

    Parameters
    ----------
    ids : object array, shape (n, k)
        What was found for each question, best first, as in `retrieval.Hits`; ``""`` is nothing.
    questions
        The n questions' ids.
    qrels
        Grades from 0 (not relevant); those that are not named are 0.
    ks
        Depths at most k. For each: ``ndcg@K`` (gain is the grade, discount the logarithm of
        the rank), ``recall@K`` (of grades from 1) and ``mrr@K``.

    Raises
    ------
    DataError
        Questions twice or without a relevant document, a document found twice for one
        question, or grades that are no whole numbers from 0.
    ConfigError
        A depth beyond k.
    MissingExtraError
        pytrec_eval is not installed (``llmlabel[rag]``).

    Notes
    -----
    K. Järvelin, J. Kekäläinen (2002), Cumulated gain-based evaluation of IR techniques.

    Examples
    --------
    >>> found = measure([["b", "a"]], ["q"], {"q": {"a": 2}}, ks=(1, 2))
    >>> {name: round(value, 3) for name, value in found.means().items()}
    {'ndcg@1': 0.0, 'ndcg@2': 0.631, 'recall@1': 0.0, 'recall@2': 1.0, 'mrr@1': 0.0, 'mrr@2': 0.5}
    """
    need_packages("measuring retrieval", "pytrec_eval", extra="rag")
    import pytrec_eval

    rows = [[i for i in row if i] for row in ids]
    depth = max((len(row) for row in ids), default=0)
    _check(rows, questions, qrels, ks, depth)
    # Scores by rank: trec_eval would break ties by the documents' names.
    runs = {
        q: {d: float(len(row) - at) for at, d in enumerate(row)}
        for q, row in zip(questions, rows, strict=True)
        if row
    }
    grades = {q: dict(qrels[q]) for q in questions}
    named = ",".join(map(str, ks))
    wanted = {f"ndcg_cut.{named}", f"recall.{named}", "recip_rank"}
    found = pytrec_eval.RelevanceEvaluator(grades, wanted).evaluate(runs) if runs else {}

    def column(name: str) -> Array:
        return np.array([found[q][name] if q in found else 0.0 for q in questions])

    ranks = column("recip_rank")
    values = {f"ndcg@{k}": column(f"ndcg_cut_{k}") for k in ks}
    values |= {f"recall@{k}": column(f"recall_{k}") for k in ks}
    # Of the first relevant one at rank 1/r; a little less, for 1/3 is no float.
    values |= {f"mrr@{k}": np.where(ranks >= 1 / k - 1e-9, ranks, 0.0) for k in ks}
    return Quality(tuple(questions), values)


def compare(
    before: Quality,
    after: Quality,
    metric: str = "ndcg@10",
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two retrievals question by question.

    Raises
    ------
    DataError
        They were measured on different questions.
    UnknownNameError
        One lacks the metric.

    Examples
    --------
    >>> questions = [f"q{i}" for i in range(20)]
    >>> one = Quality(tuple(questions), {"ndcg@10": np.full(20, 0.5)})
    >>> other = Quality(tuple(questions), {"ndcg@10": np.r_[np.full(15, 0.9), np.full(5, 0.4)]})
    >>> found = compare(one, other)
    >>> round(found.difference.value, 3), len(found.wins), len(found.losses), found.p_value < 0.01
    (0.275, 15, 5, True)
    """
    if before.questions != after.questions:
        raise DataError("expected two retrievals measured on the same questions in the same order")
    means = before.mean(metric), after.mean(metric)
    differences = after.values[metric] - before.values[metric]
    interval, p = paired_bootstrap(differences, level=level, resamples=resamples, seed=seed)
    order = np.argsort(-np.abs(differences), kind="stable").tolist()
    each = [(before.questions[i], float(differences[i])) for i in order]
    wins = tuple(pair for pair in each if pair[1] > 1e-12)
    losses = tuple(pair for pair in each if pair[1] < -1e-12)
    ties = len(each) - len(wins) - len(losses)
    return Comparison(metric, *means, interval, p, wins, losses, ties)


def paired_bootstrap(
    differences: npt.ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[Interval, float]:
    """Return a mean difference with its percentile interval, and a two-sided p-value.

    Questions are drawn with replacement. The p-value is how often the mean of the resamples,
    shifted to a mean of nothing, is at least as far from it as the one found (never less than
    one in ``resamples + 1``).

    Parameters
    ----------
    differences : array, shape (n,)
        Of two retrievals, by question.
    level
        How many of the resamples' means the interval holds.
    resamples, seed
        How many are drawn, and how.

    Raises
    ------
    DataError
        No questions.
    ConfigError
        A level or a number of resamples out of its range.

    Notes
    -----
    B. Efron, R. Tibshirani (1993), An introduction to the bootstrap, 16.4; M. Smucker,
    J. Allan, B. Carterette (2007) find it to agree with the randomisation test.

    Examples
    --------
    >>> interval, p = paired_bootstrap([0.1, 0.2, 0.0, 0.3] * 10)
    >>> round(interval.value, 2), interval.low > 0.1, p < 0.001
    (0.15, True, True)
    """
    values = np.asarray(differences, np.float64).reshape(-1)
    if not values.size:
        raise DataError("no questions to compare on")
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(
            f"expected a level between 0 and 1 and at least one resample, got {level} and {resamples}"
        )
    n, rng = len(values), np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    drawn = np.concatenate(
        [
            rng.multinomial(n, np.full(n, 1 / n), min(step, resamples - at)) @ values / n
            for at in range(0, resamples, step)
        ]
    )
    mean = float(values.mean())
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    # Rounding must not make equal means differ.
    extreme = int((np.abs(drawn - mean) >= abs(mean) - 1e-12).sum())
    return Interval(mean, float(low), float(high)), (1 + extreme) / (1 + resamples)


def _check(
    rows: Sequence[Sequence[str]],
    questions: Sequence[str],
    qrels: Qrels,
    ks: Sequence[int],
    depth: int,
) -> None:
    if len(rows) != len(questions) or not questions:
        raise DataError(
            f"expected a ranking for each question, got {len(rows)} for {len(questions)}"
        )
    if len(set(questions)) < len(questions):
        raise DataError("expected each question once")
    if not ks or min(ks) < 1 or max(ks) > depth:
        raise ConfigError(
            f"ks: expected depths from 1 to the {depth} that were found, got {list(ks)}"
        )
    for question, row in zip(questions, rows, strict=True):
        if len(set(row)) < len(row):
            raise DataError("a document was found twice", row=question)
        grades = qrels.get(question, {}).values()
        if any(not isinstance(g, int | np.integer) or g < 0 for g in grades):
            raise DataError("expected grades that are whole numbers from 0", row=question)
        if not any(grade > 0 for grade in grades):
            raise DataError("no document is relevant to this question", row=question)
