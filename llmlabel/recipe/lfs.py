"""The `LF` values that a recipe's labeling functions become."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llmlabel.corpus.filters_lf import family, rule
from llmlabel.embed import HasEncode
from llmlabel.errors import ConfigError, DataError, UnknownNameError, did_you_mean
from llmlabel.io import fingerprint, read_table
from llmlabel.lf import (
    LF,
    Feature,
    Slice,
    answer,
    answer_column,
    column,
    crowd,
    gazetteer,
    keyword,
    lookup,
    measure,
    nearest,
    regex,
    slice_of,
    threshold_from_distribution,
    transformers_classifier,
    zero_shot_classifier,
)
from llmlabel.lf.similarity import embedding_feature
from llmlabel.recipe.lf_specs import (
    LF_SPECS,
    AnswerSpec,
    ClassifierSpec,
    ColumnSpec,
    CrowdSpec,
    GazetteerSpec,
    KeywordSpec,
    LFSpec,
    LookupSpec,
    MeasureSpec,
    NearestSpec,
    PythonSpec,
    RegexSpec,
    RuleSpec,
    SliceSpec,
    Votes,
)
from llmlabel.schema import Task

__all__ = ["Builder", "build_lf", "build_lfs", "build_slice", "text_column", "to_spec"]

_ROWS = 1 << 16
TEXT = "(text)"
"""The column of a row's whole text, where that is not one column called ``text``."""


@dataclass(frozen=True)
class Builder:
    """What turning a spec into an `LF` may need.

    Parameters
    ----------
    task
        What is labeled.
    folder
        The recipe's folder, for Python files.
    fields
        For each prompt asked, the fields of its answers.
    encoder
        Of the ``embed`` step, where there is one.
    """

    task: Task
    folder: Path
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    encoder: HasEncode | None = None


def build_lfs(spec: LFSpec, builder: Builder) -> list[LF]:
    """Make what a recipe's spec describes: one `LF`, or one for each worker of a crowd.

    Raises
    ------
    ConfigError, UnknownNameError, DataError
        As `build_lf`; a file that is not there or lacks a column.
    """
    if not isinstance(spec, CrowdSpec):
        return [build_lf(spec, builder)]
    table = read_table(builder.folder / spec.file)
    made = crowd(table, task=spec.task, worker=spec.worker, label=spec.label)
    for lf in made:
        _checked(list(lf.labels or ()), builder.task, f"worker {lf.name!r}")
    return made


def build_lf(spec: LFSpec, builder: Builder) -> LF:
    """Make the `LF` that a recipe's spec describes.

    Raises
    ------
    ConfigError, UnknownNameError
        A class, prompt or field that does not exist; a missing ``embed`` step.
    """
    made = _build(spec, builder)
    return made if made.spec is not None else replace(made, spec=spec.model_dump())


def _build(spec: LFSpec, builder: Builder) -> LF:
    if isinstance(spec, KeywordSpec | RegexSpec | MeasureSpec):
        return _heuristic(spec, builder)
    if isinstance(spec, NearestSpec):
        return _nearest(spec, builder)
    if isinstance(spec, GazetteerSpec):
        return _gazetteer(spec, builder)
    if isinstance(spec, LookupSpec):
        return _lookup(spec, builder)
    if isinstance(spec, ClassifierSpec):
        return _classifier(spec, builder)
    if isinstance(spec, RuleSpec):
        return _rule(spec, builder)
    if isinstance(spec, PythonSpec):
        return _python(spec, builder.folder)
    assert not isinstance(spec, CrowdSpec)
    return _given(spec, builder)


def _heuristic(spec: KeywordSpec | RegexSpec | MeasureSpec, builder: Builder) -> LF:
    builder.task.index(spec.label, where=f"LF {spec.name!r}")
    column_name = spec.column or text_column(builder.task)
    given: dict[str, Any] = {**spec.model_dump(exclude={"lf"}), "column": column_name}
    if isinstance(spec, KeywordSpec):
        return keyword(**given)
    return regex(**given) if isinstance(spec, RegexSpec) else measure(**given)


