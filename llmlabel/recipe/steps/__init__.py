"""The steps of a recipe, a module each; `KINDS` names them."""

from collections.abc import Mapping

from llmlabel.recipe.steps import (
    aggregate,
    ask,
    clean,
    dedup,
    distill,
    embed,
    evaluate,
    filtering,
    label,
    load,
    mix,
    report,
    sample,
)
from llmlabel.recipe.steps.base import Context, Observer, StepKind

__all__ = ["KINDS", "Context", "Observer", "StepKind"]

KINDS: Mapping[str, StepKind] = {
    "clean": clean.KIND,
    "dedup": dedup.KIND,
    "sample": sample.KIND,
    "load": load.KIND,
    "embed": embed.KIND,
    "ask": ask.KIND,
    "label": label.KIND,
    "aggregate": aggregate.KIND,
    "distill": distill.KIND,
    "evaluate": evaluate.KIND,
    "filter": filtering.KIND,
    "mix": mix.KIND,
    "report": report.KIND,
}
