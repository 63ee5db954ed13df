"""Labeling functions as recipes write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from llmlabel.lf import Measure

__all__ = [
    "LF_SPECS",
    "AnswerSpec",
    "ClassifierSpec",
    "ColumnSpec",
    "CrowdSpec",
    "GazetteerSpec",
    "KeywordSpec",
    "LFSpec",
    "LookupSpec",
    "MeasureSpec",
    "NearestSpec",
    "PythonSpec",
    "RegexSpec",
    "RuleSpec",
    "SliceSpec",
    "Strict",
    "Votes",
]


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
    threshold: Annotated[float, Field(ge=-1, le=1)] | Literal["auto"] = Field(
        0.4, description="auto: where the training rows' similarities fall into two groups"
    )
    margin: float = Field(0.05, ge=0)
    approximate: bool = Field(
        False, description="look at the nearest prototypes only; needs llmlabel[search]"
    )


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


class MeasureSpec(Strict):
    """Vote where a length, a count or a number lies between two bounds."""

    lf: Literal["measure"]
    name: str
    label: str
    of: Measure = Field(description="value: the number in the column")
    at_least: float | None = None
    at_most: float | None = None
    column: str | None = Field(None, description="by default, the row's text")
    pattern: str | None = Field(None, description="with of: matches")


class GazetteerSpec(Strict):
    """Vote for the class whose names a text has."""

    lf: Literal["gazetteer"]
    name: str
    names: dict[str, list[str]] = {}
    file: str | None = Field(None, description="more names: columns name and label")
    column: str | None = Field(None, description="by default, the row's text")


class LookupSpec(Strict):
    """Vote as a table says of the row with the same fields."""

    lf: Literal["lookup"]
    name: str
    file: str
    on: dict[str, str] = Field(min_length=1, description="the data's columns: the table's")
    label: str = "label"
    votes: Votes | None = Field(None, description="by default, the table holds class names")


class CrowdSpec(Strict):
    """Each worker of a long table of answers votes."""

    lf: Literal["crowd"]
    file: str
    task: str = "task"
    worker: str = "worker"
    label: str = "label"


class ClassifierSpec(Strict):
    """Vote as a classifier of transformers says; with hypotheses, an NLI model."""

    lf: Literal["classifier"]
    name: str
    model: str = Field(description="a folder, or a name on the hub")
    votes: Votes | None = Field(None, description="the model's labels: classes")
    hypotheses: dict[str, str] | None = Field(None, description="a sentence per class")
    threshold: float = Field(0.5, ge=0, le=1)
    column: str | None = Field(None, description="by default, the row's text")

    @model_validator(mode="after")
    def _check_one(self) -> ClassifierSpec:
        if (self.votes is None) == (self.hypotheses is None):
            raise ValueError("give votes (the model's labels) or hypotheses (an NLI model)")
        return self


class RuleSpec(Strict):
    """Vote where a text breaks a rule of a pre-training filter, or any of a family's."""

    lf: Literal["rule"]
    name: str | None = Field(None, description="by default, the rule's")
    rule: str = Field(description="a family (gopher_quality, ...) or a rule of it (family.rule)")
    label: str | None = Field(None, description="the class of texts that break it")
    passes: str | None = Field(None, description="of a family: the class of texts that break none")
    threshold: float | None = Field(None, description="of a rule; by default the published one")
    column: str | None = Field(None, description="by default, the row's text")

    @model_validator(mode="after")
    def _check_together(self) -> RuleSpec:
        if self.label is None and self.passes is None:
            raise ValueError("name the class that it votes for: label")
        if "." in self.rule and (self.label is None or self.passes is not None):
            raise ValueError("a single rule votes for its label alone; passes: is for families")
        if "." not in self.rule and self.threshold is not None:
            raise ValueError("a family has several thresholds; name one rule of it")
        return self


class PythonSpec(Strict):
    """A labeling function from a Python file beside the recipe, or a module."""

    lf: Literal["python"]
    name: str | None = None
    function: str = Field(description="file.py:object or package.module:object")


LFSpec = Annotated[
    KeywordSpec
    | RegexSpec
    | MeasureSpec
    | NearestSpec
    | AnswerSpec
    | ColumnSpec
    | GazetteerSpec
    | LookupSpec
    | CrowdSpec
    | ClassifierSpec
    | RuleSpec
    | PythonSpec,
    Field(discriminator="lf"),
]

LF_SPECS: Mapping[str, type[Strict]] = {
    "keyword": KeywordSpec,
    "regex": RegexSpec,
    "measure": MeasureSpec,
    "gazetteer": GazetteerSpec,
    "lookup": LookupSpec,
    "crowd": CrowdSpec,
    "classifier": ClassifierSpec,
    "rule": RuleSpec,
    "nearest": NearestSpec,
    "answer": AnswerSpec,
    "column": ColumnSpec,
    "python": PythonSpec,
}


class SliceSpec(Strict):
    """A named subset of the rows, on which everything is measured too."""

    name: str
    words: list[str] | None = Field(None, description="rows with one of these words")
    pattern: str | None = Field(None, description="rows in which this is found")
    equals: str | None = Field(None, description="rows whose column has this value")
    of: Literal["chars", "words", "lines", "value"] | None = Field(
        None, description="rows of which this lies between at_least and at_most"
    )
    at_least: float | None = None
    at_most: float | None = None
    column: str | None = Field(None, description="by default, the row's text")

    @model_validator(mode="after")
    def _check_one(self) -> SliceSpec:
        ways = [n for n in ("words", "pattern", "equals", "of") if getattr(self, n) is not None]
        if len(ways) != 1:
            said = f", got {' and '.join(ways)}" if ways else ""
            raise ValueError(f"a slice has words, a pattern, equals or of: one of them{said}")
        if self.equals is not None and self.column is None:
            raise ValueError("equals: name the column")
        return self