def _given(spec: AnswerSpec | ColumnSpec, builder: Builder) -> LF:
    where = f"LF {spec.name!r}"
    votes = _checked(spec.votes, builder.task, where)
    if isinstance(spec, ColumnSpec):
        return column(spec.name, spec.column, votes, confidence=spec.confidence, strict=spec.strict)
    if spec.prompt not in builder.fields:
        raise UnknownNameError("prompt", spec.prompt, builder.fields, where=where)
    for name in (spec.field, spec.confidence):
        if name is not None and name not in builder.fields[spec.prompt]:
            raise UnknownNameError("answer field", name, builder.fields[spec.prompt], where=where)
    said = given_feature(answer_column(spec.prompt))
    return answer(spec.name, said, spec.field, votes, confidence=spec.confidence)


def build_slice(spec: SliceSpec, task: Task) -> Slice:
    """Make the `Slice` that a recipe's spec describes."""
    where, any_class = spec.column or text_column(task), task.names[0]
    if spec.equals is not None:
        wanted = spec.equals
        return Slice(
            spec.name, lambda batch: [v is not None and str(v) == wanted for v in batch[where]]
        )
    if spec.words is not None:
        return slice_of(keyword(spec.name, spec.words, any_class, column=where))
    if spec.pattern is not None:
        return slice_of(regex(spec.name, spec.pattern, any_class, column=where))
    assert spec.of is not None
    low, high = spec.at_least, spec.at_most
    counted = measure(spec.name, any_class, spec.of, at_least=low, at_most=high, column=where)
    return slice_of(counted)


def to_spec(lf: LF) -> dict[str, Any]:
    """Return what a recipe says to make a labeling function, without what goes without saying.

    Raises
    ------
    ConfigError
        A recipe cannot say it: a function that stands in no module; a table, a classifier or
        a threshold in memory.

    Examples
    --------
    >>> to_spec(keyword("ask", ["please"], "SPAM"))
    {'lf': 'keyword', 'name': 'ask', 'label': 'SPAM', 'words': ['please']}
    """
    if lf.spec is not None:
        given = LF_SPECS[lf.spec["lf"]](**lf.spec)
        said = given.model_dump(exclude_defaults=True)
        if said.get("column") == "text":
            del said["column"]
        return said
    function = getattr(lf.vote, "__wrapped__", lf.vote)
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if lf.kind == "function" and name.isidentifier() and module not in ("", "__main__"):
        return {"lf": "python", "name": lf.name, "function": f"{module}:{name}"}
    raise ConfigError(f"LF {lf.name!r}: a recipe cannot say what makes it")


def text_column(task: Task) -> str:
    """Return the column that holds a row's text."""
    return "text" if task.text == ("text",) else TEXT


def given_feature(name: str) -> Feature:
    """Return a feature that an earlier step has computed."""

    def missing(_: object) -> Sequence[object]:
        raise ConfigError(f"the column {name!r} should have come from an earlier step")

    return Feature(name, missing)


def _checked(votes: Votes | None, task: Task, where: str) -> Votes:
    if votes is None:
        return list(task.names)
    for label in votes.values() if isinstance(votes, dict) else votes:
        if label is not None:
            task.index(label, where=where)
    return votes


def _nearest(spec: NearestSpec, builder: Builder) -> LF:
    if builder.encoder is None:
        raise ConfigError(
            f"LF {spec.name!r} compares embeddings: put a step 'embed' before 'label'"
        )
    if spec.prototypes == "descriptions":
        prototypes = {c.name: [c.description] for c in builder.task.classes if c.description}
    else:
        prototypes = spec.prototypes
    for label in prototypes:
        builder.task.index(label, where=f"LF {spec.name!r}")
    return nearest(
        spec.name,
        prototypes,
        builder.encoder,
        threshold=partial(_divide, builder) if spec.threshold == "auto" else spec.threshold,
        margin=spec.margin,
        approximate=spec.approximate,
        column=text_column(builder.task),
        feature=embedding_feature(builder.encoder),
    )


