"""What a recipe may say: pydantic models in which every unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llmlabel.embed.model_folder import MINILM
from llmlabel.recipe.client_config import (
    AnyClient,
    BudgetConfig,
    OpenAIConfig,
    RecordedConfig,
)
from llmlabel.recipe.corpus_config import (
    CleanStep,
    DedupStep,
    EngineConfig,
    FilterStep,
    MixStep,
    SampleStep,
)
from llmlabel.recipe.lf_specs import LFSpec, SliceSpec, Strict
from llmlabel.recipe.rag_config import (
    ChunkStep,
    CurateStep,
    ExportStep,
    NegativesStep,
    QuestionsStep,
    RetrieveStep,
)

__all__ = ["SPLITS", "STEP_CONFIGS", "Endpoints", "RecipeConfig", "Split", "StepConfig"]

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class TaskConfig(Strict):
    """What is labeled."""

    name: str
    description: str = ""
    classes: dict[str, str] | list[str] = Field(
        description="class names with descriptions that a person and an LLM can follow"
    )
    text: str | list[str] = "text"


class DataConfig(Strict):
    """Where the rows are; paths are relative to the recipe's folder."""

    train: str | None = Field(
        None, description="rows to be labeled: CSV, JSONL, Parquet or a datasets folder"
    )
    corpus: str | None = Field(
        None, description="in place of train: a folder of Parquet, JSONL or WARC files to filter"
    )
    documents: str | None = Field(
        None, description="in place of train: a folder of documents to be searched"
    )
    valid: str | None = None
    test: str | None = None
    id: str | None = Field(None, description="the column of ids; without one, rows are numbered")
    gold: str | None = Field(None, description="the column of gold labels, used to measure only")

    @model_validator(mode="after")
    def _check_source(self) -> DataConfig:
        named = [n for n in ("train", "corpus", "documents") if getattr(self, n) is not None]
        if len(named) != 1:
            said = f", got {' and '.join(named)}" if named else ""
            raise ValueError(
                "give train (rows to be labeled), corpus (documents to be filtered) or "
                f"documents (to be searched): one of them{said}"
            )
        return self


class ExamplesConfig(Strict):
    """Answered rows that a prompt shows."""

    file: str = Field(description="rows with their texts and a column per answer field")
    n: int = Field(4, ge=1)
    select: Literal["fixed", "random", "nearest", "diverse"] = "random"
    balance: str | None = Field(None, description="an answer field whose values take turns")
    encoder: str = Field("auto", description="for nearest and diverse")


class ConfidenceConfig(Strict):
    """How sure an answer's field is, where the model's own word is not to be taken.

    The answer gets a further field, ``<of>.confidence``, for LFs to read.
    """

    of: str = Field(description="the answer field")
    by: Literal["logprobs", "samples", "stated"] = "logprobs"
    samples: int = Field(5, ge=2, description="answers per row, with by: samples")
    stated: str = Field("confidence", description="the field that states it, with by: stated")
    contextual: bool = Field(
        False,
        description="with by: logprobs, take out what the prompt favours by itself, "
        "which a few texts that say nothing show",
    )
    calibrate: str | None = Field(
        None, description="rows with a known answer: columns id and the field's name"
    )

    @model_validator(mode="after")
    def _check_contextual(self) -> ConfidenceConfig:
        if self.contextual and self.by != "logprobs":
            raise ValueError(f"contextual: needs by: logprobs, not {self.by}")
        return self


class EmbedStep(Strict):
    """Turn texts into unit vectors, for ``nearest`` LFs and the student."""

    step: Literal["embed"]
    encoder: str = Field("auto", description="a sentence-transformers name or path, or tfidf-svd")
    threads: int | None = Field(None, ge=1)
    backend: Literal["torch", "openvino"] = Field(
        "torch", description="what runs the encoder; openvino needs llmlabel[openvino]"
    )


