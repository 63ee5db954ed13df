"""A transformers classifier: made, saved, and loaded to the same logits."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.peft_quiet import as_peft_does
from llmlabel.embed.model_folder import model_folder
from llmlabel.errors import ConfigError

__all__ = [
    "WIDTH_STEP",
    "Network",
    "fastest",
    "load_network",
    "make_network",
    "quiet",
    "token_network",
]

Array = npt.NDArray[np.float64]
WIDTH_STEP: Final = 8
_BATCH_TOKENS: Final = 4096
_MOST_APART: Final = 0.01


@dataclass(frozen=True, eq=False)
class Network:
    """A model and its tokenizer.

    Parameters
    ----------
    model
        A transformers model with a classification head, or such a model in a PeftModel.
    tokenizer
    max_length
        Tokens of a text.
    halved
        Whether it answers in bfloat16; see `fastest`.
    """

    model: Any
    tokenizer: Any
    max_length: int
    halved: bool = False

    def logits(self, texts: Sequence[str]) -> Array:
        """Return the logits of n texts, shape (n, k), whatever it was trained in."""
        import torch

        self.model.eval()
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        lengths = np.array([len(i) for i in encoded["input_ids"]])
        out: Array = np.empty((len(texts), self.model.config.num_labels))
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            # As many rows as stay within the tokens, were all as long as the longest of them.
            count = max(1, _BATCH_TOKENS // int(max(lengths[order[start]], 1)))
            rows = order[start : start + count]
            count = max(1, _BATCH_TOKENS // int(max(lengths[rows[-1]], 1)))
            rows = rows[:count]
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.halved):
                found = self.model(**self.batch({k: encoded[k] for k in encoded}, rows)).logits
            out[rows] = found.float().cpu().numpy()
            start += len(rows)
        return out

    def batch(self, encoded: Mapping[str, Sequence[Any]], rows: npt.NDArray[np.intp]) -> Any:
        """Return some rows as padded tensors on the model's device."""
        chosen = {name: [column[i] for i in rows] for name, column in encoded.items()}
        padded = self.tokenizer.pad(
            chosen, return_tensors="pt", pad_to_multiple_of=WIDTH_STEP, verbose=False
        )
        return {name: tensor.to(self.model.device) for name, tensor in padded.items()}

    def save(self, folder: Path) -> None:
        """Write the weights and the tokenizer; of a PeftModel the adapter with its head."""
        if folder.exists():
            shutil.rmtree(folder)  # an adapter that lay there would be loaded too
        folder.mkdir(parents=True)
        with quiet():
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def fastest(network: Network, probes: Sequence[str]) -> Network:
    """Return the network in bfloat16 where the CPU has AMX and it answers alike, else as it is.

    Alike: on the probes no probability differs by more than .01.
    """
    import torch

    if network.model.device.type != "cpu" or not torch.cpu._is_amx_tile_supported():
        return network
    halved = replace(network, halved=True)
    both = [softmax(n.logits(probes), axis=1) for n in (network, halved)]
    return halved if np.abs(both[0] - both[1]).max() <= _MOST_APART else network


def make_network(options: EncoderOptions, classes: Sequence[str]) -> Network:
    """Return an encoder with a fresh head, in a PeftModel where there is LoRA.

    Raises
    ------
    ConfigError
        transformers or peft cannot make it; says why.
    """
    import torch

    torch.manual_seed(options.seed)  # the head and the adapter are drawn
    folder = model_folder(options.model)
    model, tokenizer = _plain(folder, classes, options)
    if options.lora is not None and options.pooling == "mean":
        model.encoder = _with_lora(model.encoder, options)
    elif options.lora is not None:
        model = _with_lora(model, options)
    return Network(model, tokenizer, _length(model, tokenizer, options))


def _length(model: Any, tokenizer: Any, options: EncoderOptions) -> int:
    """Return the most tokens of a text: what is asked for, as far as there are positions."""
    known = [options.max_length, getattr(model.config, "max_position_embeddings", None)]
    most = getattr(tokenizer, "model_max_length", None)
    return min(n for n in (*known, most) if n)


def token_network(folder: Path, classes: Sequence[str], options: EncoderOptions) -> Network:
    """Return a classifier of tokens: an encoder with a fresh head, or a saved one.

    Raises
    ------
    ConfigError
        transformers cannot make it; says why.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(options.seed)
    try:
        with quiet():
            tokenizer = _tokenizer(folder)
            model = AutoModelForTokenClassification.from_pretrained(
                folder,
                num_labels=len(classes),
                id2label=dict(enumerate(classes)),
                label2id={name: i for i, name in enumerate(classes)},
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = next(line for line in (*str(error).splitlines(), repr(error)) if line.strip())
        raise ConfigError(
            f"{folder}: transformers cannot label tokens with it: {reason}"
        ) from error
    return Network(model.eval(), tokenizer, _length(model, tokenizer, options))


def load_network(folder: Path, options: EncoderOptions, classes: Sequence[str]) -> Network:
    """Return what `Network.save` wrote."""
    if options.lora is None:
        model, tokenizer = _plain(folder, classes, options)
    elif options.pooling == "mean":
        from llmlabel.distill.mean_pooled import MeanPooledClassifier

        base = model_folder(options.model)
        with quiet():
            model = MeanPooledClassifier.from_pretrained(base, len(classes), adapter=folder)
        tokenizer = _tokenizer(base)
    else:
        from peft import PeftModel

        model, tokenizer = _plain(model_folder(options.model), classes, options)
        with quiet():
            model = PeftModel.from_pretrained(model, str(folder))
    return Network(model.eval(), tokenizer, _length(model, tokenizer, options))


def _plain(folder: Path, classes: Sequence[str], options: EncoderOptions) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet():
            tokenizer = _tokenizer(folder)
            if options.pooling == "mean":
                from llmlabel.distill.mean_pooled import MeanPooledClassifier

                return MeanPooledClassifier.from_pretrained(folder, len(classes)), tokenizer
            model = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=len(classes),
                id2label=dict(enumerate(classes)),
                label2id={name: i for i, name in enumerate(classes)},
                problem_type=_problem(options),
                ignore_mismatched_sizes=True,  # a head for other classes is made anew
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = next(line for line in (*str(error).splitlines(), repr(error)) if line.strip())
        raise ConfigError(
            f"{folder}: transformers cannot make a classifier of it: {reason}"
        ) from error
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:  # decoder-only models have none
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _problem(options: EncoderOptions) -> str:
    return (
        "multi_label_classification" if options.loss == "binary" else "single_label_classification"
    )


def _with_lora(model: Any, options: EncoderOptions) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    given = options.lora_arguments or {}
    # With the architecture's own head the task type is what makes peft save it.
    task = TaskType.FEATURE_EXTRACTION if options.pooling == "mean" else TaskType.SEQ_CLS
    if "target_modules" not in given and _unknown_to_peft(model):
        given["target_modules"] = "all-linear"
    try:
        with quiet():
            return get_peft_model(model, LoraConfig(task_type=task, **given))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"lora: {error}") from error


def _unknown_to_peft(model: Any) -> bool:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    return model.config.model_type not in KNOWN


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from talking of heads that are new by intention, and of its future."""
    from transformers.utils import logging

    drawn, said = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with as_peft_does():
            yield
    finally:
        logging.set_verbosity(said)
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
