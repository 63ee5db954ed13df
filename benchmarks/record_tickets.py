"""Write recipes/support-tickets/data/answers.jsonl from the plain recorded answers in ../shared."""

from __future__ import annotations

from benchmarks.shared import ROOT, record_answers, require_shared, split_rows
from llmlabel.recipe import load_recipe


def main() -> None:
    """Convert the answers of all splits."""
    require_shared()
    recipe = load_recipe(ROOT / "recipes" / "support-tickets")
    target = recipe.resolve("data/answers.jsonl")
    record_answers("tickets", "support-tickets", recipe.task, split_rows("tickets"), target)
    print(target)


if __name__ == "__main__":
    main()
