"""transformers' Trainer with the losses of `distill.causal`. Imports torch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from llmlabel.distill.causal_data import IGNORED, Examples, Ints, collate
from llmlabel.distill.causal_torch import (
    base_of,
    kl_full,
    kl_top_k,
    target_logits,
    to_inputs,
    vocabulary,
)
from llmlabel.distill.peft_quiet import as_peft_does
from llmlabel.distill.teacher_logits import TeacherLogits
from llmlabel.errors import ConfigError

__all__ = ["Batches", "Distillation", "completed_checkpoint", "train", "with_lora"]

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_KEYS = ("teacher_ids", "teacher_log_p", "teacher_log_rest")


class Batches:
    """The collator: blocks of row numbers become tensors.

    Parameters
    ----------
    examples
        n tokenised rows; their weights are used as they are.
    model
        Says what its attention takes as a mask.
    pad
        The id that fills up.
    packed
        Whether a block may hold several rows.
    stored
        The teacher's stored logits of these rows, if any.
    """

    def __init__(
        self,
        examples: Examples,
        model: Any,
        pad: int,
        *,
        packed: bool,
        stored: TeacherLogits | None = None,
    ) -> None:
        self._examples = examples
        self._model = model
        self._pad = pad
        self._packed = packed
        self._stored = stored

    def __call__(self, blocks: Sequence[Ints]) -> dict[str, torch.Tensor]:
        """Return the batch of some blocks."""
        arrays = collate(self._examples, blocks, self._pad)
        batch = to_inputs(arrays, self._model, packed=self._packed)
        batch["labels"] = torch.from_numpy(arrays["labels"])
        batch["weights"] = torch.from_numpy(arrays["weights"])
        if self._stored is not None:
            # In the order of the learned tokens: row by row, block by block.
            found = self._stored.of(np.concatenate(list(blocks)))
            batch |= {key: torch.from_numpy(a) for key, a in zip(_KEYS, found, strict=True)}
        return batch


class Distillation(Trainer):
    """A Trainer whose loss is cross-entropy on learned tokens, and a teacher's divergence.

    Parameters
    ----------
    teacher
        A loaded model whose logits are computed along, or None.
    vocabulary
        How many token ids teacher and student share.
    temperature, alpha
        See `fit_causal`.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Any = None,
        vocabulary: int = 0,
        temperature: float = 2.0,
        alpha: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._teacher = None if teacher is None else teacher.eval().to(self.args.device)
        self._vocabulary = vocabulary
        self._temperature = temperature
        self._alpha = alpha
        # The loss below is a sum over the number of tokens of a whole step, accumulated batches
        # included; the Trainer must count them and not divide again.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of a batch, a share of that of the step."""
        known = {key: inputs.pop(key) for key in _KEYS if key in inputs}
        labels, weights = inputs.pop("labels"), inputs.pop("weights")
        learned = labels[:, 1:] != IGNORED
        base = base_of(self.accelerator.unwrap_model(model))
        logits = target_logits(model, inputs, labels, base)
        goals = labels[:, 1:][learned]
        loss = torch.nn.functional.cross_entropy(logits.float(), goals, reduction="none")
        if known or self._teacher is not None:
            kl = self._divergence(logits, known, inputs, labels)
            loss = self._alpha * self._temperature**2 * kl + (1 - self._alpha) * loss
        count = learned.sum() if num_items_in_batch is None else num_items_in_batch
        total = (loss * weights[:, 1:][learned]).sum() / count
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            total = total * self.accelerator.num_processes  # gradients are averaged over them
        return (total, {"logits": logits}) if return_outputs else total

    def _divergence(
        self,
        logits: torch.Tensor,
        known: Mapping[str, torch.Tensor],
        inputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
    ) -> torch.Tensor:
        student = logits[:, : self._vocabulary]
        if known:
            ids, log_p, log_rest = (known[key] for key in _KEYS)
            return kl_top_k(student, ids, log_p, log_rest, self._temperature)
        with torch.no_grad():
            teacher = target_logits(self._teacher, inputs, labels)[:, : self._vocabulary]
        return kl_full(student, teacher, self._temperature)


def completed_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that was written to its end.

    Others are removed: a kill while one is written leaves a part of it, which the Trainer
    would take for the last.
    """
    found: list[tuple[int, Path]] = []
    for path in sorted(folder.glob("checkpoint-*")):
        match = CHECKPOINT.fullmatch(path.name)
        try:  # the Trainer writes its state last
            step = json.loads((path / "trainer_state.json").read_text("utf-8"))["global_step"]
        except (OSError, ValueError, KeyError):
            step = None
        if match and step == int(match[1]):
            found.append((step, path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def train(
    model: Any,
    tokenizer: Any,
    batches: Batches,
    blocks: Sequence[Ints],
    folder: Path,
    arguments: Mapping[str, Any],
    **distillation: Any,
) -> dict[str, Any]:
    """Train a model in place, from the last whole checkpoint of the folder where there is one.

    Returns
    -------
    ``steps``, ``resumed_from`` (a step, or None) and ``loss`` (of the last logged steps).

    Raises
    ------
    ConfigError
        An argument that TrainingArguments does not take.
    """
    use_cache = base_of(model).config.use_cache
    try:
        args = TrainingArguments(output_dir=str(folder), **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training: {str(error).splitlines()[0]}") from error
    make: Callable[..., Distillation] = Distillation
    trainer = make(
        model=model,
        args=args,
        train_dataset=list(blocks),
        data_collator=batches,
        processing_class=tokenizer,
        vocabulary=vocabulary(model, tokenizer),
        **distillation,
    )
    trainer.remove_callback(PrinterCallback)  # prints each log line
    last = completed_checkpoint(folder)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    base_of(model).config.use_cache = use_cache  # the Trainer turns it off
    model.eval()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    match = None if last is None else CHECKPOINT.fullmatch(last.name)
    return {
        "steps": int(trainer.state.global_step),
        "resumed_from": int(match[1]) if match else None,
        "loss": round(float(losses[-1]), 6) if losses else None,
    }


def with_lora(model: Any, lora: Mapping[str, Any], seed: int) -> Any:
    """Return a model with a new adapter, whose random beginning the seed decides.

    Raises
    ------
    ConfigError
        Keywords that ``peft.LoraConfig`` does not take, or modules that the model lacks.
    """
    from peft import LoraConfig, get_peft_model

    set_seed(seed)
    try:
        with as_peft_does():
            return get_peft_model(model, LoraConfig(**{"task_type": "CAUSAL_LM", **lora}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"lora: {str(error).splitlines()[0]}") from error
