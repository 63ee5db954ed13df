"""A run folder read back, and the one page that shows it."""

from llmlabel.report.page import build
from llmlabel.report.results import Results

__all__ = ["Results", "build"]
