"""Denoise the votes into probabilities; majority vote always stands beside."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmlabel import registry
from llmlabel.embed import fit_tfidf
from llmlabel.errors import ConfigError
from llmlabel.io import write_table
from llmlabel.io.runs import read_json, write_json
from llmlabel.labelmodel import FellBackWarning, LabelModel, LabelSet, MajorityVote
from llmlabel.recipe.config import AggregateStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.steps.embed import step_vectors
from llmlabel.recipe.steps.known import known_rows
from llmlabel.schema import ABSTAIN
from llmlabel.votes import VoteMatrix

__all__ = ["KIND", "check_model", "fitted", "make_model"]

_RULES = "(rules)"  # a group that no prompt can be called


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


def fitted(context: Context) -> tuple[Any, Mapping[str, Any]]:
    """Return the step's model, fitted on the training rows, and each split's features.

    Raises
    ------
    ConfigError
        The model takes no gold labels or no features, and is given some.
    """
    check_model(context.config)
    model = make_model(context.config.model, _with_groups(context))
    features = _features(context)
    said = {"gold": known_rows(context, context.config.gold), "features": features.get("train")}
    given = {name: value for name, value in said.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FellBackWarning)  # the facts and the report say it
        model.fit(VoteMatrix.load(context.input("label") / "votes.train.npz"), **given)
    return model, features


def _run(context: Context) -> Mapping[str, Any]:
    label = context.input("label")
    votes = {s: VoteMatrix.load(label / f"votes.{s}.npz") for s in context.splits}
    model, features = fitted(context)
    baseline = MajorityVote().fit(votes["train"])
    for split, matrix in votes.items():
        ids = context.rows(split)["id"].to_pylist()
        more = {"features": features[split]} if features else {}
        found = {
            "labels": model.predict_proba(matrix, **more),
            "majority": baseline.predict_proba(matrix),
        }
        for name, probabilities in found.items():
            labels = LabelSet(ids, matrix.classes, probabilities, covered=matrix.covered())
            write_table(labels.to_table(), context.folder.path / f"{name}.{split}.parquet")
    write_json(_learned(model, context.config), context.folder.path / "model.json")
    return _facts(model, context)


def _with_groups(context: Context) -> dict[str, Any]:
    """Return the model's parameters; LFs that read one prompt's answers are one group.

    They come from one call, and are wrong together. So are the rules of filters.
    """
    config: AggregateStep = context.config
    accepted = inspect.signature(registry.load(config.model, "label_models")).parameters
    if "groups" in config.params or "groups" not in accepted:
        return dict(config.params)
    lfs = read_json(context.input("label") / "lfs.json")
    groups = {lf["name"]: lf["prompt"] for lf in lfs if lf["prompt"] is not None}
    groups |= {lf["name"]: _RULES for lf in lfs if lf["kind"] == "rule"}
    return {**config.params, "groups": groups} if groups else dict(config.params)


def _features(context: Context) -> dict[str, Any]:
    kind = context.config.features
    if kind is None:
        return {}
    if kind == "embeddings":
        folder = context.input("embed")
        return {s: np.asarray(step_vectors(folder, s)) for s in context.splits}
    terms = fit_tfidf(context.texts("train"))
    return {s: terms.transform(context.texts(s)) for s in context.splits}


def check_model(config: AggregateStep) -> None:
    """Raise where there is no such model, or it does not take what the step gives it."""
    model = make_model(config.model, config.params)
    taken = inspect.signature(model.fit).parameters
    for name in ("gold", "features"):
        if getattr(config, name) is not None and name not in taken:
            raise ConfigError(f"label model {config.model!r} takes no {name}; two_rate does")


def _learned(model: Any, config: AggregateStep) -> dict[str, Any]:
    return {
        "model": config.model,
        "class_balance": _rounded(getattr(model, "class_balance_", None)),
        "lf_accuracies": _rounded(getattr(model, "lf_accuracies_", None)),
        "lf_accuracy_intervals": _rounded_rows(getattr(model, "lf_accuracy_intervals_", None)),
    }


def _facts(model: Any, context: Context) -> Mapping[str, Any]:
    config: AggregateStep = context.config
    gold = known_rows(context, config.gold)
    facts: dict[str, Any] = {"model": config.model}
    for name in ("n_iter_", "converged_"):
        if hasattr(model, name):
            facts[{"n_iter_": "iterations"}.get(name, name.rstrip("_"))] = getattr(model, name)
    if getattr(model, "fell_back_", False):
        facts["fell_back"] = True
    if gold is not None:
        facts["gold_rows"] = int((gold != ABSTAIN).sum())
    if config.features is not None:
        facts["features"] = config.features
    if hasattr(model, "estimated_accuracy_"):
        found = model.estimated_accuracy_
        facts["estimated_accuracy"] = _rounded([found.value, found.low, found.high])
    return facts


def _rounded(values: Any) -> list[float | None] | None:
    if values is None:
        return None
    return [None if np.isnan(v) else round(float(v), 6) for v in np.asarray(values)]


def _rounded_rows(values: Any) -> list[list[float | None] | None] | None:
    return None if values is None else [_rounded(row) for row in values]


def _uses(config: AggregateStep, before: Sequence[str]) -> Sequence[str]:
    needed = {"load", "label"} | ({"embed"} if config.features == "embeddings" else set())
    return [name for name in before if name in needed]


def _external(config: AggregateStep, recipe: Recipe) -> Mapping[str, Any]:
    return {} if config.gold is None else file_prints(recipe, config.gold)


KIND = StepKind(
    version=3, run=_run, uses=_uses, external=_external, check=lambda config, _: check_model(config)
)
