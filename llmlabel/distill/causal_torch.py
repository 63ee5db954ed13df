"""The part of `distill.causal` that computes: models, masks, losses, generation. Imports torch."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from llmlabel.distill.causal_data import IGNORED, Examples, collate
from llmlabel.errors import ConfigError
from llmlabel.io import canonical_json

__all__ = [
    "base_of",
    "check_lengths",
    "check_packing",
    "generate",
    "kl_full",
    "kl_top_k",
    "load_model",
    "load_tokenizer",
    "model_fingerprint",
    "pad_id",
    "target_logits",
    "teacher_top_k",
    "to_device",
    "to_inputs",
    "top_k_of",
    "vocabulary",
]

_SAMPLED: Final = 2048
"""Numbers of each weight that go into a fingerprint."""
_PROBE: Final = 12
_TAKES_4D: Final = ("eager", "sdpa")


def to_device(device: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is the GPU where there is one."""
    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    )


def load_model(model: Any, device: str, dtype: str = "float32") -> Any:
    """Return a causal language model on its device: by name, by folder, or as given.

    Raises
    ------
    ConfigError
        transformers cannot load it.
    """
    if not isinstance(model, str | Path):
        return model.to(to_device(device))
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(model), dtype=dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"cannot load the causal language model {model!s}: {words}") from error
    return loaded.to(to_device(device))


def load_tokenizer(model: Any, tokenizer: Any = None) -> Any:
    """Return the tokenizer given, or the one of a model's name or folder.

    Raises
    ------
    ConfigError
        There is none.
    """
    if tokenizer is not None and not isinstance(tokenizer, str | Path):
        return tokenizer
    name = model if tokenizer is None else tokenizer
    if not isinstance(name, str | Path):
        raise ConfigError("a model that is given loaded needs its tokenizer: give tokenizer=")
    try:
        return AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError, KeyError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"cannot load the tokenizer of {name!s}: {words}") from error


def base_of(model: Any) -> Any:
    """Return the transformers model inside; a LoRA's layers stay in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def vocabulary(model: Any, tokenizer: Any, what: str = "model") -> int:
    """Return the number of token ids of a tokenizer, all of which the model must know.

    A model's output may be wider: it is often padded to a round number.

    Raises
    ------
    ConfigError
        The tokenizer has ids that the model does not.
    """
    size: int = max(tokenizer.get_vocab().values()) + 1
    width = int(base_of(model).config.get_text_config().vocab_size)
    if width < size:
        raise ConfigError(
            f"the {what} knows {width} tokens and the tokenizer has {size}: they do not belong "
            "together"
        )
    return size


def pad_id(tokenizer: Any) -> int:
    """Return the id that fills up: the padding token, else the end of text, else 0."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((i for i in ids if i is not None), 0)


