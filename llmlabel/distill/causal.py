"""A causal language model as a student: fine-tuned on completions, taught by a larger one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmlabel.distill.causal_data import OnTooLong, encode_rows
from llmlabel.distill.causal_rows import Row, Turns
from llmlabel.distill.causal_run import Run, Settings, Teacher
from llmlabel.distill.causal_student import CausalStudent, base_name
from llmlabel.distill.teacher_logits import TeacherLogits, store_teacher_logits
from llmlabel.errors import ConfigError, DataError
from llmlabel.extras import need_packages

__all__ = [
    "CausalStudent",
    "TeacherLogits",
    "fit_causal",
    "rows_from_answers",
    "store_teacher_logits",
]


def fit_causal(
    rows: Sequence[Row],
    *,
    model: Any,
    folder: str | Path,
    tokenizer: Any = None,
    lora: Mapping[str, Any] | None = None,
    epochs: float = 3,
    learning_rate: float = 1e-4,
    batch_size: int = 8,
    gradient_accumulation: int = 1,
    max_length: int = 1024,
    packing: bool = False,
    turns: Turns = "all",
    on_too_long: OnTooLong = "error",
    teacher: Any = None,
    temperature: float = 2.0,
    alpha: float = 0.5,
    warmup: float = 0.03,
    seed: int = 0,
    checkpoint_every: int | None = None,
    report_to: str = "none",
    resume: bool = True,
    device: str = "auto",
    dtype: str = "float32",
    training: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> CausalStudent:
    """Fine-tune a causal language model on completions, with or without a teacher.

    The loss is the cross-entropy of the learned tokens (of completions, or of the assistant's
    turns), as a mean over all of an optimizer's step. With a teacher it is ::

        alpha * T**2 * KL(teacher || student, both at temperature T) + (1 - alpha) * cross-entropy

    after Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), whose
    factor T**2 keeps the gradients' size the same at any temperature. A loaded teacher gives its
    probabilities of all tokens that tokenizer and models share. Stored logits
    (`store_teacher_logits`) give those of k tokens, and everything else is one more outcome, the
    rest, of the remaining mass: the divergence is that over k + 1 outcomes. With k the whole
    vocabulary both are the same.

    A run that was killed goes on from its last checkpoint when it is called again with the same
    arguments; one that had ended is read from its folder.

    Parameters
    ----------
    rows
        n rows, each with ``prompt`` and ``completion``, or with ``messages``; optionally with a
        ``weight``. A large model's recorded answers are such rows (`rows_from_answers`).
    model
        A causal language model: a name, a folder, or loaded with its `tokenizer`; a loaded one
        is trained in place.
    folder
        Checkpoints are written here while it trains, and the student when it has ended.
    lora
        Keywords of ``peft.LoraConfig``; None trains all weights.
    epochs, learning_rate, batch_size, gradient_accumulation, warmup, report_to
        As of ``transformers.TrainingArguments``; a `warmup` below 1 is a share of the steps, and
        a batch is of `batch_size` blocks.
    max_length, turns, on_too_long
        See `encode_rows`; with `packing`, `max_length` is the size of a block.
    packing
        Put short rows together into blocks, each seeing itself alone.
    teacher
        A larger model of the same vocabulary: a name, a folder or a loaded model; or stored
        logits, or their folder.
    temperature, alpha
        T and the share of the teacher.
    seed
        Of the adapter's beginning, the order of the rows and dropout.
    checkpoint_every
        Steps from checkpoint to checkpoint; by default one an epoch. The last two are kept, and
        none once the student is saved.
    resume
        Go on where a run of the same arguments was cut off; False begins anew.
    device, dtype
        ``"cpu"``, or ``"auto"`` for a GPU where there is one; the precision of loaded weights.
        For mixed precision give ``training={"bf16": True}``.
    training
        More keywords of ``transformers.TrainingArguments``.
    meta
        Plain data to be kept with the student.

    Raises
    ------
    DataError
        See `encode_rows`.
    ConfigError
        A model or an adapter that cannot be made, a teacher of another vocabulary or of other
        rows, packing that the model's attention cannot do, or a folder with another run.
    MissingExtraError
        torch, transformers, accelerate or, for `lora`, peft is not installed.
    """
    packages = ["torch", "transformers", "accelerate", *(["peft"] if lora is not None else [])]
    need_packages("a causal student", *packages, extra="peft")
    started = time.perf_counter()
    settings = Settings(
        lora, epochs, learning_rate, batch_size, gradient_accumulation, max_length, packing, seed,
        temperature, alpha, warmup, dtype, dict(training or {}),
    )  # fmt: skip
    settings.check()
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device: expected 'auto' or 'cpu', got {device!r}")
    from llmlabel.distill.causal_torch import load_model, load_tokenizer, model_fingerprint

    tokenizer = load_tokenizer(model, tokenizer)
    examples = encode_rows(
        rows, tokenizer, max_length=max_length, turns=turns, on_too_long=on_too_long
    )
    loaded = load_model(model, device, dtype)
    taught_by = Teacher.of(teacher, examples, loaded, tokenizer, settings, device)
    run = Run(
        Path(folder), examples, tokenizer, settings, base_name(model),
        model_fingerprint(loaded), taught_by,
    )  # fmt: skip
    ended = run.begin(loaded, resume=resume, device=device)
    if ended is not None:
        return ended
    return run.train(
        loaded,
        {
            "report_to": report_to,
            "use_cpu": device == "cpu",
            "save_strategy": "steps" if checkpoint_every else "epoch",
            "save_steps": checkpoint_every or 500,  # not used by the other
        },
        meta=dict(meta or {}),
        started=started,
    )


def rows_from_answers(
    prompts: Sequence[str | Sequence[Row]], answers: Sequence[str]
) -> list[dict[str, Any]]:
    """Return rows that teach a model another one's recorded answers.

    Parameters
    ----------
    prompts
        n texts, or n lists of messages that end with the user's.
    answers
        n answers.

    Raises
    ------
    DataError
        Not as many answers as prompts.

    Examples
    --------
    >>> rows_from_answers(["2+2="], ["4"])
    [{'prompt': '2+2=', 'completion': '4'}]
    >>> rows_from_answers([[{"role": "user", "content": "2+2?"}]], ["4"])[0]["messages"][1]
    {'role': 'assistant', 'content': '4'}
    """
    if len(prompts) != len(answers):
        raise DataError(f"expected as many answers as prompts ({len(prompts)}), got {len(answers)}")
    return [
        {"prompt": prompt, "completion": answer}
        if isinstance(prompt, str)
        else {"messages": [*prompt, {"role": "assistant", "content": answer}]}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
