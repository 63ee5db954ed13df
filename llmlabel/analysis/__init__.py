"""Diagnostics of labeling functions, on votes alone or with gold labels."""

from llmlabel.analysis.diagnostics import (
    Summary,
    conflicts,
    correlations,
    coverage,
    overlaps,
    summary,
)

__all__ = ["Summary", "conflicts", "correlations", "coverage", "overlaps", "summary"]
