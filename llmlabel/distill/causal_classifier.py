"""A causal language model as a classifier: which class's words it finds likeliest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from llmlabel.distill.causal import CausalStudent, fit_causal
from llmlabel.distill.causal_data import Encoder
from llmlabel.distill.causal_rows import SpannedText
from llmlabel.distill.causal_targets import HOLE, TEMPLATE, Targets, classifier_rows
from llmlabel.distill.features import Matrix
from llmlabel.distill.folders import read_config, write_json
from llmlabel.embed import check_texts
from llmlabel.errors import ConfigError, DataError

__all__ = ["KIND", "TEMPLATE", "CausalClassifier", "classifier_rows", "fit_causal_classifier"]

KIND: Final = "causal"
_FORMAT: Final = 1
_TEXTS: Final = 64
"""Texts that are tokenised and scored at once."""


@dataclass(frozen=True, eq=False)
class CausalClassifier:
    """A causal language model that classifies; `fit_causal_classifier` makes one.

    Parameters
    ----------
    student
        The model.
    classes
        Class names in the order of the probability columns.
    labels
        What the model says for each class, behind the prompt.
    template
        The prompt, with ``{text}`` where the text stands.
    max_length
        The most tokens of prompt and label; a longer prompt loses its beginning.
    batch_tokens
        The most padded tokens computed at once.
    facts
        How it was fitted, for `describe`.
    meta
        Whatever the caller wants kept with it.
    """

    student: CausalStudent
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    template: str = TEMPLATE
    max_length: int = 1024
    batch_tokens: int = 4096
    facts: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_labels(self.classes, self.labels, self.template)

    def predict_proba(
        self,
        texts: Sequence[str],
        embeddings: npt.ArrayLike | None = None,  # noqa: ARG002 - other students' signature
    ) -> Matrix:
        """Return class probabilities.

        The log-probability of a class is the sum of those of its label's tokens, the end of
        text included, behind the prompt; the classes' are normalised to sum to one. Prompt and
        label are tokenised as one, as in training; what all labels of a text begin with counts
        for none of them and is left out.

        Parameters
        ----------
        texts
            n texts.
        embeddings
            Not used.

        Returns
        -------
        array of float64, shape (n, k)
            Rows sum to one, columns in the order of `classes`.

        Notes
        -----
        A batch's shared beginning is computed once, then each prompt once; its k labels stand
        behind it in one sequence and each sees the prompt and itself alone
        (`llmlabel.llm.local_scorer.Scorer`). Models with a sliding window read each prompt
        once for each label.
        """
        from llmlabel.distill.causal_torch import base_of
        from llmlabel.llm.local_scorer import Scorer

        texts = check_texts(texts)
        model = base_of(self.student.model).eval()
        scorer = Scorer(model, self.batch_tokens)
        scores = [np.empty((0, len(self.classes)))]
        for at in range(0, len(texts), _TEXTS):
            prompts, endings = self._tokens(texts[at : at + _TEXTS])
            scores.append(np.stack(scorer(prompts, endings)))
        probabilities: Matrix = softmax(np.concatenate(scores), axis=1)
        return probabilities

    def _tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Return each text's prompt, as far as all labels share it, and what follows for each."""
        from llmlabel.llm.local_scorer import common_prefix

        encoder = Encoder(self.student.tokenizer)
        prompts = [self.template.replace(HOLE, text) for text in texts]
        whole = encoder.spanned(
            [_spanned(prompt, label) for prompt in prompts for label in self.labels]
        )
        k = len(self.labels)
        heads, endings = [], []
        for i in range(len(texts)):
            rows = [ids.tolist() for ids, *_ in whole[i * k : (i + 1) * k]]
            shared = min(common_prefix(rows), min(map(len, rows)) - 1)
            tails = [row[shared:] for row in rows]
            room = self.max_length - max(map(len, tails))
            if shared < 1 or room < 1:
                raise DataError(
                    f"a prompt of {shared} tokens with labels of up to {self.max_length - room}: "
                    f"expected at least one and room for both in {self.max_length}",
                    row=i,
                )
            head = rows[0][:shared]
            lead = int(head[0] == encoder.first and room > 1)
            over = max(0, shared - room)
            heads.append([*head[:lead], *head[lead + over :]])
            endings.append(tails)
        return heads, endings

    def predict(
        self, texts: Sequence[str], embeddings: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.object_]:
        """Return the name of each text's likeliest class, shape (n,)."""
        best = self.predict_proba(texts, embeddings).argmax(axis=1)
        names: npt.NDArray[np.object_] = np.array(self.classes, dtype=object)[best]
        return names

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the student, as plain data."""
        return {
            **self.student.describe(),
            "kind": KIND,
            "template": self.template,
            "labels": list(self.labels),
            **self.facts,
        }

    def save(self, folder: str | Path) -> None:
        """Write ``config.json``, and the model into the folder's ``model``; see its `save`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # see LinearStudent.save
        self.student.save(folder / "model")
        write_json(
            folder / "config.json",
            {
                "kind": KIND,
                "format": _FORMAT,
                "llmlabel": version("llmlabel"),
                "classes": list(self.classes),
                "labels": list(self.labels),
                "template": self.template,
                "max_length": self.max_length,
                "batch_tokens": self.batch_tokens,
                "facts": dict(self.facts),
                "meta": dict(self.meta),
            },
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: object = None,  # noqa: ARG003 - other students' signature
        *,
        base: Any = None,
        device: str = "auto",
    ) -> CausalClassifier:
        """Read what `save` wrote.

        Parameters
        ----------
        folder
            The student's folder.
        encoder
            Not used.
        base, device
            As of `CausalStudent.load`.

        Raises
        ------
        DataError
            The folder holds no causal classifier of this format.
        ConfigError
            The model under an adapter cannot be found, or is not the one of the training.
        MissingExtraError
            torch, transformers or peft is not installed.
        """
        folder = Path(folder)
        config = read_config(folder)
        if (config.get("kind"), config.get("format")) != (KIND, _FORMAT):
            raise DataError(
                f"expected a {KIND!r} student of format {_FORMAT}, got {config.get('kind')!r} of "
                f"format {config.get('format')}",
                file=folder / "config.json",
            )
        return cls(
            student=CausalStudent.load(folder / "model", base=base, device=device),
            classes=tuple(config["classes"]),
            labels=tuple(config["labels"]),
            template=config["template"],
            max_length=config["max_length"],
            batch_tokens=config["batch_tokens"],
            facts=config["facts"],
            meta=config["meta"],
        )


