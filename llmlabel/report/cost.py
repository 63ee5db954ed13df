"""What the language models cost, by prompt and by labeling function."""

from __future__ import annotations

from typing import Any

from llmlabel.report.results import Results
from llmlabel.schema import ABSTAIN

__all__ = ["llm_costs"]


def llm_costs(results: Results) -> list[dict[str, str]]:
    """Return a row per prompt that was asked, and one per labeling function that reads it.

    A call answers all of a prompt's questions at once, so its cost is shared
    evenly by the labeling functions that read it.
    """
    readers: dict[str, list[str]] = {}
    for lf in results.lf_kinds():
        if lf.get("prompt"):
            readers.setdefault(lf["prompt"], []).append(lf["name"])
    votes = [results.votes(split) for split in results.splits]
    rows = []
    for step in results.steps:
        if not step.startswith("ask-"):
            continue
        prompt, facts = step.removeprefix("ask-"), results.facts(step)
        names = readers.get(prompt, [])
        rows.append(_prompt_row(prompt, facts))
        for name in names:
            cast = sum(int((v[name] != ABSTAIN).sum()) for v in votes)
            usd = facts.get("usd")
            share = None if usd is None else usd / len(names)
            rows.append(
                {
                    "name": f"· {name}",
                    "asked": "",
                    "paid": "",
                    "cached": "",
                    "tokens": "",
                    "usd": _usd(share),
                    "votes": f"{cast:,}",
                    "per_vote": _usd(None if share is None or not cast else 1000 * share / cast),
                }
            )
    return rows


def _prompt_row(prompt: str, facts: Any) -> dict[str, str]:
    asked = sum(facts["asked"].values())
    free = "usd" not in facts  # recorded, or a model of one's own
    cached = facts.get("cached", 0)
    tokens = f"{facts.get('prompt_tokens', 0):,} + {facts.get('completion_tokens', 0):,}"
    return {
        "name": prompt,
        "asked": f"{asked:,}",
        "paid": ("0 (recorded)" if facts["recorded"] else "0 (local)")
        if free
        else f"{asked - cached - facts['failed']:,}",
        "cached": "" if free else f"{cached:,}",
        "tokens": "" if free else tokens,
        "usd": "" if free else _usd(facts.get("usd")),
        "votes": "",
        "per_vote": "",
    }


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
