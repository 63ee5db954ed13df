"""Labeling functions that ask a trained model: scikit-learn, transformers, zero-shot NLI."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from llmlabel.errors import ConfigError, MissingExtraError, UnknownNameError
from llmlabel.lf.core import LF, Batch, Column, Confidences, Feature, Votes
from llmlabel.schema import ABSTAIN

__all__ = ["classifier", "transformers_classifier", "zero_shot_classifier"]

Floats = npt.NDArray[np.float64]
Predict = Callable[[Sequence[str]], npt.ArrayLike]

_BATCH: Final = 32
_ENTAILMENT: Final = "entailment"


def classifier(
    name: str,
    predict: Predict | Any,
    labels: Sequence[str | None],
    *,
    threshold: float = 0.5,
    column: str = "text",
    why: str = "",
) -> LF:
    """Vote as a trained classifier says, where it is sure enough.

    Parameters
    ----------
    name
        The LF's name.
    predict
        From texts to class probabilities, shape (n, c); or a fitted scikit-learn
        classifier or pipeline that takes texts.
    labels
        The class that each of its c columns means; None abstains.
    threshold
        The least probability to vote with.
    column
        The text column.
    why
        What the model is called in explanations; by default the LF's name.

    Raises
    ------
    ConfigError
        A threshold outside [0, 1], no class at all.

    Examples
    --------
    >>> lf = classifier("long", lambda texts: [[1 - len(t) / 9, len(t) / 9] for t in texts],
    ...                 ["SHORT", "LONG"], threshold=0.6)
    >>> votes, sure = lf({"text": ["a", "12345", "12345678"]})
    >>> votes.tolist(), [f"{s:.2f}" for s in sure]
    ([0, -1, 1], ['0.89', 'nan', '0.89'])
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"LF {name!r}: expected a threshold in [0, 1], got {threshold}")
    known = tuple(dict.fromkeys(label for label in labels if label is not None))
    if not known:
        raise ConfigError(f"LF {name!r}: expected a class for at least one column of the model")
    target = np.array([ABSTAIN if c is None else known.index(c) for c in labels], np.int16)
    function: Predict = predict.predict_proba if hasattr(predict, "predict_proba") else predict
    said = Feature(f"predicted.{name}", lambda batch: _probabilities(function, batch[column]))

    def vote(batch: Batch) -> tuple[Votes, Confidences]:
        found = np.asarray(batch[said.name], np.float64).reshape(-1, len(target))
        best = found.argmax(axis=1)
        top = found[np.arange(len(found)), best]
        votes = np.where(top >= threshold, target[best], ABSTAIN).astype(np.int16)
        return votes, np.where(votes == ABSTAIN, np.nan, np.minimum(top, 1)).astype(np.float32)

    def reason(row: Mapping[str, Any]) -> str:
        found = np.asarray(row[said.name], np.float64)
        return f"{why or name}: {found.max():.2f} for {labels[int(found.argmax())]}"

    return LF(
        name,
        vote,
        labels=known,
        kind="classifier",
        columns=(column,),
        features=(said,),
        why=reason,
    )


def _probabilities(function: Predict, column: Column) -> Floats:
    texts = ["" if t is None else str(t) for t in column]
    return np.asarray(function(texts) if texts else np.empty((0, 0)), np.float64)


def transformers_classifier(
    name: str,
    model: str,
    votes: Mapping[str, str | None],
    *,
    threshold: float = 0.5,
    column: str = "text",
) -> LF:
    """Vote as a sequence classifier of transformers says.

    Parameters
    ----------
    model
        A folder, or a name on the hub.
    votes
        From the model's own label names to classes; None abstains.

    Raises
    ------
    MissingExtraError
        transformers is not installed.
    UnknownNameError
        A label that the model does not have, when it first votes.
    """
    _require_transformers(name)

    def predict(texts: Sequence[str]) -> npt.ArrayLike:
        loaded = _load(model)
        _, network = loaded
        own = [str(network.config.id2label[i]) for i in range(network.config.num_labels)]
        for label in votes:
            if label not in own:
                raise UnknownNameError("label", label, own, where=f"LF {name!r}: the model")
        found = softmax(_logits(loaded, texts), axis=1)
        return found[:, [own.index(label) for label in votes]]

    labels = list(votes.values())
    return classifier(name, predict, labels, threshold=threshold, column=column, why=model)


def zero_shot_classifier(
    name: str,
    model: str,
    hypotheses: Mapping[str, str],
    *,
    threshold: float = 0.5,
    column: str = "text",
) -> LF:
    """Vote for the class whose hypothesis a text entails most, by an NLI model.

    Parameters
    ----------
    model
        A natural language inference model: a folder, or a name on the hub.
    hypotheses
        For each class a sentence that is true of its texts: "This is about a refund."

    Notes
    -----
    W. Yin, J. Hay and D. Roth (2019), Benchmarking Zero-shot Text Classification. The
    entailment scores of the hypotheses are made to sum to one.
    """
    _require_transformers(name)

    def predict(texts: Sequence[str]) -> npt.ArrayLike:
        loaded = _load(model)
        config = loaded[1].config
        names = [str(config.id2label[i]).lower() for i in range(config.num_labels)]
        entails = next((i for i, n in enumerate(names) if n.startswith(_ENTAILMENT)), None)
        if entails is None:
            raise ConfigError(
                f"LF {name!r}: {model} is no NLI model: no label {_ENTAILMENT!r} among "
                f"{', '.join(names)}"
            )
        pairs = [(t, h) for t in texts for h in hypotheses.values()]
        logits = _logits(loaded, [t for t, _ in pairs], [h for _, h in pairs])
        return softmax(logits[:, entails].reshape(len(texts), len(hypotheses)), axis=1)

    labels = list(hypotheses)
    return classifier(name, predict, labels, threshold=threshold, column=column, why=model)


def _require_transformers(name: str) -> None:
    import importlib.util

    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError("transformers", "local", need=f"LF {name!r}")


@functools.lru_cache(maxsize=4)
def _load(model: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModelForSequenceClassification.from_pretrained(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"transformers cannot load {model}: {reason}") from error
    return tokenizer, network.eval()


def _logits(
    loaded: tuple[Any, Any], texts: Sequence[str], pairs: Sequence[str] | None = None
) -> Floats:
    """Return the model's logits, texts of like length together."""
    import torch

    tokenizer, network = loaded
    out = np.empty((len(texts), network.config.num_labels))
    order = np.argsort([len(t) for t in texts], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            given = [[texts[i] for i in rows]]
            if pairs is not None:
                given.append([pairs[i] for i in rows])
            inputs = tokenizer(*given, padding=True, truncation=True, return_tensors="pt")
            out[rows] = network(**inputs).logits.float().numpy()
    return out