class AskStep(Strict):
    """Ask a language model about some rows."""

    step: Literal["ask"]
    prompt: str = Field(description="a prompt file, or the name of a shipped prompt")
    client: AnyClient
    rows: dict[Split, Annotated[int, Field(ge=1)] | Literal["all"]] = Field(
        {"train": "all"}, description="how many rows of each split, drawn with the recipe's seed"
    )
    params: dict[str, Any] = Field({}, description="sampling parameters, over the prompt's")
    examples: ExamplesConfig | None = None
    confidence: ConfidenceConfig | None = None
    rows_per_request: int = Field(1, ge=1, description="several rows share a request")
    mode: Literal["live", "batch"] = Field("live", description="batch: OpenAI's Batch API")
    poll_s: float = Field(30.0, gt=0, description="seconds between looks at a batch")
    budget: BudgetConfig | None = None

    @model_validator(mode="after")
    def _check_together(self) -> AskStep:
        sure = self.confidence
        if sure is not None and sure.by != "stated" and self.rows_per_request > 1:
            raise ValueError(f"by: {sure.by} and rows_per_request above 1 do not go together")
        if sure is not None and sure.contextual and isinstance(self.client, RecordedConfig):
            raise ValueError("contextual: a recording has no answer to texts that say nothing")
        if self.budget is not None and not isinstance(self.client, OpenAIConfig):
            raise ValueError("budget: recorded and local answers cost nothing")
        if self.mode == "batch" and not isinstance(self.client, OpenAIConfig):
            raise ValueError("mode: batch needs a client with use: openai")
        return self

    @property
    def prompt_name(self) -> str:
        """The name that LFs and folders know the prompt by."""
        return self.prompt.rsplit("/", 1)[-1].removesuffix(".md")


class LabelStep(Strict):
    """Let the labeling functions vote."""

    step: Literal["label"]
    lfs: list[LFSpec] = Field(min_length=1)
    batch_size: int = Field(100_000, ge=1)


class AggregateStep(Strict):
    """Denoise the votes into probabilities."""

    step: Literal["aggregate"]
    model: str = Field("two_rate", description="a label model's name, or module:object")
    params: dict[str, Any] = Field(default_factory=dict)
    gold: str | None = Field(
        None, description="training rows whose class is known: columns id and label"
    )
    features: Literal["embeddings", "tfidf"] | None = Field(
        None, description="let the texts speak too: by the embed step's vectors, or by words"
    )


class TrainingConfig(Strict):
    """How an encoder is fine-tuned; see ``llmlabel.distill.EncoderOptions``."""

    model: str = Field(MINILM, description="any encoder of transformers: a folder or a name")
    lora: dict[str, Any] | None = Field(
        None, description="arguments of peft.LoraConfig; {} for ours; without it all weights"
    )
    pooling: Literal["mean", "model"] = "mean"
    epochs: int | None = Field(None, ge=1, description="by default some 300 steps, 4 to 15")
    batch_size: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="a share of all steps")
    max_length: int = Field(128, ge=1)
    loss: Literal["soft", "smooth", "gce"] = "soft"
    balance: bool = False
    rounds: int = Field(1, ge=0, description="of self-training, each a training anew")
    hold_out: float = Field(
        0.15, ge=0, lt=0.9, description="rows by which it is stopped and compared with linear"
    )
    patience: int | None = Field(2, ge=1)
    report_to: Literal["none", "mlflow", "wandb", "tensorboard"] = "none"
    extra: dict[str, Any] = Field({}, description="more TrainingArguments")


class DistillStep(Strict):
    """Train a small model on the probabilities."""

    step: Literal["distill"]
    student: Literal["linear", "encoder"] = "linear"
    gold: str | None = Field(
        None, description="training rows whose class is known: columns id and label"
    )
    training: TrainingConfig = Field(
        default_factory=lambda: TrainingConfig(),  # type: ignore[call-arg]
        description="of the student 'encoder'",
    )
    tfidf: bool | Literal["hashed"] = Field(
        True, description="hashed: words and pairs alone, fast on long documents"
    )
    min_confidence: float = Field(0.0, ge=0, le=1, description="rows below it are left out")
    keep: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        "auto",
        description="the share of each class whose neighbours agree most; auto: as many as are "
        "right by the label model's own probabilities",
    )
    rounds: int = Field(
        2, ge=0, description="of the linear student's self-training on all training rows"
    )


class EvaluateStep(Strict):
    """Measure everything against gold labels, beside its baselines."""

    step: Literal["evaluate"]
    llm: str | None = Field(None, description="the LF that is 'the LLM alone' in the tables")
    gold_student: bool = Field(True, description="train the same student on gold, for comparison")
    contested: int = Field(25, ge=0, description="how many contested rows to keep with evidence")
    slices: list[SliceSpec] = Field([], description="subsets that are measured apart")
    speed: bool = Field(True, description="measure the student's speed and size too")


class ReportStep(Strict):
    """Write the report page."""

    step: Literal["report"]


StepConfig = Annotated[
    CleanStep
    | DedupStep
    | SampleStep
    | EmbedStep
    | AskStep
    | LabelStep
    | AggregateStep
    | DistillStep
    | EvaluateStep
    | FilterStep
    | MixStep
    | CurateStep
    | ChunkStep
    | QuestionsStep
    | RetrieveStep
    | NegativesStep
    | ExportStep
    | ReportStep,
    Field(discriminator="step"),
]

