"""A fine-tuned student: any encoder of transformers, whole or by LoRA, on soft labels."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.features import Matrix
from llmlabel.distill.folders import read_config, write_json
from llmlabel.distill.inputs import check_targets, known_classes, with_gold
from llmlabel.distill.network import Network, load_network, make_network
from llmlabel.distill.refine import anchored, certainty, cut_statistic, share_kept
from llmlabel.distill.training import Progress, TrainingRows, resumable, train_network
from llmlabel.embed import check_texts
from llmlabel.embed.model_folder import model_fingerprint, model_folder
from llmlabel.errors import ConfigError
from llmlabel.extras import need_packages
from llmlabel.io import fingerprint
from llmlabel.schema import ABSTAIN

__all__ = ["KIND", "EncoderStudent", "fit_encoder"]

KIND: Final = "encoder"
_FORMAT: Final = 1
_BALANCING: Final = 20  # steps

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class EncoderStudent:
    """A fine-tuned encoder; `fit_encoder` makes one.

    Parameters
    ----------
    classes
        Class names in the order of the probability columns.
    network
        The model with its head, and its tokenizer.
    options
        How it was trained.
    base
        The fingerprint of the model it was trained from.
    facts, meta
        How it was fitted; whatever the caller wants kept with it.
    seconds
        How long the fit took; not saved.
    """

    classes: tuple[str, ...]
    network: Network
    options: EncoderOptions
    base: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def multi_label(self) -> bool:
        """Whether each class is asked about apart, so that rows need not sum to one."""
        return self.options.loss == "binary"

    def predict_proba(
        self,
        texts: Sequence[str],
        embeddings: object = None,  # noqa: ARG002  # the same call as any student's
    ) -> Matrix:
        """Return class probabilities, shape (n, k).

        Parameters
        ----------
        texts
            n texts.
        embeddings
            Not used: this student reads the texts itself.
        """
        texts = check_texts(texts)
        if not texts:
            return np.empty((0, len(self.classes)))
        logits = self.network.logits(texts)
        probabilities: Matrix = expit(logits) if self.multi_label else softmax(logits, axis=1)
        return probabilities

    def predict(
        self,
        texts: Sequence[str],
        embeddings: object = None,  # noqa: ARG002
    ) -> npt.NDArray[np.object_]:
        """Return the name of each text's likeliest class, shape (n,)."""
        best = self.predict_proba(texts).argmax(axis=1)
        names: npt.NDArray[np.object_] = np.array(self.classes, dtype=object)[best]
        return names

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the student, as plain data."""
        parameters = self.network.model.parameters
        seconds = {} if self.seconds is None else {"seconds": round(self.seconds, 3)}
        return {
            "kind": KIND,
            "encoder": self.options.model,
            "lora": self.options.lora_arguments,
            "parameters": sum(p.numel() for p in parameters()),
            "trained_parameters": sum(p.numel() for p in parameters() if p.requires_grad),
            **self.facts,
            **seconds,
        }

    def save(self, folder: str | Path) -> None:
        """Write the student into a folder: with LoRA the adapter and its head, else the model."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "student.json").unlink(missing_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # written last: without it, no student
        self.network.save(folder / "model")
        config = {
            "kind": KIND,
            "format": _FORMAT,
            "classes": list(self.classes),
            "options": asdict(self.options),
            "base": self.base,
            "facts": dict(self.facts),
            "meta": dict(self.meta),
        }
        write_json(folder / "config.json", config)

    @classmethod
    def load(cls, folder: str | Path, encoder: object = None) -> EncoderStudent:  # noqa: ARG003
        """Load what `save` wrote; it gives the same logits.

        Raises
        ------
        ConfigError
            The model that an adapter was trained on is another one now.
        """
        folder = Path(folder)
        config = read_config(folder)
        options = EncoderOptions(**config["options"])
        if (
            options.lora is not None
            and model_fingerprint(model_folder(options.model)) != config["base"]
        ):
            raise ConfigError(
                f"{folder}: the adapter was trained on another {options.model!r} than the one here",
                hint="its weights would mean something else; train the student anew",
            )
        return cls(
            classes=tuple(config["classes"]),
            network=load_network(folder / "model", options, config["classes"]),
            options=options,
            base=config["base"],
            facts=config["facts"],
            meta=config["meta"],
        )


