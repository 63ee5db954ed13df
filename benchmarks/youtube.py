"""YouTube spam, no gold labels but for measuring: LLM, heuristics, label model, students.

    python -m benchmarks.youtube --json

Figures are test accuracies in percent: llm_alone, majority_vote (the ten heuristics),
label_model (all votes), student (trained on it), student_gold (the same on gold).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/youtube.py`

from benchmarks.quality import main
from benchmarks.shared_recipes import youtube_recipe

if __name__ == "__main__":
    main("youtube", "YouTube spam, test rows", youtube_recipe, needs_shared=True)
