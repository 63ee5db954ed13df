"""A student of spans: an encoder that labels tokens, taught by a sequence model's probabilities."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.features import Matrix
from llmlabel.distill.folders import read_config, write_json
from llmlabel.distill.losses import IGNORED, packed_labels
from llmlabel.distill.network import Network, token_network
from llmlabel.distill.training import Progress, run_trainer
from llmlabel.embed.model_folder import model_folder
from llmlabel.errors import ConfigError, DataError
from llmlabel.extras import need_packages
from llmlabel.lf import Span, TokenVotes
from llmlabel.lf.spans import tokenize
from llmlabel.votes import VoteMatrix

__all__ = ["KIND", "TokenStudent", "fit_tokens"]

KIND: Final = "tokens"
OUTSIDE: Final = "O"
_BATCH: Final = 16


@dataclass(frozen=True, eq=False)
class TokenStudent:
    """An encoder that finds spans; `fit_tokens` makes one.

    Parameters
    ----------
    classes
        Tags: ``O`` and, for each class X, ``B-X`` and ``I-X``.
    network, options
        The model, and how it was trained.
    facts, meta
        How it was fitted; whatever the caller wants kept with it.
    """

    classes: tuple[str, ...]
    network: Network
    options: EncoderOptions
    facts: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def predict_proba(self, texts: Sequence[str]) -> list[Matrix]:
        """Return, for each text, the probabilities of its tokens' tags, shape (tokens, k).

        Tokens are those of `llmlabel.lf.tokenize`. One beyond the model's length is
        outside of every span.
        """
        import torch

        out: list[Matrix] = []
        outside = np.eye(len(self.classes))[self.classes.index(OUTSIDE)]
        for start in range(0, len(texts), _BATCH):
            part = list(texts[start : start + _BATCH])
            encoded, firsts = _encode(self.network, part)
            rows = np.arange(len(part))
            with torch.inference_mode():
                logits = self.network.model(**self.network.batch(encoded, rows)).logits
            found = softmax(logits.float().cpu().numpy().astype(np.float64), axis=-1)
            for i, first in enumerate(firsts):
                probabilities = np.tile(outside, (len(first), 1))
                probabilities[first >= 0] = found[i, first[first >= 0]]
                out.append(probabilities)
        return out

    def predict(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text."""
        offsets = [tokenize(text) for text in texts]
        tags = [self.classes[c] for p in self.predict_proba(texts) for c in p.argmax(axis=1)]
        flat = np.array([o for text in offsets for o in text], np.int64).reshape(-1, 2)
        lengths = np.array([len(o) for o in offsets], np.int64)
        none = VoteMatrix(np.empty((len(flat), 0), np.int8), [], self.classes)
        return TokenVotes(none, lengths, flat).spans(tags)

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the student, as plain data."""
        return {"kind": KIND, "encoder": self.options.model, **self.facts}

    def save(self, folder: str | Path) -> None:
        """Write a plain transformers folder, ``model``, and what else is needed beside it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # written last: without it, no student
        self.network.save(folder / "model")
        config = {
            "kind": KIND,
            "classes": list(self.classes),
            "options": asdict(self.options),
            "facts": dict(self.facts),
            "meta": dict(self.meta),
        }
        write_json(folder / "config.json", config)

    @classmethod
    def load(cls, folder: str | Path) -> TokenStudent:
        """Load what `save` wrote.

        Raises
        ------
        DataError
            The folder holds no student of spans.
        """
        folder = Path(folder)
        config = read_config(folder)
        if config.get("kind") != KIND:
            raise DataError(
                f"expected a student of kind {KIND!r}, got {config.get('kind')!r}",
                file=folder / "config.json",
            )
        options = EncoderOptions(**config["options"])
        network = token_network(folder / "model", config["classes"], options)
        return cls(tuple(config["classes"]), network, options, config["facts"], config["meta"])


def fit_tokens(
    texts: Sequence[str],
    votes: TokenVotes,
    probabilities: npt.ArrayLike,
    *,
    options: EncoderOptions | None = None,
    checkpoints: Path | None = None,
    on_progress: Progress | None = None,
    meta: Mapping[str, Any] | None = None,
) -> TokenStudent:
    """Fine-tune an encoder to tag tokens.

    The loss is the soft cross-entropy at the first piece of each token, the mean over all
    tokens; tokens that no LF voted on count by `probabilities` all the same.

    Parameters
    ----------
    texts
        n texts.
    votes
        Their tokens, as `apply_spans` gives them.
    probabilities : array, shape (tokens, k)
        Of each token's tags, as `SequenceModel.predict_proba` gives them.
    options
        The model and how it is trained; LoRA, rounds and pooling are not for tokens.
    checkpoints, on_progress, meta
        As in `fit_encoder`.

    Raises
    ------
    DataError
        Probabilities of another number of tokens or tags.
    """
    started = time.perf_counter()
    options = options or EncoderOptions()
    need_packages("a student of spans", "torch", "transformers", "accelerate", extra="peft")
    if options.lora is not None:
        raise ConfigError("a student of spans is trained whole; leave lora out")
    classes = tuple(votes.votes.classes)
    targets = np.asarray(probabilities, np.float64)
    shape = (len(votes.offsets), len(classes))
    if targets.shape != shape or len(votes.lengths) != len(texts):
        raise DataError(
            f"expected probabilities of the shape {shape} and {len(votes.lengths)} texts, got "
            f"{targets.shape} and {len(texts)}"
        )
    network = token_network(model_folder(options.model), classes, options)
    rows = _dataset(network, texts, targets, votes.lengths)
    told = run_trainer(
        network, rows, None, options, checkpoints=checkpoints, on_progress=on_progress
    )
    facts = {
        "rows": len(texts),
        "tokens": len(targets),
        "training": told,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return TokenStudent(classes, network, options, facts, dict(meta or {}))


def _dataset(
    network: Network, texts: Sequence[str], targets: Matrix, lengths: npt.NDArray[np.int64]
) -> Any:
    from datasets import Dataset

    encoded, firsts = _encode(network, texts)
    parts = np.split(targets, np.cumsum(lengths)[:-1])
    labels = []
    for ids, first, part in zip(encoded["input_ids"], firsts, parts, strict=True):
        seen = first >= 0
        packed = np.full((len(ids), targets.shape[1] + 1), IGNORED, np.float32)
        packed[first[seen]] = packed_labels(part[seen], np.ones(int(seen.sum())))
        labels.append(packed)
    sizes = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**encoded, "labels": labels, "length": sizes})


def _encode(
    network: Network, texts: Sequence[str]
) -> tuple[dict[str, list[Any]], list[npt.NDArray[np.intp]]]:
    """Return the texts' pieces and, for each of their tokens, its first piece; -1 beyond the end."""
    encoded = network.tokenizer(
        list(texts),
        truncation=True,
        max_length=network.max_length,
        return_offsets_mapping=True,
    )
    pieces = encoded.pop("offset_mapping")
    firsts = []
    for text, offsets in zip(texts, pieces, strict=True):
        begin, end = np.array(offsets, np.int64).reshape(-1, 2).T
        tokens = np.array(tokenize(text), np.int64).reshape(-1, 2)
        # Some tokenizers count the space before a word to its piece; special pieces are empty.
        inside = (begin[None] < tokens[:, 1:]) & (end[None] > tokens[:, :1]) & (end > begin)[None]
        firsts.append(np.where(inside.any(axis=1), inside.argmax(axis=1), -1))
    return {name: encoded[name] for name in encoded}, firsts
