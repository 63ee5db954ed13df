"""Support tickets, the shipped recipe: what each part gives on the 478 held-back messages.

    python -m benchmarks.tickets --json

Figures as in `benchmarks.youtube`; the LLM was asked about 300 training rows, and about all
test rows to measure it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/tickets.py`

from benchmarks.quality import main
from benchmarks.shared import ROOT
from llmlabel.recipe import load_recipe

if __name__ == "__main__":
    main(
        "tickets",
        "Support tickets, test rows",
        lambda _: load_recipe(ROOT / "recipes" / "support-tickets"),
        needs_shared=False,
    )
