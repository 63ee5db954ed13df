"""One run of `fit_causal`: what it is, where it left off, what it leaves behind."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmlabel.distill.causal_data import Examples, Ints, pack
from llmlabel.distill.causal_student import FILE, CausalStudent, base_name
from llmlabel.distill.folders import read_object, write_json
from llmlabel.distill.teacher_logits import STORED, TeacherLogits
from llmlabel.errors import ConfigError
from llmlabel.io import fingerprint

__all__ = ["Run", "Settings", "Teacher"]

_RUN: Final = "run.json"
_CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True)
class Settings:
    """What a run is, besides its rows and its models."""

    lora: Mapping[str, Any] | None
    epochs: float
    learning_rate: float
    batch_size: int
    gradient_accumulation: int
    max_length: int
    packing: bool
    seed: int
    temperature: float
    alpha: float
    warmup: float
    dtype: str
    training: Mapping[str, Any]

    def check(self) -> None:
        """Raise ConfigError where a setting cannot be."""
        for name in ("epochs", "learning_rate", "batch_size", "gradient_accumulation"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not (self.temperature > 0 and 0 <= self.alpha <= 1):
            raise ConfigError(
                "expected a positive temperature and an alpha in [0, 1], got "
                f"{self.temperature} and {self.alpha}"
            )
        if not self.warmup >= 0:
            raise ConfigError(f"warmup: expected a number of at least 0, got {self.warmup}")


@dataclass(frozen=True)
class Teacher:
    """A loaded model, or stored logits, or neither; and what it is."""

    model: Any = None
    stored: TeacherLogits | None = None
    fingerprint: str | None = None
    name: str | None = None

    @classmethod
    def of(
        cls,
        teacher: Any,
        examples: Examples,
        student: Any,
        tokenizer: Any,
        settings: Settings,
        device: str,
    ) -> Teacher:
        """Load a teacher and check that it fits to the student and its rows."""
        if teacher is None:
            return cls()
        from llmlabel.distill import causal_torch

        size = causal_torch.vocabulary(student, tokenizer)
        if isinstance(teacher, str | Path) and (Path(teacher) / STORED).is_file():
            teacher = TeacherLogits.load(teacher)
        if isinstance(teacher, TeacherLogits):
            _check_stored(teacher, examples, size, settings.temperature)
            return cls(None, teacher, teacher.teacher, str(teacher.folder))
        if isinstance(teacher, str | Path):
            theirs = causal_torch.load_tokenizer(teacher)
            if theirs.get_vocab() != tokenizer.get_vocab():
                raise ConfigError(
                    f"teacher {teacher}: its tokenizer has another vocabulary than the student's",
                    hint="let it answer, and learn from the answers: rows_from_answers",
                )
        model = causal_torch.load_model(teacher, device, settings.dtype)
        causal_torch.vocabulary(model, tokenizer, "teacher")
        model.requires_grad_(False)
        return cls(model, None, causal_torch.model_fingerprint(model), base_name(teacher))


def _check_stored(
    stored: TeacherLogits, examples: Examples, vocabulary: int, temperature: float
) -> None:
    wanted = {
        "rows": (stored.examples, examples.fingerprint()),
        "temperature": (stored.temperature, temperature),
        "vocabulary": (stored.vocabulary, vocabulary),
    }
    for name, (theirs, ours) in wanted.items():
        if theirs != ours:
            told = "" if name == "rows" else f": {theirs}, expected {ours}"
            raise ConfigError(
                f"{stored.folder}: the teacher's logits were stored for another {name}{told}",
                hint="store them with the rows, tokenizer, max_length, turns, on_too_long and "
                "temperature of this training",
            )


@dataclass(frozen=True, eq=False)
class Run:
    """Rows, settings and models of a run, and its folder."""

    folder: Path
    examples: Examples
    tokenizer: Any
    settings: Settings
    base: str | None
    base_fingerprint: str
    teacher: Teacher

    def begin(self, model: Any, *, resume: bool, device: str) -> CausalStudent | None:
        """Write which run the folder is of; return its student where it has ended."""
        identity = {
            "settings": fingerprint(_plain(asdict(self.settings))),
            "rows": self.examples.fingerprint(),
            "model": self.base_fingerprint,
            "teacher": self.teacher.fingerprint,
        }
        checkpoints, student = self.folder / _CHECKPOINTS, self.folder / FILE
        before = read_object(self.folder / _RUN) or {}
        other = [name for name in identity if before.get(name, "") != identity[name]]
        if not resume:
            shutil.rmtree(checkpoints, ignore_errors=True)
            student.unlink(missing_ok=True)
        elif other and (student.is_file() or any(checkpoints.glob("checkpoint-*"))):
            raise ConfigError(
                f"{self.folder}: holds a run with other {', '.join(other)}",
                hint="give another folder, or resume=False to begin anew in this one",
            )
        if student.is_file():
            dtype = self.settings.dtype
            return CausalStudent.load(self.folder, base=model, device=device, dtype=dtype)
        write_json(self.folder / _RUN, identity)
        return None

    def train(
        self, model: Any, arguments: dict[str, Any], *, meta: dict[str, Any], started: float
    ) -> CausalStudent:
        """Train the model, save the student, and remove the checkpoints."""
        from llmlabel.distill.causal_torch import pad_id
        from llmlabel.distill.causal_trainer import Batches, train, with_lora

        settings, pad = self.settings, pad_id(self.tokenizer)
        self._check(model, pad)
        if settings.lora is not None:
            model = with_lora(model, settings.lora, settings.seed)
        weights = self.examples.weights
        # Of mean 1, so that they leave the learning rate's meaning alone.
        examples = replace(self.examples, weights=weights / weights.mean())
        stored, blocks = self.teacher.stored, self._blocks()
        found = train(
            model,
            self.tokenizer,
            Batches(examples, model, pad, packed=settings.packing, stored=stored),
            blocks,
            self.folder / _CHECKPOINTS,
            {**_arguments(settings), **arguments, **settings.training},
            teacher=self.teacher.model,
            temperature=settings.temperature,
            alpha=settings.alpha,
        )
        seconds = round(time.perf_counter() - started, 3)
        facts = {**self._facts(len(blocks)), **found, "seconds": seconds}
        student = CausalStudent(
            model, self.tokenizer, self.base, self.base_fingerprint, facts, meta
        )
        student.save(self.folder)
        shutil.rmtree(self.folder / _CHECKPOINTS, ignore_errors=True)
        return student

    def _check(self, model: Any, pad: int) -> None:
        """Refuse rows and blocks that model or teacher cannot take."""
        from llmlabel.distill.causal_torch import check_lengths, check_packing

        models = {"model": model, "teacher": self.teacher.model}
        loaded = {what: one for what, one in models.items() if one is not None}
        for what, one in loaded.items():
            check_lengths(one, self.examples, what)
            if self.settings.packing:
                check_packing(one, self.examples, self.settings.max_length, pad)
        # Both are given the same batches, and a mask is of a form for an attention.
        ways = {one.config._attn_implementation for one in loaded.values()}
        if self.settings.packing and len(ways) > 1:
            raise ConfigError(
                f"packing: model and teacher have other attentions ({', '.join(sorted(ways))})",
                hint="load both with attn_implementation='sdpa'",
            )

    def _blocks(self) -> list[Ints]:
        if self.settings.packing:
            return pack(self.examples.lengths, self.settings.max_length)
        return [np.array([i]) for i in range(len(self.examples))]

    def _facts(self, blocks: int) -> dict[str, Any]:
        stored, by = self.teacher.stored, self.teacher
        taught = by.fingerprint is not None
        return {
            "rows": len(self.examples),
            "rows_dropped": self.examples.dropped,
            "rows_truncated": self.examples.truncated,
            "rows_with_a_token_across": self.examples.across,
            "blocks": blocks,
            "learned_tokens": int(self.examples.targets.sum()),
            "lora": _plain(self.settings.lora),
            "epochs": self.settings.epochs,
            "teacher": by.name or by.fingerprint,
            "teacher_top_k": None if stored is None else stored.k,
            "teacher_temperature": self.settings.temperature if taught else None,
            "teacher_alpha": self.settings.alpha if taught else None,
        }


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a set of module names becomes a list."""
    return json.loads(
        json.dumps(value, default=lambda v: sorted(v) if isinstance(v, set | frozenset) else str(v))
    )


def _arguments(settings: Settings) -> dict[str, Any]:
    return {
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "warmup_steps": settings.warmup,
        "seed": settings.seed,
        "logging_strategy": "epoch",
        "save_total_limit": 2,  # a kill while one is written leaves the other
        "remove_unused_columns": False,
        "disable_tqdm": True,
    }
