"""A classifier trained by transformers' Trainer: soft labels, weights, early stopping, resumed."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.folders import write_json
from llmlabel.distill.losses import IGNORED, loss_function, packed_labels
from llmlabel.distill.network import WIDTH_STEP, Network, quiet
from llmlabel.distill.tracking import report_notes
from llmlabel.errors import ConfigError
from llmlabel.io import atomic_write

__all__ = ["Progress", "TrainingRows", "resumable", "run_trainer", "train_network"]

_WATCHED: Final = 40  # held-out rows whose loss tells when to stop

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with (steps done, all steps)."""


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Texts with targets, shape (n, k), and weights, shape (n,)."""

    texts: Sequence[str]
    targets: Array
    weights: Array


def train_network(
    network: Network,
    train: TrainingRows,
    held: TrainingRows,
    options: EncoderOptions,
    *,
    checkpoints: Path | None = None,
    on_progress: Progress | None = None,
    notes: str | None = None,
) -> dict[str, Any]:
    """Train a classifier of texts in place; return what the Trainer says of itself.

    Parameters
    ----------
    train
        The rows to learn from.
    held
        Rows whose loss stops the training and chooses the best epoch; may be none.
    checkpoints, on_progress, notes
        As in `run_trainer`.
    """
    return run_trainer(
        network,
        _dataset(network, train),
        _dataset(network, held) if len(held.texts) else None,
        options,
        checkpoints=checkpoints,
        on_progress=on_progress,
        notes=notes,
    )


def run_trainer(
    network: Network,
    train: Any,
    held: Any,
    options: EncoderOptions,
    *,
    checkpoints: Path | None = None,
    on_progress: Progress | None = None,
    notes: str | None = None,
) -> dict[str, Any]:
    """Train a network in place by transformers' Trainer; return what it says of itself.

    Parameters
    ----------
    train, held
        Datasets of token features and ``labels``, per row (or per row and token) the
        targets and, last, the weight; `held` may be None.
    checkpoints
        Where checkpoints go. With one in it the training goes on from there. By default a
        folder that is gone afterwards.
    on_progress
        Told of (steps done, all steps).
    notes
        Markdown that whoever is reported to shall keep beside the curves: the table of
        labeling functions.
    """
    from transformers import PrinterCallback, ProgressCallback, Trainer

    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        if checkpoints is None:
            checkpoints = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        watched = held is not None and len(held) >= _WATCHED and options.patience is not None
        trainer = Trainer(
            model=network.model,
            args=_arguments(options, checkpoints, len(train), watched=watched),
            train_dataset=train,
            eval_dataset=held if watched else None,
            processing_class=network.tokenizer,
            data_collator=_Collator(network),
            compute_loss_func=loss_function(options.loss),
            callbacks=_callbacks(options, watched, on_progress, notes),
            optimizers=(_optimizer(network.model, options), None),
        )
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        last = _last_checkpoint(checkpoints)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        # Under autocast the Trainer wraps forward: left so, the student would answer in
        # bfloat16 here and in float32 once it is loaded again.
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        network.model.eval()
        losses = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
        return {
            "steps": int(trainer.state.global_step),
            "epochs": round(float(trainer.state.epoch or 0), 2),
            "held_out_losses": [round(float(x), 5) for x in losses],
            **({"resumed_at": last.name} if last else {}),
        }


def resumable(
    network: Network, folder: Path | None, key: str, train: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Train a network unless it was trained to the end before; return what was told then.

    Parameters
    ----------
    folder
        Of its checkpoints; those of another training (another `key`) are removed.
    key
        Differs whenever the training would.
    train
        Trains the network in place.
    """
    if folder is None:
        return train()
    import torch

    mark, weights = folder / "training.json", folder / "finished.pt"
    known = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}
    if known.get("key") != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        known = {"key": key}
        write_json(mark, known)
    if "told" in known:
        network.model.load_state_dict(torch.load(weights, weights_only=True))
        network.model.eval()
        return {**known["told"], "resumed_at": "its end"}
    told = train()
    with atomic_write(weights) as part:
        torch.save(network.model.state_dict(), part)
    write_json(mark, {**known, "told": told})
    return told


def _optimizer(model: Any, options: EncoderOptions) -> Any:
    """Return AdamW with the head's own rate, or None: the Trainer makes its own."""
    if not hasattr(model, "groups"):
        return None
    import torch

    return torch.optim.AdamW(model.groups(options.weight_decay), lr=options.rate)


def _arguments(options: EncoderOptions, checkpoints: Path, rows: int, *, watched: bool) -> Any:
    import torch
    from transformers import TrainingArguments

    on_cpu = not torch.cuda.is_available()
    strategy: Literal["epoch", "no"] = "epoch" if watched else "no"
    given: dict[str, Any] = {
        "num_train_epochs": options.epochs_for(rows),
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": 4 * options.batch_size,
        "gradient_accumulation_steps": options.accumulate,
        "learning_rate": options.rate,
        "weight_decay": options.weight_decay,
        "warmup_steps": options.warmup,
        "lr_scheduler_type": "linear",
        "eval_strategy": strategy,
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "restore_callback_states_from_checkpoint": True,
        "load_best_model_at_end": watched,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "train_sampling_strategy": "group_by_length",
        "bf16": torch.cuda.is_available() or bool(torch.cpu._is_amx_tile_supported()),
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "report_to": options.report_to,
        "logging_strategy": "epoch",
        "disable_tqdm": True,
        "label_names": ["labels"],
        "remove_unused_columns": False,
        "seed": options.seed,
    }
    try:
        return TrainingArguments(output_dir=str(checkpoints), **{**given, **options.extra})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training: {error}") from error


def _dataset(network: Network, rows: TrainingRows) -> Any:
    from datasets import Dataset

    encoded = network.tokenizer(list(rows.texts), truncation=True, max_length=network.max_length)
    labels = packed_labels(rows.targets, rows.weights)
    columns = {name: encoded[name] for name in encoded}
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**columns, "labels": list(labels), "length": lengths})


@dataclass(frozen=True, eq=False)
class _Collator:
    """Pads a batch to a multiple of 8 tokens, and labels of tokens with it."""

    network: Network

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        kept = [
            {k: v for k, v in row.items() if k not in ("labels", "length", "text")} for row in rows
        ]
        padded = self.network.tokenizer.pad(
            kept, return_tensors="pt", pad_to_multiple_of=WIDTH_STEP, verbose=False
        )
        given = [np.array(row["labels"], np.float32) for row in rows]
        if given[0].ndim == 2:  # tokens: those of the padding have no label
            width = padded["input_ids"].shape[1]
            given = [
                np.pad(g, ((0, width - len(g)), (0, 0)), constant_values=IGNORED) for g in given
            ]
        return {**padded, "labels": torch.tensor(np.stack(given))}


def _callbacks(
    options: EncoderOptions, watched: bool, on_progress: Progress | None, notes: str | None
) -> list[Any]:
    from transformers import EarlyStoppingCallback, TrainerCallback

    class Told(TrainerCallback):
        """Hands the Trainer's steps on to our own progress."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if on_progress is not None:
                on_progress(int(state.global_step), int(state.max_steps))

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if notes is not None:
                report_notes(notes, args)

    out: list[Any] = [Told()]
    if watched and options.patience is not None:
        out.append(EarlyStoppingCallback(early_stopping_patience=options.patience))
    return out


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; halves of others are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in reversed(found):
        state = path / "trainer_state.json"  # written last
        try:
            json.loads(state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
            continue
        return path
    return None
