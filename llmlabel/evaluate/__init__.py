"""Predictions against gold labels: metrics, intervals, paired comparisons."""

from llmlabel.evaluate.evaluation import ClassScore, Evaluation, evaluate
from llmlabel.evaluate.intervals import (
    Interval,
    McNemar,
    bootstrap,
    bootstrap_difference,
    mcnemar,
)
from llmlabel.evaluate.metrics import (
    Reliability,
    Scores,
    accuracy,
    brier,
    class_scores,
    confusion,
    decisions,
    ece,
    macro_f1,
    nll,
    reliability,
)

__all__ = [
    "ClassScore",
    "Evaluation",
    "Interval",
    "McNemar",
    "Reliability",
    "Scores",
    "accuracy",
    "bootstrap",
    "bootstrap_difference",
    "brier",
    "class_scores",
    "confusion",
    "decisions",
    "ece",
    "evaluate",
    "macro_f1",
    "mcnemar",
    "nll",
    "reliability",
]