def model_fingerprint(model: Any) -> str:
    """Return the sha256 (hex) of a model's architecture and weights.

    Of each weight, its name, shape and 2048 evenly spread numbers go in, so that a large model
    takes a second: enough to tell two trainings apart, not against someone who means to deceive.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1)
        spread = flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu().numpy()
        digest.update(canonical_json([name, list(weight.shape)]).encode())
        digest.update(np.ascontiguousarray(spread).data)
    return digest.hexdigest()


def to_inputs(
    batch: Mapping[str, npt.NDArray[Any]], model: Any, *, packed: bool
) -> dict[str, torch.Tensor]:
    """Return what `collate` made as the model's inputs.

    Packed rows get positions that begin anew and a mask of shape (b, 1, L, L) in which a
    token sees its own row alone, up to itself. Padding sees padding: a row of a mask with
    nothing in it would give NaN.
    """
    inputs = {"input_ids": torch.from_numpy(batch["input_ids"])}
    segments = torch.from_numpy(batch["segments"])
    if not packed:
        inputs["attention_mask"] = (segments >= 0).long()
        return inputs
    inputs["position_ids"] = torch.from_numpy(batch["position_ids"])
    seen = (segments[:, :, None] == segments[:, None, :]).tril()[:, None]
    config = base_of(model).config
    if config._attn_implementation == "eager":  # adds the mask to the scores
        dtype = base_of(model).dtype
        hidden = torch.zeros(seen.shape, dtype=dtype)
        seen = hidden.masked_fill_(~seen, torch.finfo(dtype).min)
    inputs["attention_mask"] = seen
    return inputs


def check_lengths(model: Any, examples: Examples, what: str = "model") -> None:
    """Refuse rows that are longer than a model has positions for.

    Raises
    ------
    ConfigError
        One is.
    """
    most = getattr(base_of(model).config.get_text_config(), "max_position_embeddings", None)
    longest = int(examples.lengths.max())
    if most is not None and longest > most:
        raise ConfigError(
            f"max_length: rows of up to {longest} tokens, and the {what} takes {most}",
            hint=f"max_length={most}",
        )


@torch.no_grad()
def check_packing(model: Any, examples: Examples, max_length: int, pad: int) -> None:
    """Refuse a model in which packed rows would see each other.

    Raises
    ------
    ConfigError
        An attention that takes no mask of a shape (b, 1, L, L), a sliding window shorter than
        `max_length`, or two rows whose logits packed are not those of each alone.
    """
    config = base_of(model).config.get_text_config()
    kind = base_of(model).config._attn_implementation
    if kind not in _TAKES_4D:
        raise ConfigError(
            f"packing: expected an attention of {' or '.join(_TAKES_4D)}, got {kind!r}",
            hint="load the model with attn_implementation='sdpa', or leave packing=False",
        )
    layers = getattr(config, "layer_types", None) or []
    windows = [getattr(config, key, None) for key in ("sliding_window", "attention_chunk_size")]
    limited = not layers or any("sliding" in name or "chunked" in name for name in layers)
    window = min((w for w in windows if w), default=max_length)
    if limited and window < max_length:
        raise ConfigError(
            f"packing: the model's attention reaches {window} tokens and max_length is "
            f"{max_length}; the mask of packed rows has no such window",
            hint=f"max_length={window}, or packing=False",
        )
    if len(examples) > 1 and not _keeps_apart(model, examples, pad):
        raise ConfigError(
            f"packing: in a {type(base_of(model)).__name__} packed rows see each other or lose "
            "their positions",
            hint="leave packing=False",
        )


def _keeps_apart(model: Any, examples: Examples, pad: int) -> bool:
    """Whether two rows give the same logits packed as each alone."""
    two = Examples(
        tuple(ids[:_PROBE] for ids in examples.ids[:2]),
        tuple(labels[:_PROBE] for labels in examples.labels[:2]),
        np.ones(2),
        np.arange(2),
        0,
        0,
    )
    device, training = base_of(model).device, model.training
    model.eval()

    def logits(block: Sequence[int], *, packed: bool) -> torch.Tensor:
        batch = collate(two, [np.array(block)], pad)
        inputs = to_inputs(batch, model, packed=packed)
        found: torch.Tensor = model(**{k: v.to(device) for k, v in inputs.items()}).logits[0]
        return found.float()

    try:
        together, mixed = logits([0, 1], packed=True), logits([0, 1], packed=False)
        alone = torch.cat([logits([0], packed=False), logits([1], packed=False)])
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False  # takes no positions, or no such mask
    finally:
        model.train(training)
    error, leak = (float((found - alone).abs().max()) for found in (together, mixed))
    # Half precision rounds; but what a model that mixes rows does wrong is never less than leak.
    rounding = 1e-5 if base_of(model).dtype == torch.float32 else 2e-2
    return error <= max(0.1 * leak, rounding * float(alone.abs().max()))


def target_logits(
    model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, base: Any = None
) -> torch.Tensor:
    """Return the logits that predict the learned tokens, shape (t, v), in their order.

    Only the positions that predict a learned token of some row go through the output layer,
    where the model can leave others out: of a long prompt none.
    """
    learned = labels[:, 1:] != IGNORED
    base = base_of(model) if base is None else base
    if "logits_to_keep" not in inspect.signature(base.forward).parameters:
        every: torch.Tensor = model(**inputs, use_cache=False).logits[:, :-1]
        return every[learned]
    keep = learned.any(dim=0).nonzero()[:, 0]
    some: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=keep).logits
    return some[learned[:, keep]]


def kl_full(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return KL(teacher || student) at a temperature, shape (t,), from logits of shape (t, v)."""
    log_p = torch.log_softmax(teacher.float() / temperature, dim=-1)
    log_q = torch.log_softmax(student.float() / temperature, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def top_k_of(
    logits: torch.Tensor, k: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the k likeliest tokens' ids and log-probabilities, and that of all others together.

    Shapes (t, k), (t, k) and (t,); the last is -inf where k is the whole vocabulary.
    """
    log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
    top = log_p.topk(k, dim=-1)
    rest = log_p.scatter(-1, top.indices, -torch.inf).logsumexp(dim=-1)
    return top.indices, top.values, rest


def kl_top_k(
    student: torch.Tensor,
    ids: torch.Tensor,
    log_p: torch.Tensor,
    log_rest: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return KL(teacher || student), shape (t,), with all tokens but the teacher's k as one.

    It is the divergence of two distributions over k + 1 outcomes, never more than that over
    the vocabulary, and 0 where the student gives the k tokens the teacher's probabilities.
    """
    log_q = torch.log_softmax(student.float() / temperature, dim=-1)
    kl = (log_p.exp() * (log_p - log_q.gather(-1, ids))).sum(dim=-1)
    if ids.shape[-1] == student.shape[-1]:
        return kl
    rest = log_q.scatter(-1, ids, -torch.inf).logsumexp(dim=-1)
    # A probability of 0 has the logarithm -inf, and 0 * inf would be NaN.
    return kl + log_rest.exp() * (log_rest.clamp(min=-1e4) - rest)


@torch.inference_mode()
def teacher_top_k(
    model: Any,
    batch: Mapping[str, npt.NDArray[Any]],
    k: int,
    temperature: float,
    vocabulary: int,
) -> list[npt.NDArray[Any]]:
    """Return `top_k_of` at the learned tokens of a batch of `collate`, as arrays."""
    inputs = to_inputs(batch, model, packed=False)
    device = base_of(model).device
    labels = torch.from_numpy(batch["labels"]).to(device)
    logits = target_logits(model, {name: a.to(device) for name, a in inputs.items()}, labels)
    return [a.cpu().numpy() for a in top_k_of(logits[:, :vocabulary], k, temperature)]


@torch.inference_mode()
def generate(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, batch: int
) -> list[str]:
    """Return the greedy answers to prompts of token ids, computed in batches of like length."""
    pad, device = pad_id(tokenizer), base_of(model).device
    ends = {tokenizer.eos_token_id}
    own = base_of(model).generation_config.eos_token_id
    ends |= set(own) if isinstance(own, list) else {own}
    stop = sorted(i for i in ends if i is not None)
    make: Any = GenerationConfig  # mypy does not see its keywords
    config = make(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=stop or None, pad_token_id=pad
    )
    model.eval()
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        width = max(1, *(len(prompts[i]) for i in part))
        ids = torch.tensor([[*[pad] * (width - len(prompts[i])), *prompts[i]] for i in part])
        behind = torch.tensor([[len(prompts[i])] for i in part])
        mask = (torch.arange(width) >= width - behind.clamp(min=1)).long()
        out = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
        )
        for i, tokens in zip(part, out[:, width:].tolist(), strict=True):
            end = next((at for at, t in enumerate(tokens) if t in stop), len(tokens))
            answers[i] = tokenizer.decode(tokens[:end], skip_special_tokens=True)
    return answers
