"""The benchmark of filters: how agreement is counted."""

from __future__ import annotations

import pytest

from benchmarks.corpus_filters import REASONS, _ours, filters, same
from benchmarks.peers.environments import Unavailable
from llmlabel.corpus.families import rule_names

TEXTS = [
    "Too short.",
    "{ code } is in this line, and after some more of other words it ends in a mark.",
    "",
]


def test_reasons_are_rules():
    named = set(REASONS.values()) | {"gopher_repetition.min_characters", "fineweb.min_lines"}
    assert named == set(rule_names())


def test_agreement_is_counted_by_family():
    _, verdicts = _ours(TEXTS)
    reasons = {
        "gopher_quality": ["gopher_short_doc"] * 3,
        "gopher_repetition": ["top_2_gram", "", "empty"],
        "c4": ["too_few_sentences", "too_few_sentences", ""],
        "fineweb": ["list_ratio", "", "empty"],
    }
    found = same(TEXTS, verdicts, reasons, [None] * 3)
    assert found["same_decisions"] == pytest.approx(
        {"gopher_quality": 1, "gopher_repetition": 1, "c4": 2 / 3, "fineweb": 1}
    )
    assert found["same_reasons"]["c4"] == pytest.approx(1 / 3)
    assert found["same_reasons"]["fineweb"] == pytest.approx(2 / 3)
    assert found["same_cleaned"] == 1.0


def test_a_missing_peer_is_said(monkeypatch):
    def missing(project):
        raise Unavailable(f"{project}: no network")

    monkeypatch.setattr("benchmarks.corpus_filters.python_of", missing)
    with pytest.raises(Unavailable, match="datatrove: no network"):
        filters(TEXTS, runs=1)
