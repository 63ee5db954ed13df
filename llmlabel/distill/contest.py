"""A fine-tuned student has to beat the cheap one on rows that neither saw, or that one is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from llmlabel.distill.encoder import EncoderStudent, fit_encoder
from llmlabel.distill.encoder_options import EncoderOptions
from llmlabel.distill.features import Matrix
from llmlabel.distill.heldout import fit_temperature
from llmlabel.distill.inputs import with_gold
from llmlabel.distill.linear import LinearStudent, fit_linear
from llmlabel.distill.training import Progress
from llmlabel.embed import HasEncode
from llmlabel.schema import ABSTAIN

__all__ = ["Labels", "fit_better", "held_rows"]

_LEAST = 15  # held-out rows by which anything can be told


@dataclass(frozen=True, eq=False)
class Labels:
    """What students learn from.

    Parameters
    ----------
    texts
        n texts.
    targets : array, shape (n, k)
        Probabilities.
    weights : array, shape (n,)
        0 for rows without a label.
    gold : array of int, shape (n,)
        Known classes, -1 elsewhere.
    embeddings : array, shape (n, d), or None
    """

    texts: Sequence[str]
    targets: Matrix
    weights: Matrix
    gold: npt.NDArray[np.intp]
    embeddings: npt.NDArray[Any] | None


def fit_better(
    labels: Labels,
    classes: Sequence[str],
    options: EncoderOptions,
    *,
    linear: Mapping[str, Any],
    encoder: HasEncode | None,
    checkpoints: Path | None = None,
    on_progress: Progress | None = None,
    notes: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> LinearStudent | EncoderStudent:
    """Fine-tune an encoder, and return it, or the linear student where that one does better.

    Of the rows held out, the encoder stops by one half; on the other, which neither has
    seen, both are compared by their log-loss against the labels, each at the temperature
    that suits it best. The encoder has to win by a standard error of the difference: it is
    the dearer one. A fine-tuned student that has learned the labels' noise, or nothing, is thus found
    without gold labels. Where the linear one wins, it is fitted anew on all rows.

    Parameters
    ----------
    labels
        What they learn from.
    classes
        k class names.
    options
        Of the encoder; `hold_out` is the share of labeled rows that decide. With 0 the
        encoder is taken unseen.
    linear
        Arguments of `fit_linear`: tfidf, keep, rounds, seed.
    encoder
        Of the embeddings, kept with the linear student.
    checkpoints, on_progress, notes, meta
        As in `fit_encoder`.
    """
    # A known row is judged by what is known of it, not by what the label model guessed.
    targets, weights = with_gold(labels.targets, labels.weights, labels.gold)
    labels = replace(labels, targets=targets, weights=weights)
    held = held_rows(labels, options)
    # The encoder stops by one half of them; by the other, which it never sees, it is judged.
    judged = held & (np.cumsum(held) % 2 == 0)
    common: dict[str, Any] = {"embeddings": labels.embeddings, "meta": meta}

    def cheap(without: npt.NDArray[np.bool_]) -> LinearStudent:
        return fit_linear(
            labels.texts,
            labels.targets,
            classes,
            weights=np.where(without, 0.0, labels.weights),
            gold=np.where(without, ABSTAIN, labels.gold),
            encoder=encoder,
            **common,
            **linear,
        )

    baseline = cheap(held)
    partner = baseline.predict_proba(labels.texts, labels.embeddings)
    tuned = fit_encoder(
        labels.texts,
        labels.targets,
        classes,
        options=options,
        weights=np.where(judged, 0.0, labels.weights),
        gold=np.where(held, ABSTAIN, labels.gold),
        keep=linear.get("keep", 1.0),
        partner=partner,
        held=held & ~judged,
        checkpoints=checkpoints,
        on_progress=on_progress,
        notes=notes,
        **common,
    )
    contest = _contest(tuned, partner, labels, np.flatnonzero(judged))
    if contest is None or contest["taken"] == "encoder":
        return replace(tuned, facts={**tuned.facts, "contest": contest})
    chosen = cheap(np.zeros(len(held), np.bool_))
    return replace(chosen, facts={**chosen.facts, "contest": contest})


def _contest(
    tuned: EncoderStudent, partner: Matrix, labels: Labels, rows: npt.NDArray[np.intp]
) -> dict[str, Any] | None:
    """Compare the two on rows that neither saw; None where they are too few to tell."""
    if rows.size < _LEAST:
        return None
    said = tuned.predict_proba([labels.texts[i] for i in rows.tolist()])
    losses = [_losses(p, labels.targets[rows]) for p in (said, partner[rows])]
    gain = losses[1] - losses[0]
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return {
        "rows": int(rows.size),
        "criterion": "log-loss against the labels of held-out rows, at the best temperature",
        "encoder": round(float(losses[0].mean()), 6),
        "linear": round(float(losses[1].mean()), 6),
        "standard_error": round(error, 6),
        "taken": "encoder" if gain.mean() > error else "linear",
    }


def held_rows(labels: Labels, options: EncoderOptions) -> npt.NDArray[np.bool_]:
    """Return which labeled rows decide: a share of each class, drawn with the seed."""
    held = np.zeros(len(labels.texts), np.bool_)
    labeled = np.flatnonzero(labels.weights > 0)
    if len(labeled) * options.hold_out < 2 * _LEAST:
        return held
    rng = np.random.default_rng(options.seed)
    classes = labels.targets[labeled].argmax(axis=1)
    order = labeled[np.lexsort((rng.random(len(labeled)), classes))]
    # Evenly along the rows in the order of their classes, so that each gives its share.
    reached = np.floor(np.arange(len(order) + 1) * options.hold_out)
    held[order[np.diff(reached) > 0]] = True
    return held


def _losses(probabilities: Matrix, targets: Matrix) -> Matrix:
    """Return the log-loss of each row, at the temperature that suits them best."""
    logits = np.log(np.maximum(probabilities, 1e-12))
    logs = log_softmax(logits / fit_temperature(logits, targets, least=1), axis=1)
    losses: Matrix = -(targets * logs).sum(axis=1)
    return losses
