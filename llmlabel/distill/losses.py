"""What an encoder student minimises: soft cross-entropy, and losses that forgive wrong labels."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import numpy as np

from llmlabel.errors import ConfigError

__all__ = ["IGNORED", "Loss", "check_loss", "loss_function", "packed_labels"]

Loss = Literal["soft", "smooth", "gce", "binary"]

IGNORED: Final = -100.0
"""Target and weight of what has no label: the Trainer counts by it, too."""

_SMOOTHING: Final = 0.1
_Q: Final = 0.7  # of the generalised cross-entropy: 0 is cross-entropy, 1 the mean error


def check_loss(loss: str) -> None:
    """Raise where there is no such loss."""
    if loss not in get_args(Loss):
        raise ConfigError(f"loss: expected {' or '.join(get_args(Loss))}, got {loss!r}")


def packed_labels(targets: Any, weights: Any) -> Any:
    """Return targets, shape (n, ...), and weights, (n, ...), as the one array the Trainer carries.

    The Trainer hands a loss function one tensor of labels; the weight is its last column.
    """
    return np.concatenate([targets, weights[..., None]], axis=-1).astype(np.float32)


def loss_function(loss: Loss) -> Any:
    r"""Return a function for the Trainer's ``compute_loss_func``.

    With targets p, the student's q and row weights w:

    ``"soft"``
        :math:`-\sum_c p_c \log q_c`.
    ``"smooth"``
        The same, a tenth of p dealt out evenly.
    ``"gce"``
        :math:`\sum_c p_c (1 - q_c^{0.7}) / 0.7`: rows that look mislabeled pull less.
        Z. Zhang and M. Sabuncu (2018), Generalized Cross Entropy Loss, equation 6.
    ``"binary"``
        :math:`-\sum_c p_c \log \sigma_c + (1 - p_c) \log (1 - \sigma_c)`, for tasks where
        a row may have several classes or none.

    Rows are averaged over the whole accumulated batch, so that the size of its parts does
    not matter.
    """
    check_loss(loss)
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    def per_row(logits: Any, targets: Any) -> Any:
        if loss == "binary":
            each = binary_cross_entropy_with_logits(logits, targets, reduction="none")
            return each.sum(dim=-1)
        logs = torch.log_softmax(logits, dim=-1)
        if loss == "gce":
            return (targets * (1 - torch.exp(_Q * logs)) / _Q).sum(dim=-1)
        if loss == "smooth":
            targets = (1 - _SMOOTHING) * targets + _SMOOTHING / targets.shape[-1]
        return -(targets * logs).sum(dim=-1)

    def compute(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        targets, weights = labels[..., :-1], labels[..., -1]
        counted = weights != IGNORED
        losses = per_row(outputs["logits"].float()[counted], targets[counted]) * weights[counted]
        rows = counted.sum() if num_items_in_batch is None else _rows(num_items_in_batch, labels)
        return losses.sum() / rows

    return compute


def _rows(items: Any, labels: Any) -> Any:
    """Return the rows (or tokens) of the accumulated batch: the Trainer counts numbers."""
    return items / labels.shape[-1]
