"""The steps of a recipe, a module each; `KINDS` names them."""

from collections.abc import Mapping

from llmlabel.recipe.steps import (
    aggregate,
    ask,
    chunk,
    clean,
    curate,
    dedup,
    distill,
    documents,
    embed,
    evaluate,
    export,
    filtering,
    label,
    load,
    mix,
    negatives,
    questions,
    report,
    retrieve,
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
    "documents": documents.KIND,
    "curate": curate.KIND,
    "chunk": chunk.KIND,
    "questions": questions.KIND,
    "retrieve": retrieve.KIND,
    "negatives": negatives.KIND,
    "export": export.KIND,
    "report": report.KIND,
}
