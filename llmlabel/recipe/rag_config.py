"""What a recipe may say of documents to be searched: how they are curated, cut, asked about."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmlabel.recipe.client_config import AnyClient
from llmlabel.recipe.lf_specs import Strict

__all__ = [
    "ChunkStep",
    "CurateStep",
    "ExportStep",
    "NegativesStep",
    "QuestionsStep",
    "RetrieveStep",
]

Method = Literal["bm25", "dense", "hybrid"]


class CurateStep(Strict):
    """Find what harms retrieval, and decide what becomes of each document."""

    step: Literal["curate"]
    encoder: str = Field("auto", description="tells which documents are about the same")
    title: str = Field("title", description="the column of titles, where there is one")
    date: str = Field("date", description="the column of dates, where there is one")
    supersedes: str | None = Field(None, description="a column: the id that it takes the place of")
    actions: dict[str, Literal["keep", "drop", "merge", "mask", "tag"]] = Field(
        {}, description="per flaw (OUTDATED, THIN, ...), another action than the usual one"
    )
    min_words: int = Field(30, ge=0, description="of a document that is not thin")
    required: list[str] | None = Field(None, description="columns that must not be empty")
    client: AnyClient | None = Field(
        None, description="who judges pairs that may contradict each other, one call for each"
    )


class ChunkStep(Strict):
    """Cut documents into passages."""

    step: Literal["chunk"]
    by: Literal["structure", "tokens", "sentences", "semantic"] = "structure"
    size: int = Field(200, ge=1, description="tokens that no passage exceeds")
    overlap: int = Field(0, ge=0, description="tokens that a passage repeats of the one before")
    tokenizer: str = Field("auto", description="a tokenizer of transformers; words: white space")
    encoder: str = Field("auto", description="with by: semantic")

    @model_validator(mode="after")
    def _check_overlap(self) -> ChunkStep:
        if self.overlap >= self.size:
            raise ValueError(f"overlap: expected less than size {self.size}, got {self.overlap}")
        return self


class QuestionsStep(Strict):
    """Get questions: from a file, from an LLM, or from headings."""

    step: Literal["questions"]
    file: str | None = Field(None, description="columns id, question and relevant")
    prompt: str = "passage-question"
    client: AnyClient | None = Field(None, description="as in ask; without it: headings")
    per_passage: int = Field(2, ge=1)
    passages: int | None = Field(None, ge=1, description="asked about; drawn with the seed")
    max_cost: float | None = Field(None, gt=0, description="US dollars")

    @model_validator(mode="after")
    def _check_source(self) -> QuestionsStep:
        if self.file is not None and self.client is not None:
            raise ValueError("questions come from a file or from a client, not both")
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
    encoder: str = "auto"


class ExportStep(Strict):
    """Write the curated passages for an index."""

    step: Literal["export"]
    to: list[Literal["parquet", "lancedb", "qdrant", "langchain", "llama_index"]] = Field(
        ["parquet"], min_length=1
    )
    encoder: str = Field("auto", description="of the vector stores")
