"""Diagnostics of labeling functions, on votes alone or with gold labels; what to do next."""

from llmlabel.analysis.diagnostics import (
    Summary,
    conflicts,
    correlations,
    coverage,
    overlaps,
    summary,
)
from llmlabel.analysis.effects import Effects, effects
from llmlabel.analysis.next_steps import Suggestion, next_steps

__all__ = [
    "Effects",
    "Suggestion",
    "Summary",
    "conflicts",
    "correlations",
    "coverage",
    "effects",
    "next_steps",
    "overlaps",
    "summary",
]
