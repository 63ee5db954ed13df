"""How an encoder is fine-tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from llmlabel.distill.losses import Loss, check_loss
from llmlabel.embed.model_folder import MINILM
from llmlabel.errors import ConfigError

__all__ = ["LORA", "EncoderOptions"]

_STEPS: Final = 300
_EPOCHS: Final = (4, 15)

Pooling = Literal["mean", "model"]

LORA: Final[Mapping[str, Any]] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
"""What ``lora=True`` means; target modules are peft's own for the architecture, or all linear."""


@dataclass(frozen=True)
class EncoderOptions:
    """How an encoder is fine-tuned.

    Parameters
    ----------
    model
        A folder, or a name on the hub, of any encoder that transformers knows.
    lora
        Arguments of ``peft.LoraConfig``; an empty mapping takes `LORA`; None fine-tunes all
        weights.
    pooling
        ``"mean"``: a head over the mean of the token vectors, as sentence encoders have it.
        ``"model"``: the architecture's own classification head, which transformers loads by
        itself.
    epochs
        Without one, as many as make some 300 steps, 4 to 15.
    batch_size, accumulate, learning_rate, weight_decay, warmup
        As in ``TrainingArguments``: `accumulate` batches make a step, `warmup` is a share of
        all steps. Without a learning rate 1e-4, with LoRA 1e-3.
    max_length
        Tokens of a text; the rest is cut.
    loss
        See `loss_function`.
    balance
        Weigh rows so that each class counts alike.
    rounds
        How often the student is trained anew on its own sharpened answers for all rows.
    hold_out
        The share of labeled rows by which it is compared with the baseline and stopped.
    patience
        Epochs without a lower loss on held-out rows before it stops; None trains to the end.
    report_to
        ``"none"``, or what the Trainer reports to: mlflow, wandb, tensorboard.
    seed
    """

    model: str = MINILM
    lora: Mapping[str, Any] | None = None
    pooling: Pooling = "mean"
    epochs: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_length: int = 128
    loss: Loss = "soft"
    balance: bool = False
    rounds: int = 1
    hold_out: float = 0.15
    patience: int | None = 2
    report_to: str = "none"
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_loss(self.loss)
        if self.pooling not in get_args(Pooling):
            raise ConfigError(f"pooling: expected mean or model, got {self.pooling!r}")
        for name in ("epochs", "batch_size", "accumulate", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name, low, high in (("warmup", 0, 1), ("hold_out", 0, 0.9)):
            if not low <= getattr(self, name) < high:
                raise ConfigError(
                    f"{name}: expected a share from {low} to below {high}, got {getattr(self, name)}"
                )
        if self.rounds < 0 or (self.learning_rate is not None and self.learning_rate <= 0):
            raise ConfigError("expected rounds of at least 0 and a positive learning_rate")

    def epochs_for(self, rows: int) -> int:
        """Return how many epochs so many rows are trained."""
        if self.epochs is not None:
            return self.epochs
        step = self.batch_size * self.accumulate
        return min(max(math.ceil(_STEPS * step / max(rows, 1)), _EPOCHS[0]), _EPOCHS[1])

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.learning_rate or (1e-4 if self.lora is None else 1e-3)

    @property
    def lora_arguments(self) -> dict[str, Any] | None:
        """Arguments of ``peft.LoraConfig``, or None."""
        return None if self.lora is None else {**LORA, **self.lora}