def fit_encoder(
    texts: Sequence[str],
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    *,
    options: EncoderOptions | None = None,
    weights: npt.ArrayLike | None = None,
    gold: npt.ArrayLike | None = None,
    embeddings: npt.ArrayLike | None = None,
    keep: float | Literal["auto"] = 1.0,
    partner: npt.ArrayLike | None = None,
    held: npt.ArrayLike | None = None,
    checkpoints: Path | None = None,
    on_progress: Progress | None = None,
    notes: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> EncoderStudent:
    """Fine-tune an encoder on class probabilities.

    Parameters
    ----------
    texts
        n texts.
    probabilities : array, shape (n, k)
        Targets, as a label model gives them. With the loss ``"binary"`` rows need not sum
        to one.
    classes
        k class names.
    options
        The model and how it is trained.
    weights : array, shape (n,), optional
        Rows of weight 0 have no label: they are learned from in self-training alone.
    gold : array of int, shape (n,), optional
        The class of rows for which it is known, -1 elsewhere.
    embeddings : array, shape (n, d), optional
        For `keep`.
    keep
        The share of each class's rows to learn from at first (`cut_statistic`), or
        ``"auto"`` (`share_kept`).
    partner : array, shape (n, k), optional
        Another student's probabilities of all rows. In self-training the two teach
        together, by their mean: one of another kind is wrong elsewhere.
    held : array of bool, shape (n,), optional
        Rows whose labels are kept out of training, to stop it.
    checkpoints
        Where checkpoints go; a killed training goes on from the last one.
    on_progress
        Told of (steps done, all steps).
    notes
        Markdown that trackers (``report_to``) keep: the table of labeling functions.
    meta
        Plain data to be kept with the student.

    Raises
    ------
    DataError
        No rows; targets or weights of the wrong shape or not finite.
    ConfigError
        A model that cannot be loaded or made a classifier of.
    MissingExtraError
        torch, transformers, accelerate or, with LoRA, peft is not installed.
    """
    started = time.perf_counter()
    options = options or EncoderOptions()
    packages = (
        "torch",
        "transformers",
        "accelerate",
        *(("peft",) if options.lora is not None else ()),
    )
    need_packages("a fine-tuned student", *packages, extra="peft")
    texts = check_texts(texts)
    multi = options.loss == "binary"
    targets, row_weights = check_targets(
        texts, probabilities, classes, weights, exclusive=not multi
    )
    known = known_classes(gold, targets.shape)
    if not multi:
        targets, row_weights = with_gold(targets, row_weights, known)
    out = np.zeros(len(texts), np.bool_) if held is None else np.asarray(held, np.bool_)
    labeled = np.flatnonzero(row_weights)
    used = labeled[~out[labeled]]
    if keep == "auto":
        keep = 1.0 if multi else share_kept(targets[used])
    if keep < 1 and embeddings is not None and not multi:
        vectors = np.asarray(embeddings, np.float64)[used]
        kept = cut_statistic(vectors, targets[used].argmax(axis=1), keep=keep, seed=options.seed)
        used = used[kept | (known[used] >= 0)]
    if options.balance and not multi:
        row_weights = balanced(targets, row_weights, used)
    stop = labeled[out[labeled]]
    told = _Rounds(texts, targets, np.asarray(partner) if partner is not None else None)
    network, facts = told.train(
        options, classes, used, stop, row_weights, checkpoints, on_progress, notes
    )
    return EncoderStudent(
        classes=tuple(classes),
        network=network,
        options=options,
        base=model_fingerprint(model_folder(options.model)),
        facts={"rows": int(used.size), **_gold_facts(known), **facts},
        meta=dict(meta or {}),
        seconds=time.perf_counter() - started,
    )


def _gold_facts(known: Rows) -> dict[str, int]:
    rows = int((known != ABSTAIN).sum())
    return {"gold_rows": rows} if rows else {}


@dataclass(frozen=True, eq=False)
class _Rounds:
    texts: list[str]
    targets: Matrix
    partner: Matrix | None

    def train(
        self,
        options: EncoderOptions,
        classes: Sequence[str],
        used: Rows,
        stop: Rows,
        weights: Matrix,
        checkpoints: Path | None,
        on_progress: Progress | None,
        notes: str | None,
    ) -> tuple[Network, dict[str, Any]]:
        """Train on the labels, then anew on what the student says of all rows."""
        held = self._rows(stop, self.targets, weights)
        targets, rows = self.targets, used
        rounds = 0 if options.loss == "binary" else options.rounds
        said: list[dict[str, Any]] = []
        for done in range(rounds + 1):
            network = make_network(options, classes)
            folder = None if checkpoints is None else checkpoints / f"round-{done}"
            part = self._rows(rows, targets, weights)
            train = partial(
                train_network,
                network,
                part,
                held,
                options,
                checkpoints=folder,
                on_progress=_part_of(on_progress, done, rounds + 1),
                notes=notes,
            )
            said.append(resumable(network, folder, _key(part, held, options), train))
            if done < rounds:
                targets, weights = self._taught(network, used)
                rows = np.arange(len(self.texts))
                if options.balance:
                    weights = balanced(targets, weights, rows)
        return network, {"rounds": rounds, "training": said}

    def _taught(self, network: Network, used: Rows) -> tuple[Matrix, Matrix]:
        probabilities: Matrix = softmax(network.logits(self.texts), axis=1)
        if self.partner is not None:
            probabilities = (probabilities + self.partner) / 2
        certain = np.zeros(len(self.texts))
        certain[used] = certainty(self.targets[used])
        return anchored(probabilities, self.targets, certain)

    def _rows(self, rows: Rows, targets: Matrix, weights: Matrix) -> TrainingRows:
        some = weights[rows]
        scale = (
            some.mean() if rows.size else 1.0
        )  # the learning rate means the same for any weights
        return TrainingRows([self.texts[i] for i in rows], targets[rows], some / scale)


def balanced(targets: Matrix, weights: Matrix, rows: Rows) -> Matrix:
    """Return weights by which each class has nearly the same share of the rows' probability.

    Examples
    --------
    >>> targets = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> balanced(targets, np.ones(3), np.arange(3)).tolist()
    [0.75, 0.75, 1.5]
    """
    out = weights
    for _ in range(_BALANCING):  # soft targets: what one class gains, others gain with it
        mass = (targets[rows] * out[rows, None]).sum(axis=0)
        each = np.where(mass > 0, mass.sum() / (np.maximum(mass, 1e-12) * (mass > 0).sum()), 0.0)
        out = out * (targets @ each)
        out = out * (weights[rows].sum() / out[rows].sum())
    return out


def _key(part: TrainingRows, held: TrainingRows, options: EncoderOptions) -> str:
    """Return what differs whenever a training would."""
    arrays = (part.targets, part.weights, held.targets, held.weights)
    digests = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in arrays]
    base = model_fingerprint(model_folder(options.model))
    return fingerprint(list(part.texts), list(held.texts), digests, asdict(options), base)


def _part_of(on_progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Return a progress function for one of several equal parts."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(part * total + done, parts * total)
