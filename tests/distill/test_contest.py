"""The contest of students: what is held out, and by what it is judged."""

from __future__ import annotations

import numpy as np
import pytest

from llmlabel.distill.contest import Labels, held_rows
from llmlabel.distill.encoder_options import EncoderOptions


def labels_of(n: int, weights: np.ndarray | None = None) -> Labels:
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.choice(3, n, p=[0.8, 0.15, 0.05])]
    return Labels(
        ["x"] * n, targets, np.ones(n) if weights is None else weights, np.full(n, -1), None
    )


@pytest.mark.parametrize("share", [0.15, 0.4, 0.6, 0.85])
def test_the_share_is_held_of_every_class(share):
    labels = labels_of(2000)
    held = held_rows(labels, EncoderOptions(hold_out=share))
    assert held.mean() == pytest.approx(share, abs=0.01)
    for c in range(3):
        assert held[labels.targets[:, c] == 1].mean() == pytest.approx(share, abs=0.05)


def test_rows_without_a_label_decide_nothing():
    weights = np.repeat([0.0, 1.0], 300)
    held = held_rows(labels_of(600, weights), EncoderOptions(hold_out=0.2))
    assert not held[:300].any()
    assert held[300:].any()


def test_too_few_rows_hold_none():
    assert not held_rows(labels_of(100), EncoderOptions(hold_out=0.15)).any()
    assert not held_rows(labels_of(1000), EncoderOptions(hold_out=0.0)).any()
