"""Class probabilities as rows of prompt and completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llmlabel.distill.features import Matrix
from llmlabel.distill.inputs import check_targets
from llmlabel.errors import ConfigError

__all__ = ["HOLE", "TEMPLATE", "Targets", "classifier_rows"]

TEMPLATE: Final = "{text}\n\nLabel:"
HOLE: Final = "{text}"
"""Where a template takes the text."""
Targets = Literal["hard", "soft", "sample"]


def classifier_rows(
    texts: Sequence[str],
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    labels: Sequence[str],
    template: str = TEMPLATE,
    targets: Targets = "hard",
    *,
    least: float = 0.05,
    weights: npt.ArrayLike | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the rows that `fit_causal_classifier` trains on.

    Raises
    ------
    DataError
        Targets or weights of the wrong shape or not finite.
    ConfigError
        Unknown `targets`, or a `least` outside of 0 to 1/k, where a text could have no row.

    Examples
    --------
    >>> rows = classifier_rows(["win!"], [[0.25, 0.75]], ["HAM", "SPAM"], [" ham", " spam"],
    ...                        targets="soft")
    >>> [(row["completion"], row["weight"]) for row in rows]
    [(' ham', 0.25), (' spam', 0.75)]
    """
    P, counts = check_targets(texts, probabilities, classes, weights)
    if targets not in ("hard", "soft", "sample"):
        raise ConfigError(f"targets: expected 'hard', 'soft' or 'sample', got {targets!r}")
    if not 0 <= least <= 1 / len(classes):
        raise ConfigError(f"least: expected a number in [0, 1/{len(classes)}], got {least}")
    if targets == "soft":
        chosen = np.where(least <= P, P, 0)
        chosen /= chosen.sum(axis=1, keepdims=True)
    else:
        best = P.argmax(axis=1) if targets == "hard" else _drawn(P, seed)
        chosen = np.eye(len(classes))[best]
    shares = chosen * counts[:, None]
    prompts = [template.replace(HOLE, text) for text in texts]
    return [
        {"prompt": prompts[i], "completion": labels[c], "weight": float(shares[i, c])}
        for i, c in zip(*(a.tolist() for a in np.nonzero(shares)), strict=True)
    ]


def _drawn(P: Matrix, seed: int) -> npt.NDArray[np.intp]:
    u = np.random.default_rng(seed).random((len(P), 1))
    edges = P.cumsum(axis=1)
    found: npt.NDArray[np.intp] = (u * edges[:, -1:] < edges).argmax(axis=1)
    return found
