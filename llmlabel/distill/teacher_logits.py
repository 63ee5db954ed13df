"""A teacher's likeliest tokens at each learned token, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.distill.causal_data import Examples, Ints, OnTooLong, collate, encode_rows
from llmlabel.distill.causal_rows import Row, Turns
from llmlabel.distill.folders import read_object, write_json
from llmlabel.errors import ConfigError, DataError
from llmlabel.extras import need_packages
from llmlabel.io import atomic_write

__all__ = ["STORED", "TeacherLogits", "store_teacher_logits"]

STORED: Final = "teacher_logits.json"
_FORMAT: Final = 1


@dataclass(frozen=True, eq=False)
class TeacherLogits:
    """Stored log-probabilities of a teacher; `store_teacher_logits` makes them.

    Parameters
    ----------
    folder
        Where ``teacher_logits.json`` and the chunks are.
    k
        Tokens kept at each position.
    temperature
        The temperature of the log-probabilities. The mass of the tokens that are not kept
        depends on it, so that it is chosen when they are stored.
    vocabulary
        Token ids that the probabilities are over.
    chunk_rows
        Rows of a chunk.
    targets
        Learned tokens of each row, shape (n,).
    examples, teacher
        Fingerprints of the tokenised rows and of the model.
    """

    folder: Path
    k: int
    temperature: float
    vocabulary: int
    chunk_rows: int
    targets: Ints
    examples: str
    teacher: str
    _chunks: dict[int, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def of(
        self, rows: npt.ArrayLike
    ) -> tuple[Ints, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return what the teacher says at the learned tokens of rows, one after the other.

        Parameters
        ----------
        rows : array of int, shape (m,)
            Numbers of tokenised rows.

        Returns
        -------
        Token ids and log-probabilities, both of shape (t, k), and the log-probability of all
        other tokens together, shape (t,); t is the sum of the rows' learned tokens.
        """
        found = np.concatenate([self._row(int(i)) for i in np.asarray(rows)])
        return found["ids"].astype(np.int64), found["log_p"], found["log_rest"]

    def _row(self, i: int) -> npt.NDArray[Any]:
        chunk = i // self.chunk_rows
        if chunk not in self._chunks:  # mapped, not read: a row costs a row
            self._chunks[chunk] = np.load(_chunk_file(self.folder, chunk), "r", allow_pickle=False)
        start = int(self.targets[chunk * self.chunk_rows : i].sum())
        return self._chunks[chunk][start : start + int(self.targets[i])]

    @classmethod
    def load(cls, folder: str | Path) -> TeacherLogits:
        """Read what `store_teacher_logits` wrote.

        Raises
        ------
        DataError
            The folder holds no stored logits, or not all of them.
        """
        folder = Path(folder)
        config = _read(folder)
        if config is None:
            raise DataError(
                "no such file; expected a teacher's stored logits", file=folder / STORED
            )
        targets = np.array(config.pop("targets"), np.int64)
        del config["format"]
        chunks = -(-len(targets) // config["chunk_rows"])
        missing = [c for c in range(chunks) if not _chunk_file(folder, c).is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {chunks} chunks are missing: call store_teacher_logits again, "
                "which goes on where it stopped",
                file=folder,
            )
        return cls(folder=folder, targets=targets, **config)


def store_teacher_logits(
    rows: Sequence[Row],
    teacher: Any,
    folder: str | Path,
    *,
    k: int = 20,
    temperature: float = 2.0,
    tokenizer: Any = None,
    max_length: int = 1024,
    turns: Turns = "all",
    on_too_long: OnTooLong = "error",
    batch_size: int = 8,
    chunk_rows: int = 256,
    device: str = "auto",
    dtype: str = "float32",
) -> TeacherLogits:
    """Compute a teacher's probabilities at the learned tokens of rows, and keep the largest.

    At each learned token the k likeliest tokens are kept with their log-probabilities at the
    temperature, and the sum of all others: as the probability of one more outcome, "any other
    token", so that nothing is renormalised and the student is not taught that the others are
    impossible. Training then compares the k + 1 outcomes (`fit_causal`).

    Chunks are written one by one, whole or not at all (``.npy`` files that are mapped into
    memory, for rows are read in random order). Called again after a kill, it computes only
    those that are missing.

    Parameters
    ----------
    rows
        As for `fit_causal`, with the same `tokenizer`, `max_length`, `turns` and `on_too_long`.
    teacher
        A causal language model: a name, a folder, or loaded with its `tokenizer`.
    folder
        Where to write.
    k
        Tokens kept at each position; 8 bytes each. At most the vocabulary.
    temperature
        That of the training to come.
    batch_size
        Rows computed at once.
    chunk_rows
        Rows of a chunk: what a kill loses at most.
    device, dtype
        Where and in which precision a teacher is loaded that is not yet.

    Raises
    ------
    DataError
        See `encode_rows`.
    ConfigError
        A k or a temperature that cannot be, or a folder with the logits of other rows, of
        another teacher or with other settings.
    MissingExtraError
        torch or transformers is not installed.
    """
    need_packages("stored teacher logits", "torch", "transformers", extra="peft")
    from llmlabel.distill import causal_torch

    folder = Path(folder)
    tokenizer = causal_torch.load_tokenizer(teacher, tokenizer)
    examples = encode_rows(
        rows, tokenizer, max_length=max_length, turns=turns, on_too_long=on_too_long
    )
    model = causal_torch.load_model(teacher, device, dtype).eval()
    causal_torch.check_lengths(model, examples, "teacher")
    size = causal_torch.vocabulary(model, tokenizer, "teacher")
    if not (1 <= k <= size and temperature > 0 and chunk_rows > 0 and batch_size > 0):
        raise ConfigError(
            f"expected k in 1..{size} and a positive temperature, chunk_rows and batch_size, got "
            f"{k}, {temperature}, {chunk_rows} and {batch_size}"
        )
    config = {
        "format": _FORMAT,
        "k": k,
        "temperature": temperature,
        "vocabulary": size,
        "chunk_rows": chunk_rows,
        "targets": examples.targets.tolist(),
        "examples": examples.fingerprint(),
        "teacher": causal_torch.model_fingerprint(model),
    }
    _begin(folder, config)
    asked = _Asked(model, causal_torch.pad_id(tokenizer), k, temperature, size, batch_size)
    for chunk, start in enumerate(range(0, len(examples), chunk_rows)):
        file = _chunk_file(folder, chunk)
        if not file.is_file():
            part = np.arange(start, min(start + chunk_rows, len(examples)))
            with atomic_write(file) as unfinished:
                np.save(unfinished, _chunk(examples, part, asked), allow_pickle=False)
    return TeacherLogits.load(folder)


@dataclass(frozen=True)
class _Asked:
    """A teacher and what it is asked for."""

    model: Any
    pad: int
    k: int
    temperature: float
    vocabulary: int
    batch_size: int


def _chunk(examples: Examples, rows: Ints, asked: _Asked) -> npt.NDArray[Any]:
    """Return one record for each learned token of the rows, in their order."""
    from llmlabel.distill.causal_torch import teacher_top_k

    kind = [("ids", np.int32, (asked.k,)), ("log_p", np.float32, (asked.k,)), ("log_rest", "<f4")]
    sizes = examples.targets[rows]
    out = np.empty(int(sizes.sum()), kind)
    starts = np.cumsum(sizes) - sizes
    order = np.argsort(examples.lengths[rows], kind="stable")  # little padding
    for at in range(0, len(order), asked.batch_size):
        batch = order[at : at + asked.batch_size]
        arrays = collate(examples, [rows[[i]] for i in batch], asked.pad)
        found = teacher_top_k(asked.model, arrays, asked.k, asked.temperature, asked.vocabulary)
        places = np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in batch])
        for name, values in zip(("ids", "log_p", "log_rest"), found, strict=True):
            out[name][places] = values
    return out


def _begin(folder: Path, config: dict[str, Any]) -> None:
    """Write what the folder holds, or check that it holds the same."""
    before = _read(folder)
    if before is None:
        for chunk in folder.glob("chunk-*.npy"):  # of whom, nobody knows
            chunk.unlink()
        write_json(folder / STORED, config)
        return
    other = sorted(key for key in config if before.get(key) != config[key])
    if other:
        raise ConfigError(
            f"{folder}: holds a teacher's logits with other {', '.join(other)}",
            hint="give another folder, or remove this one",
        )


def _read(folder: Path) -> dict[str, Any] | None:
    config = read_object(folder / STORED)
    if config is not None and config.get("format") != _FORMAT:
        raise DataError(f"expected stored logits of format {_FORMAT}", file=folder / STORED)
    return config


def _chunk_file(folder: Path, chunk: int) -> Path:
    return folder / f"chunk-{chunk:05d}.npy"
