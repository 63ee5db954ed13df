"""What a recipe may say of a corpus: how it is cleaned, sampled, filtered and mixed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmlabel.recipe.lf_specs import Strict

__all__ = [
    "CleanStep",
    "DedupStep",
    "EngineConfig",
    "FilterStep",
    "MixStep",
    "SampleStep",
]

Share = Annotated[float, Field(ge=0, le=1)]


class EngineConfig(Strict):
    """What the shards of a corpus are worked on by; results do not depend on it."""

    use: Literal["local", "ray"] = "local"
    workers: int | None = Field(None, ge=1, description="processes; by default one per core")
    address: str | None = Field(None, description="with ray: of a running cluster, or auto")
    max_in_flight: int | None = Field(None, ge=1, description="with ray: tasks at a time")

    @model_validator(mode="after")
    def _check_address(self) -> EngineConfig:
        if self.use == "local" and (self.address or self.max_in_flight):
            raise ValueError("address and max_in_flight are for use: ray")
        return self


class LanguageConfig(Strict):
    """Which languages stay."""

    keep: dict[str, Share] | None = Field(
        None, description="least probability by ISO 639-1 code; without it, all are kept"
    )
    by: Literal["py3langid", "lingua"] = "py3langid"


class PersonalConfig(Strict):
    """What is done about personal data and secrets."""

    action: Literal["mask", "drop"] = "mask"
    kinds: list[str] | None = Field(None, description="email, phone, ip, iban, card, key")
    regions: list[str] = Field(["US"], description="whose phone numbers count without +")


class LeaksConfig(Strict):
    """What is done about texts of benchmarks."""

    files: list[str] = Field(min_length=1)
    words: int = Field(13, ge=3, description="in a row that have to be the same")
    action: Literal["drop", "mask"] = "drop"
    allow: list[str] = Field([], description="texts that may stand in documents")


class CleanStep(Strict):
    """Read the shards; normalise, identify languages, drop by rules, mask personal data."""

    step: Literal["clean"]
    normalize: bool = True
    language: LanguageConfig | None = None
    drop: list[str] = Field(
        [], description="families of rules (gopher_quality, ...), or rules, that drop outright"
    )
    personal: PersonalConfig | None = None
    benchmarks: LeaksConfig | None = None
    html: bool = Field(False, description="the texts are HTML; WARC files are anyway")
    max_document_bytes: int = Field(10_000_000, ge=1)


class DedupStep(Strict):
    """Find duplicates, exact and near, and keep one of each cluster."""

    step: Literal["dedup"]
    threshold: float | None = Field(
        0.55, gt=0, le=1, description="least Jaccard similarity of word 5-grams; null: exact only"
    )
    keep: Literal["first", "longest", "newest", "best"] = "longest"
    column: str | None = Field(None, description="of dates or scores, for newest and best")
    against: str | None = Field(
        None, description="the run of a corpus that is there already, or its sketches"
    )

    @model_validator(mode="after")
    def _check_column(self) -> DedupStep:
        if (self.keep in ("newest", "best")) != (self.column is not None):
            needs = "needs" if self.column is None else "takes no"
            raise ValueError(f"keep: {self.keep} {needs} column:")
        return self


class SampleStep(Strict):
    """Draw the documents that are labeled and learned from."""

    step: Literal["sample"]
    rows: int = Field(500, ge=2)
    by: list[str] = Field([], description="columns; each combination gets an equal number")


class FilterStep(Strict):
    """Score every document with the student and decide."""

    step: Literal["filter"]
    keep: str | None = Field(None, description="the class that stays; by default the first")
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        "auto",
        description="least probability of that class; auto: where the student keeps as many of "
        "the documents that it has not met as the label model does",
    )


class MixStep(Strict):
    """Sample what was kept so that sources, languages or scores have wanted shares."""

    step: Literal["mix"]
    targets: dict[str, dict[str, Share] | Literal["equal"]] = Field(min_length=1)
    scores: list[float] = Field([], description="edges of score bins, to mix by score")
    words: float | None = Field(None, gt=0, description="how many; by default as many as there are")
    max_copies: float = Field(1.0, gt=0)
