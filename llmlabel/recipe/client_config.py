"""Who answers prompts, and what it may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmlabel.recipe.lf_specs import Strict

__all__ = ["AnyClient", "BudgetConfig", "LocalConfig", "OpenAIConfig", "RecordedConfig"]


class RecordedConfig(Strict):
    """Answers recorded earlier, in the OpenAI Batch output format: no key, no network."""

    use: Literal["recorded"]
    answers: str


class OpenAIConfig(Strict):
    """An OpenAI-compatible endpoint; the key comes from the environment."""

    use: Literal["openai"]
    endpoint: str | None = Field(None, description="a name in the file given with --config")
    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_in_flight: int = Field(64, ge=1)


class LocalConfig(Strict):
    """A model of transformers on this machine: no server, no key."""

    use: Literal["local"]
    model: str = Field(description="a name on the hub, or a folder")
    mode: Literal["score", "generate"] = Field(
        "score", description="score: read the choices' probabilities off instead of generating"
    )
    device: str = "auto"


class BudgetConfig(Strict):
    """A cap that no call passes; calls in flight count."""

    max_cost: float | None = Field(None, gt=0, description="US dollars")
    max_tokens: int | None = Field(None, gt=0, description="of prompts and answers together")
    max_calls: int | None = Field(None, gt=0)


AnyClient = Annotated[RecordedConfig | OpenAIConfig | LocalConfig, Field(discriminator="use")]
