"""The steps of a recipe, a module each; `KINDS` names them."""

from collections.abc import Mapping

from llmlabel.recipe.steps import aggregate, ask, distill, embed, evaluate, label, load, report
from llmlabel.recipe.steps.base import Context, Observer, StepKind

__all__ = ["KINDS", "Context", "Observer", "StepKind"]

KINDS: Mapping[str, StepKind] = {
    "load": load.KIND,
    "embed": embed.KIND,
    "ask": ask.KIND,
    "label": label.KIND,
    "aggregate": aggregate.KIND,
    "distill": distill.KIND,
    "evaluate": evaluate.KIND,
    "report": report.KIND,
}