STEP_CONFIGS: Mapping[str, type[Strict]] = {
    "clean": CleanStep,
    "dedup": DedupStep,
    "sample": SampleStep,
    "embed": EmbedStep,
    "ask": AskStep,
    "label": LabelStep,
    "aggregate": AggregateStep,
    "distill": DistillStep,
    "evaluate": EvaluateStep,
    "filter": FilterStep,
    "mix": MixStep,
    "curate": CurateStep,
    "chunk": ChunkStep,
    "questions": QuestionsStep,
    "retrieve": RetrieveStep,
    "negatives": NegativesStep,
    "export": ExportStep,
    "report": ReportStep,
}

# What must stand somewhere before a step, and what may stand there.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "dedup": ("clean",),
    "sample": ("clean",),
    "aggregate": ("label",),
    "distill": ("aggregate",),
    "evaluate": ("aggregate",),
    "filter": ("clean",),
    "mix": ("filter",),
    "questions": ("chunk",),
    "retrieve": ("questions",),
    "negatives": ("questions",),
    "export": ("chunk",),
}
_ORDER = tuple(STEP_CONFIGS)
_ON_CORPORA = ("clean", "dedup", "sample", "filter", "mix")
_ON_ROWS = ("embed", "ask", "label", "aggregate", "distill", "evaluate")
_ON_DOCUMENTS = ("curate", "chunk", "questions", "retrieve", "negatives", "export")


class RecipeConfig(Strict):
    """A recipe: what is labeled, from which rows, in which steps."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = 0
    task: TaskConfig | None = Field(None, description="without it: documents to be searched")
    data: DataConfig
    steps: list[StepConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_order(self) -> RecipeConfig:
        seen: list[str] = []
        for config in self.steps:
            kind = config.step
            for needed in _NEEDS.get(kind, ()):
                if needed not in seen:
                    raise ValueError(f"the step '{kind}' needs a step '{needed}' before it")
            self._check_data(kind, seen)
            if getattr(config, "features", None) == "embeddings" and "embed" not in seen:
                raise ValueError("features: embeddings needs a step 'embed' before it")
            late = [s for s in seen if _ORDER.index(s) > _ORDER.index(kind)]
            if late:
                raise ValueError(f"the step '{kind}' must stand before the step '{late[0]}'")
            if kind in seen and kind != "ask":
                raise ValueError(f"the step '{kind}' stands twice")
            seen.append(kind)
        prompts = [c.prompt_name for c in self.steps if isinstance(c, AskStep)]
        for name in prompts:
            if prompts.count(name) > 1:
                raise ValueError(f"two steps ask the prompt '{name}'")
        return self

    def _check_data(self, kind: str, seen: list[str]) -> None:
        """Check that a step has what it works on: rows, a corpus, or documents."""
        data = self.data
        if data.corpus is None and kind in _ON_CORPORA:
            raise ValueError(f"the step '{kind}' works on a corpus; data: names none")
        if data.documents is None and kind in _ON_DOCUMENTS:
            raise ValueError(f"the step '{kind}' works on documents; data: names none")
        if data.documents is not None and kind in _ON_ROWS:
            raise ValueError(f"the step '{kind}' works on rows; data: names documents")
        if data.corpus is not None and kind in _ON_ROWS and "sample" not in seen:
            raise ValueError(f"the step '{kind}' needs a step 'sample' before it")
        ends = "aggregate" if data.train else "filter" if data.corpus else "chunk"
        if kind == "report" and ends not in seen:
            raise ValueError(f"the step 'report' needs a step '{ends}' before it")

    @model_validator(mode="after")
    def _check_task(self) -> RecipeConfig:
        if self.task is None and self.data.documents is None:
            raise ValueError("the key 'task' is missing: what is labeled, with its classes")
        return self


class EndpointConfig(Strict):
    """One model endpoint of a ``--config`` file."""

    base_url: str | None = None
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_in_flight: int = Field(64, ge=1)


class Endpoints(Strict):
    """A ``--config`` file: where things run. No secrets: those are in the environment."""

    endpoints: dict[str, EndpointConfig] = {}
    engine: EngineConfig = Field(
        default_factory=lambda: EngineConfig(),  # type: ignore[call-arg]
        description="what the shards of a corpus are worked on by",
    )
    prices: dict[str, dict[str, Any]] = Field(
        {}, description="dollars per million tokens, in front of those of configs/prices.yaml"
    )
