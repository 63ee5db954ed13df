"""Denoise the votes into probabilities; majority vote always stands beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmlabel import registry
from llmlabel.errors import ConfigError
from llmlabel.io import write_table
from llmlabel.io.runs import write_json
from llmlabel.labelmodel import LabelModel, LabelSet, MajorityVote
from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.votes import VoteMatrix

__all__ = ["KIND", "make_model"]


def make_model(name: str, params: Mapping[str, Any]) -> Any:
    """Make a label model by name.

    Raises
    ------
    ConfigError
        An unknown model or parameter, with the nearest right name.
    """
    factory = registry.load(name, "label_models")
    if not (hasattr(factory, "fit") and hasattr(factory, "predict_proba")):
        raise ConfigError(f"label model {name!r}: expected a class with fit and predict_proba")
    try:
        model = factory(**params)
    except TypeError as error:
        raise ConfigError(f"label model {name!r}: {error}") from None
    if isinstance(model, LabelModel):
        model.check_parameters()
    return model


def _run(context: Context) -> Mapping[str, Any]:
    label = context.input("label")
    votes = {s: VoteMatrix.load(label / f"votes.{s}.npz") for s in context.splits}
    model = make_model(context.config.model, context.config.params).fit(votes["train"])
    baseline = MajorityVote().fit(votes["train"])
    for split, matrix in votes.items():
        ids = context.rows(split)["id"].to_pylist()
        for name, fitted in (("labels", model), ("majority", baseline)):
            labels = LabelSet(
                ids, matrix.classes, fitted.predict_proba(matrix), covered=matrix.covered()
            )
            write_table(labels.to_table(), context.folder.path / f"{name}.{split}.parquet")
    accuracies = getattr(model, "lf_accuracies_", None)
    learned = {
        "model": context.config.model,
        "class_balance": _rounded(getattr(model, "class_balance_", None)),
        "lf_accuracies": _rounded(accuracies),
    }
    write_json(learned, context.folder.path / "model.json")
    return {
        "model": context.config.model,
        "iterations": getattr(model, "n_iter_", None),
        "converged": getattr(model, "converged_", None),
    }


def _rounded(values: Any) -> list[float | None] | None:
    if values is None:
        return None
    return [None if np.isnan(v) else round(float(v), 6) for v in np.asarray(values)]


KIND = StepKind(version=1, run=_run, uses=lambda _, __: ("load", "label"))
