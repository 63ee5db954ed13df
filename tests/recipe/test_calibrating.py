from __future__ import annotations

import numpy as np
import pytest

from llmlabel.evaluate import ece
from llmlabel.llm import InvalidAnswer
from llmlabel.recipe.calibrating import calibrated
from llmlabel.recipe.config import ConfidenceConfig


def test_an_overconfident_model_is_brought_down():
    """It states .95 and is right on 70 % of the rows."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 2000)
    said = np.where(rng.random(2000) < 0.7, gold, (gold + 1) % 3)
    values = ["A", "B", "C"]
    answers = [{"label": values[v], "label.confidence": 0.95} for v in said]
    ids = [f"r{i}" for i in range(2000)]
    known = {ids[i]: int(gold[i]) for i in range(100)}
    config = ConfidenceConfig(of="label", by="stated")
    after, fitted = calibrated(answers, ids, config, values, known, 0)
    sure = np.array([a["label.confidence"] for a in after])
    assert fitted.method == "temperature"
    assert fitted.n_rows == 100
    assert sure.mean() == pytest.approx(0.7, abs=0.06)
    P = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
    P[np.arange(2000), said] = sure
    assert ece(gold, P) < 0.06


def test_what_has_no_confidence_stays_as_it_is():
    answers = [InvalidAnswer("no JSON", "?"), {"label": "UNSURE", "label.confidence": 0.9}]
    config = ConfidenceConfig(of="label", by="stated")
    after, _ = calibrated(answers, ["a", "b"], config, ["A", "B"], {}, 0)
    assert after == answers
