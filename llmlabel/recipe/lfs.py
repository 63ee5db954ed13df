"""Labeling functions as recipes write them, and the `LF` values they become."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from llmlabel.embed import HasEncode
from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.io import fingerprint
from llmlabel.lf import LF, Feature, answer, answer_column, column, keyword, nearest, regex
from llmlabel.lf.similarity import embedding_feature
from llmlabel.schema import Task

__all__ = ["LF_SPECS", "Builder", "LFSpec", "build_lf", "text_column"]

TEXT = "(text)"
"""The column of a row's whole text, where that is not one column called ``text``."""


def _as_text(value: object) -> object:
    """A column of numbers has numbers for keys; they are looked up as text."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): v for k, v in value.items()}
    return value


Votes = Annotated[dict[str, str | None] | list[str], BeforeValidator(_as_text)]


class Strict(BaseModel):
    """A frozen model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KeywordSpec(Strict):
    """Vote where a text has one of some words."""

    lf: Literal["keyword"]
    name: str
    label: str
    words: list[str] = Field(min_length=1)
    without: list[str] = []
    column: str | None = Field(None, description="by default, the row's text")
    whole_words: bool = True
    case_sensitive: bool = False


class RegexSpec(Strict):
    """Vote where a regular expression is found."""

    lf: Literal["regex"]
    name: str
    label: str
    pattern: str
    without: str | None = None
    column: str | None = Field(None, description="by default, the row's text")
    case_sensitive: bool = False


class NearestSpec(Strict):
    """Vote for the class with the nearest prototype; needs an ``embed`` step."""

    lf: Literal["nearest"]
    name: str
    prototypes: dict[str, list[str]] | Literal["descriptions"] = "descriptions"
    threshold: float = Field(0.4, ge=-1, le=1)
    margin: float = Field(0.05, ge=0)


class AnswerSpec(Strict):
    """Vote as a field of an LLM's answer says; needs an ``ask`` step."""

    lf: Literal["answer"]
    name: str
    prompt: str
    field: str
    votes: Votes | None = Field(None, description="by default, the field holds class names")
    confidence: str | None = None


class ColumnSpec(Strict):
    """Vote as a column of the data says."""

    lf: Literal["column"]
    name: str
    column: str
    votes: Votes | None = Field(None, description="by default, the column holds class names")
    confidence: str | None = None
    strict: bool = True


class PythonSpec(Strict):
    """A labeling function from a Python file beside the recipe, or a module."""

    lf: Literal["python"]
    name: str | None = None
    function: str = Field(description="file.py:object or package.module:object")


LFSpec = Annotated[
    KeywordSpec | RegexSpec | NearestSpec | AnswerSpec | ColumnSpec | PythonSpec,
    Field(discriminator="lf"),
]

LF_SPECS: Mapping[str, type[Strict]] = {
    "keyword": KeywordSpec,
    "regex": RegexSpec,
    "nearest": NearestSpec,
    "answer": AnswerSpec,
    "column": ColumnSpec,
    "python": PythonSpec,
}


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


def build_lf(spec: LFSpec, builder: Builder) -> LF:
    """Make the `LF` that a recipe's spec describes.

    Raises
    ------
    ConfigError, UnknownNameError
        A class, prompt or field that does not exist; a missing ``embed`` step.
    """
    task = builder.task
    if isinstance(spec, PythonSpec):
        return _python(spec, builder.folder)
    where = f"LF {spec.name!r}"
    if isinstance(spec, (KeywordSpec, RegexSpec)):
        task.index(spec.label, where=where)
    if isinstance(spec, (KeywordSpec, RegexSpec)):
        make = keyword if isinstance(spec, KeywordSpec) else regex
        column_name = spec.column or text_column(task)
        return make(**{**spec.model_dump(exclude={"lf"}), "column": column_name})
    if isinstance(spec, NearestSpec):
        return _nearest(spec, builder)
    votes = _checked(spec.votes, task, where)
    if isinstance(spec, ColumnSpec):
        return column(spec.name, spec.column, votes, confidence=spec.confidence, strict=spec.strict)
    if spec.prompt not in builder.fields:
        raise UnknownNameError("prompt", spec.prompt, builder.fields, where=where)
    for name in (spec.field, spec.confidence):
        if name is not None and name not in builder.fields[spec.prompt]:
            raise UnknownNameError("answer field", name, builder.fields[spec.prompt], where=where)
    said = given_feature(answer_column(spec.prompt))
    return answer(spec.name, said, spec.field, votes, confidence=spec.confidence)


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
        threshold=spec.threshold,
        margin=spec.margin,
        column=text_column(builder.task),
        feature=embedding_feature(builder.encoder),
    )


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
