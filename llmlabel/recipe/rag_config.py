"""What a recipe may say of documents to be searched: how they are curated, cut, asked about."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmlabel.recipe.lf_specs import Strict

__all__ = [
    "ChunkStep",
    "CurateStep",
    "ExportStep",
    "NegativesStep",
    "QuestionsStep",
    "RetrieveStep",
]

Action = Literal["keep", "drop", "merge", "mask", "tag"]
Method = Literal["bm25", "dense", "hybrid"]


class CurateStep(Strict):
    """Find what harms retrieval, and decide what becomes of it."""

    step: Literal["curate"]
    encoder: str = Field("auto", description="for pairs of documents about the same")
    actions: dict[str, Action] = Field(
        {}, description="per flaw, another action than the usual one"
    )
    drop: list[str] = Field([], description="ids of documents that go, whatever was found")
    keep: list[str] = Field([], description="ids of documents that stay, whatever was found")


class ChunkStep(Strict):
    """Cut documents into passages."""

    step: Literal["chunk"]
    by: Literal["structure", "tokens", "sentences", "semantic"] = "structure"
    size: int = Field(256, ge=8, description="tokens that no passage exceeds")
    overlap: int = Field(0, ge=0, description="tokens, with by: tokens")
    tokenizer: str = Field("auto", description="a name of transformers; words: white space")
    encoder: str = Field("auto", description="with by: semantic")

    @model_validator(mode="after")
    def _check_overlap(self) -> ChunkStep:
        if self.overlap and self.by != "tokens":
            raise ValueError("overlap: goes with by: tokens")
        if self.overlap >= self.size:
            raise ValueError(f"overlap: expected less than size {self.size}, got {self.overlap}")
        return self


class RetrieveStep(Strict):
    """Search before and after curation, and compare."""

    step: Literal["retrieve"]
    by: list[Method] = Field(["bm25", "dense", "hybrid"], min_length=1)
    encoder: str = "auto"
    rerank: str | None = Field(None, description="a cross-encoder that orders the first passages")
    k: int = Field(10, ge=1)
    of: Literal["documents", "passages"] = Field(
        "documents", description="what the questions' relevant ids name"
    )


class NegativesStep(Strict):
    """Mine passages that look like the answer and are none."""

    step: Literal["negatives"]
    per_question: int = Field(4, ge=1)
    k: int = Field(50, ge=2)
    margin: float = Field(0.05, ge=0, lt=1)


class ExportStep(Strict):
    """Write the curated passages for an index."""

    step: Literal["export"]
    to: Annotated[
        list[Literal["parquet", "lancedb", "qdrant", "langchain", "llamaindex"]],
        Field(min_length=1),
    ] = ["parquet"]