def fit_causal_classifier(
    texts: Sequence[str],
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    *,
    model: Any,
    folder: str | Path | None = None,
    template: str = TEMPLATE,
    labels: Mapping[str, str] | None = None,
    targets: Targets = "hard",
    least: float = 0.05,
    weights: npt.ArrayLike | None = None,
    max_length: int = 1024,
    seed: int = 0,
    meta: Mapping[str, Any] | None = None,
    **options: Any,
) -> CausalClassifier:
    """Train a causal language model to say the class of a text.

    Parameters
    ----------
    texts
        n texts.
    probabilities : array, shape (n, k)
        Targets, as a label model gives them; one-hot rows for gold labels.
    classes
        k class names.
    model
        As of `fit_causal`.
    folder
        Where the training keeps its checkpoints and its model, so that it can go on after a
        kill; by default a temporary folder. The classifier is saved by `CausalClassifier.save`,
        into another.
    template
        The prompt, with ``{text}`` where the text stands.
    labels
        What the model is to say for each class; by default a space and the class's name.
    targets
        ``"hard"``: one row a text, its likeliest class. ``"soft"``: one row for each class of a
        probability of at least `least`, weighted by it, so that the loss is the cross-entropy
        to the targets. ``"sample"``: one row a text, its class drawn from the probabilities.
    least
        See `targets`.
    weights : array, shape (n,), optional
        How much each text counts; by default all the same, at 0 not at all.
    max_length, seed, **options
        As of `fit_causal`.
    meta
        Plain data to be kept with the student.

    Raises
    ------
    DataError
        Targets or weights of the wrong shape or not finite.
    ConfigError
        A template without ``{text}``, labels that are not one for each class or not different,
        unknown `targets`, and what `fit_causal` refuses.
    MissingExtraError
        torch, transformers, accelerate or peft is not installed.
    """
    texts = check_texts(texts)
    said = _verbalised(classes, labels)
    _check_labels(classes, said, template)
    rows = classifier_rows(
        texts, probabilities, classes, said, template, targets, least=least, weights=weights,
        seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        student = fit_causal(
            rows,
            model=model,
            folder=temporary if folder is None else folder,
            max_length=max_length,
            seed=seed,
            **options,
        )
    return CausalClassifier(
        student=student,
        classes=tuple(classes),
        labels=said,
        template=template,
        max_length=max_length,
        facts={"texts": len(texts), "targets": targets},
        meta=dict(meta or {}),
    )


def _verbalised(classes: Sequence[str], labels: Mapping[str, str] | None) -> tuple[str, ...]:
    if labels is None:
        return tuple(f" {name}" for name in classes)
    if set(labels) != set(classes):
        raise ConfigError(
            f"labels: expected one for each of {', '.join(classes)}, got {', '.join(labels)}"
        )
    return tuple(labels[name] for name in classes)


def _check_labels(classes: Sequence[str], labels: Sequence[str], template: str) -> None:
    if template.count(HOLE) != 1:
        raise ConfigError(f"template: expected {HOLE} once, got {template!r}")
    if len(classes) < 2 or len(labels) != len(classes):
        raise ConfigError(
            f"expected two classes or more and a label for each, got {len(classes)} and "
            f"{len(labels)}"
        )
    if len(set(labels)) < len(labels) or not all(labels):
        raise ConfigError(f"labels: expected different texts, got {list(labels)}")


def _spanned(prompt: str, label: str) -> SpannedText:
    text = prompt + label
    return SpannedText(text, ((len(prompt), len(text)),), bos=True, eos=True, weight=1.0)