def _gazetteer(spec: GazetteerSpec, builder: Builder) -> LF:
    names = {label: list(members) for label, members in spec.names.items()}
    if spec.file is not None:
        file = builder.folder / spec.file
        table = read_table(file, text_columns=["name", "label"])
        for wanted in ("name", "label"):
            if wanted not in table.column_names:
                guess = did_you_mean(wanted, table.column_names)
                raise DataError(f"is missing{guess}", file=file, field=wanted)
        pairs = zip(table["name"].to_pylist(), table["label"].to_pylist(), strict=True)
        for member, label in pairs:
            names.setdefault(label, []).append(member)
    for label in names:
        builder.task.index(label, where=f"LF {spec.name!r}")
    return gazetteer(spec.name, names, column=spec.column or text_column(builder.task))


def _lookup(spec: LookupSpec, builder: Builder) -> LF:
    votes = spec.votes if isinstance(spec.votes, dict) else None
    made = lookup(spec.name, read_table(builder.folder / spec.file), spec.on, spec.label, votes)
    _checked(list(made.labels or ()), builder.task, f"LF {spec.name!r}")
    return made


def _classifier(spec: ClassifierSpec, builder: Builder) -> LF:
    where = f"LF {spec.name!r}"
    beside = builder.folder / spec.model
    model = str(beside) if beside.is_dir() else spec.model
    column = spec.column or text_column(builder.task)
    options: dict[str, Any] = {"threshold": spec.threshold, "column": column}
    if spec.hypotheses is not None:
        _checked(list(spec.hypotheses), builder.task, where)
        return zero_shot_classifier(spec.name, model, spec.hypotheses, **options)
    votes = _checked(spec.votes, builder.task, where)
    pairs = votes if isinstance(votes, dict) else {v: v for v in votes}
    return transformers_classifier(spec.name, model, pairs, **options)


def _rule(spec: RuleSpec, builder: Builder) -> LF:
    column = spec.column or text_column(builder.task)
    for label in (spec.label, spec.passes):
        if label is not None:
            builder.task.index(label, where=f"LF {spec.name or spec.rule!r}")
    if "." in spec.rule:
        assert spec.label is not None
        made = rule(spec.rule, drop=spec.label, threshold=spec.threshold, column=column)
    else:
        made = family(spec.rule, drop=spec.label, keep=spec.passes, column=column)
    return replace(made, name=spec.name or spec.rule, spec=spec.model_dump())


def _divide(builder: Builder, by_class: Callable[[Any], Any]) -> float:
    """Return where the training rows' similarities to their nearest class fall apart."""
    folder = getattr(builder.encoder, "folder", None)
    if folder is None:
        raise ConfigError("threshold: auto needs a step 'embed'")
    vectors = np.load(folder / "vectors.train.npy", mmap_mode="r")
    best = [by_class(vectors[i : i + _ROWS]).max(axis=1) for i in range(0, len(vectors), _ROWS)]
    return threshold_from_distribution(np.concatenate(best))


def _python(spec: PythonSpec, folder: Path) -> LF:
    place, _, name = spec.function.partition(":")
    module = _module(place, folder)
    if not name or not hasattr(module, name):
        known = [n for n, value in vars(module).items() if isinstance(value, LF)]
        raise UnknownNameError("labeling function", name, known, where=place)
    found = getattr(module, name)
    if not isinstance(found, LF):
        raise ConfigError(
            f"{spec.function}: expected an LF, got {type(found).__name__}; "
            "decorate it with @labeling_function"
        )
    if spec.name is None:
        return found
    import dataclasses

    return dataclasses.replace(found, name=spec.name)


def _module(place: str, folder: Path) -> object:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ImportError as error:
            raise ConfigError(f"cannot import {place!r}: {error}") from error
    path = (folder / place).resolve()
    if not path.is_file():
        raise ConfigError(f"{path}: no such Python file")
    module_spec = importlib.util.spec_from_file_location(
        f"llmlabel_recipe_{fingerprint(str(path))[:12]}_{path.stem}", path
    )
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return module
