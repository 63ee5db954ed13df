"""The default student: frozen embeddings and TF-IDF into logistic regression on soft labels."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from llmlabel.distill.features import Matrix, row_features
from llmlabel.distill.folders import read_config, write_json
from llmlabel.distill.heldout import (
    LEAST_ROWS,
    Labeled,
    choose_gold_weight,
    fit_temperature,
    held_out_logits,
    labeled_rows,
    learn,
)
from llmlabel.distill.inputs import check_targets, known_classes, unit_embeddings
from llmlabel.distill.kept_encoder import identify, is_fitted, kept_encoder, without_saved
from llmlabel.distill.softmax import FOLDS, Choice, Coefficients, choose
from llmlabel.embed import (
    HasEncode,
    HashedTfidf,
    Tfidf,
    check_texts,
    fit_hashed_tfidf,
    fit_tfidf,
    load_tfidf,
)
from llmlabel.embed.hashed import HASHED
from llmlabel.errors import ConfigError, DataError
from llmlabel.io import atomic_write

__all__ = ["KIND", "LinearStudent", "fit_linear"]

KIND: Final = "linear"
_FORMAT: Final = 1


@dataclass(frozen=True, eq=False)
class LinearStudent:
    """A trained linear student; `fit_linear` makes one.

    Parameters
    ----------
    classes
        Class names in the order of the probability columns.
    coef : array, shape (k, d + f)
        Coefficients of the d embedding dimensions, then of the f TF-IDF terms.
    intercept : array, shape (k,)
    dims
        d; 0 for a student without embeddings.
    tfidf
        The fitted TF-IDF, or None.
    encoder
        What embeds texts, or None where embeddings must be given.
    encoder_id
        The encoder's ``name`` and ``fingerprint``, as far as it has them.
    facts
        How it was fitted, for `describe`.
    meta
        Whatever the caller wants kept with it.
    seconds
        How long the fit took; not saved, so that the same student is the same files.
    """

    classes: tuple[str, ...]
    coef: Matrix
    intercept: Matrix
    dims: int
    tfidf: Tfidf | HashedTfidf | None
    encoder: HasEncode | None
    encoder_id: Mapping[str, str | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    def predict_proba(
        self, texts: Sequence[str], embeddings: npt.ArrayLike | None = None
    ) -> Matrix:
        """Return class probabilities.

        Parameters
        ----------
        texts
            n texts.
        embeddings : array, shape (n, d), optional
            The texts' vectors, where they are known already.

        Returns
        -------
        array of float64, shape (n, k)
            Rows sum to one, columns in the order of `classes`.

        Raises
        ------
        ConfigError
            Embeddings of another shape, or none given and no encoder to make them.
        """
        texts = check_texts(texts)
        dense = unit_embeddings(texts, embeddings, self.encoder, self.dims)
        logits = row_features(texts, dense, self.tfidf).dot(self.coef) + self.intercept
        probabilities: Matrix = softmax(logits, axis=1)
        return probabilities

    def predict(
        self, texts: Sequence[str], embeddings: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.object_]:
        """Return the name of each text's likeliest class, shape (n,)."""
        best = self.predict_proba(texts, embeddings).argmax(axis=1)
        names: npt.NDArray[np.object_] = np.array(self.classes, dtype=object)[best]
        return names

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the student, as plain data."""
        seconds = {} if self.seconds is None else {"seconds": round(self.seconds, 3)}
        return {
            "kind": KIND,
            "encoder": self.encoder_id.get("name"),
            "embedding_dims": self.dims,
            "tfidf_terms": 0 if self.tfidf is None else self.tfidf.n_features,
            "features": int(self.coef.shape[1]),
            **self.facts,
            **seconds,
        }

    def save(self, folder: str | Path) -> None:
        """Write the student into a folder: JSON and npz, no pickle.

        An encoder that was fitted (TF-IDF + SVD) is saved inside; another is
        named. The same student gives the same bytes.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Gone first and written last: a folder without it holds no student, so a
        # kill in between never leaves one half of this and half of another.
        (folder / "config.json").unlink(missing_ok=True)
        saves_itself = getattr(self.encoder, "save", None) if is_fitted(self.encoder) else None
        if saves_itself is not None:
            saves_itself(folder / "encoder")
        idf = {} if self.tfidf is None else self.tfidf.arrays()
        with atomic_write(folder / "arrays.npz") as part:
            np.savez(part, allow_pickle=False, coef=self.coef, intercept=self.intercept, **idf)
        write_json(folder / "vocabulary.json", self.tfidf.config() if self.tfidf else [])
        write_json(folder / "config.json", self._config(encoder_saved=saves_itself is not None))

    def _config(self, *, encoder_saved: bool) -> dict[str, Any]:
        return {
            "kind": KIND,
            "format": _FORMAT,
            "llmlabel": version("llmlabel"),
            "classes": list(self.classes),
            "embedding_dims": self.dims,
            "encoder": {**self.encoder_id, "saved": encoder_saved} if self.dims else None,
            "facts": dict(self.facts),
            "meta": dict(self.meta),
        }

    @classmethod
    def load(cls, folder: str | Path, encoder: HasEncode | None = None) -> LinearStudent:
        """Read what `save` wrote.

        Parameters
        ----------
        folder
            The student's folder.
        encoder
            The encoder it was trained with; by default the saved one, or the one
            of the saved name.

        Raises
        ------
        DataError
            The folder holds no linear student of this format.
        ConfigError
            The encoder cannot be found, or is not the one of the training.
        """
        folder = Path(folder)
        config = read_config(folder)
        if (config.get("kind"), config.get("format")) != (KIND, _FORMAT):
            raise DataError(
                f"expected a {KIND!r} student of format {_FORMAT}, got {config.get('kind')!r} of "
                f"format {config.get('format')}",
                file=folder / "config.json",
            )
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            return cls(
                classes=tuple(config["classes"]),
                coef=arrays["coef"],
                intercept=arrays["intercept"],
                dims=config["embedding_dims"],
                tfidf=_load_terms(vocabulary, arrays),
                encoder=kept_encoder(folder, config["encoder"], encoder),
                encoder_id=without_saved(config["encoder"]),
                facts=config["facts"],
                meta=config["meta"],
            )


def fit_linear(
    texts: Sequence[str],
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    *,
    encoder: HasEncode | None = None,
    embeddings: npt.ArrayLike | None = None,
    tfidf: bool | Literal["hashed"] = True,
    weights: npt.ArrayLike | None = None,
    C: float | Literal["auto"] = "auto",
    keep: float | Literal["auto"] = 1.0,
    rounds: int = 0,
    gold: npt.ArrayLike | None = None,
    gold_weight: float | Literal["auto"] = "auto",
    calibrate: bool = True,
    seed: int = 0,
    meta: Mapping[str, Any] | None = None,
) -> LinearStudent:
    """Train a linear student on class probabilities.

    Minimises the cross-entropy to the targets plus an L2 penalty, over unit
    embeddings (where there is an encoder or embeddings are given) and TF-IDF of
    words and characters.

    Parameters
    ----------
    texts
        n texts.
    probabilities : array, shape (n, k)
        Targets, as a label model gives them; one-hot rows for gold labels.
    classes
        k class names.
    encoder
        Embeds the texts here, and those to come.
    embeddings : array, shape (n, d), optional
        The texts' vectors, where they are known already.
    tfidf
        Whether to use TF-IDF of words and characters; ``"hashed"`` takes words and pairs of
        them alone, at some hundred times the speed: for long documents.
    weights : array, shape (n,), optional
        How much each row counts; by default all the same. Rows of weight 0 have no
        label: they are learned from in `rounds` alone.
    keep
        The share of each class's rows to learn from, those whose neighbours by embedding
        agree most (`cut_statistic`). Needs embeddings; 1 keeps all, ``"auto"`` as many as
        are right if the probabilities are (`share_kept`).
    rounds
        How often the student then learns from its own sharpened answers on all rows
        (`self_train`).
    gold : array of int, shape (n,), optional
        The class of rows for which it is known, -1 elsewhere. They are learned from
        whatever `probabilities`, `weights` and `keep` say of them.
    gold_weight
        How much such a row counts. ``"auto"`` chooses among 1, 3, 10 and 30 by the
        log-loss of held-out gold rows.
    calibrate
        Divide the logits by a temperature that is fitted on held-out gold rows, where there
        are 30. Against a label model's own probabilities it would take their noise for the
        student's (docs/log.md).
    C
        Inverse strength of the penalty. ``"auto"`` chooses it, and how much the
        embeddings weigh against TF-IDF, by 3-fold log-loss against the targets
        themselves: no gold label is needed.
    seed
        Deals the rows to the folds.
    meta
        Plain data to be kept with the student: the task, where it came from.

    Raises
    ------
    DataError
        No rows; targets, weights or embeddings of the wrong shape or not finite.
    ConfigError
        Neither TF-IDF nor an encoder nor embeddings, or a C that is not positive.

    Examples
    --------
    >>> texts = ["free gift", "win a free phone", "see you at lunch", "lunch tomorrow?"] * 3
    >>> targets = [[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.8, 0.2]] * 3
    >>> student = fit_linear(texts, targets, ["HAM", "SPAM"])
    >>> student.predict(["a free lunch", "free phone"]).tolist()
    ['HAM', 'SPAM']
    """
    started = time.perf_counter()
    texts = check_texts(texts)
    targets, row_weights = check_targets(texts, probabilities, classes, weights)
    if not tfidf and encoder is None and embeddings is None:
        raise ConfigError("a linear student needs tfidf=True, an encoder or embeddings")
    if C != "auto" and not C > 0:
        raise ConfigError(f"C: expected a positive number or 'auto', got {C}")
    dense = unit_embeddings(texts, embeddings, encoder, None)
    terms = _fit_terms(texts, tfidf)
    known = known_classes(gold, targets.shape)
    everything = row_features(texts, dense, terms)
    data, keep = labeled_rows(everything, targets, row_weights, known, keep, rounds, seed)
    fitted, facts = _fit(data, C, gold_weight, calibrate)
    if keep < 1:
        facts["kept"] = round(keep, 4)
    return LinearStudent(
        classes=tuple(classes),
        coef=fitted.coef,
        intercept=fitted.intercept,
        dims=dense.shape[1],
        tfidf=terms,
        encoder=encoder,
        encoder_id=identify(encoder) if dense.shape[1] else {},
        facts={**facts, "classes_without_rows": _never(fitted.intercept, classes)},
        meta=dict(meta or {}),
        seconds=time.perf_counter() - started,
    )


def _fit_terms(texts: Sequence[str], tfidf: bool | Literal["hashed"]) -> Tfidf | HashedTfidf | None:
    if tfidf == HASHED:
        return fit_hashed_tfidf(texts)
    return fit_tfidf(texts) if tfidf else None


def _load_terms(
    config: Sequence[Mapping[str, Any]], arrays: Mapping[str, Matrix]
) -> Tfidf | HashedTfidf | None:
    if config and config[0]["analyzer"] == HASHED:
        return HashedTfidf.load(config[0], arrays)
    return load_tfidf(config, arrays) if config else None


def _fit(
    data: Labeled,
    C: float | Literal["auto"],
    gold_weight: float | Literal["auto"],
    calibrate: bool,
) -> tuple[Coefficients, dict[str, Any]]:
    # One thread: the matrices are small, and threads that wait for a busy
    # machine's cores by spinning made this ten times slower.
    with threadpool_limits(1):
        choice = Choice(float(C), 1.0, None, 0) if C != "auto" else _chosen(data)
        facts = _facts(choice, rows=data.used.size)
        if data.rounds:
            facts["rounds"] = data.rounds
        weight = 1.0 if gold_weight == "auto" else float(gold_weight)
        if data.gold.size:
            if gold_weight == "auto":
                weight, loss = choose_gold_weight(data, choice)
                facts["gold_log_loss"] = None if loss is None else round(loss, 6)
            facts |= {"gold_rows": int(data.gold.size), "gold_weight": weight}
        fitted = learn(data, choice, gold_weight=weight)
        if not calibrate or data.gold.size < LEAST_ROWS:
            return fitted, facts
        rows, logits = held_out_logits(
            data, data.gold, partial(learn, data, choice, gold_weight=weight)
        )
        T = fit_temperature(logits, data.targets[rows])
    facts["temperature"] = round(T, 6)
    return Coefficients(fitted.coef / T, fitted.intercept / T), facts


def _chosen(data: Labeled) -> Choice:
    rows = data.used
    return choose(data.features.take(rows), data.targets[rows], data.weights[rows], seed=data.seed)


def _facts(choice: Choice, *, rows: int) -> dict[str, Any]:
    chosen = choice.log_loss is not None
    return {
        "rows": rows,
        "C": choice.C,
        "embedding_weight": choice.embedding_weight,
        "criterion": f"{FOLDS}-fold log-loss against the soft labels" if chosen else None,
        "criterion_value": round(choice.log_loss, 6) if choice.log_loss is not None else None,
        "criterion_rows": choice.rows if chosen else 0,
    }


def _never(intercept: Matrix, classes: Sequence[str]) -> list[str]:
    """Return the classes that no row spoke for."""
    return [name for name, shift in zip(classes, intercept, strict=True) if np.isneginf(shift)]
