import numpy as np
import pytest

from llmlabel.corpus.families import FAMILIES, rule_names
from llmlabel.corpus.filters_lf import MEASURES, family, measures, rule, rules
from llmlabel.corpus.gopher import GopherQuality, gopher_quality
from llmlabel.corpus.rules import judge
from llmlabel.errors import UnknownNameError
from llmlabel.lf.apply import apply, evidence
from llmlabel.schema import Task

TASK = Task("filter", ["DROP", "KEEP"])
GOOD = " ".join(
    f"The {w} of the town met on Monday, and they decided to have the bridge closed."
    for w in ("mayor", "council", "people", "owners", "engineers")
)
TEXTS = [
    GOOD,
    "Much too short",
    "Home\nNews\nAbout us\nHome",
    "",
    "{ code } " * 40,
    GOOD + "\n" + GOOD,
]


def test_each_rule_votes_as_its_verdict_says() -> None:
    lfs = [lf for name in FAMILIES for lf in rules(name, keep="KEEP")]
    votes = apply(lfs, {"text": TEXTS}, TASK)
    assert len(lfs) == len(rule_names()) + len(FAMILIES)
    for name, one in FAMILIES.items():
        verdict = judge(one, TEXTS, one.thresholds())
        kept = votes.votes[:, list(votes.lf_names).index(name)]
        assert (kept == 1).tolist() == verdict.keep.tolist()
        mine = [j for j, lf in enumerate(votes.lf_names) if lf.startswith(f"{name}.")]
        for i, reason in enumerate(verdict.reason):
            first = next((votes.lf_names[j] for j in mine if votes.votes[i, j] == 0), "")
            assert first == reason


def test_measures_are_made_once_and_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "llmlabel.corpus.filters_lf.measures", lambda texts: made.append(1) or measures(texts)
    )
    apply([lf for name in FAMILIES for lf in rules(name)], {"text": TEXTS}, TASK)
    assert len(made) == 1


def test_measures_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = measures([*TEXTS, None])
    monkeypatch.setattr("llmlabel.corpus.segment.batches.__defaults__", (10,))
    assert np.array_equal(measures([*TEXTS, ""]), wanted)
    assert len(measures([])) == 0


def test_thresholds() -> None:
    lf = rule("gopher_quality.min_words", threshold=2)
    assert lf({"text": TEXTS})[0].tolist() == [-1, -1, -1, 0, -1, -1]
    few = {"min_words": 2, "min_stop_words": None}
    keep = family("gopher_quality", keep="KEEP", thresholds=few)({"text": TEXTS})[0] == 0
    wanted = gopher_quality(TEXTS, GopherQuality(**few)).keep
    assert keep.tolist() == wanted.tolist() and wanted[1]


def test_evidence_in_words() -> None:
    lfs = [rule("gopher_quality.min_words"), rule("fineweb.max_short_lines", drop="KEEP")]
    lfs.append(family("c4", keep="KEEP"))
    found = evidence(lfs, {"text": "Home\nNews here!\nMenu"}, TASK)
    assert [(e["lf"], e["vote"], e["why"]) for e in found] == [
        ("gopher_quality.min_words", "DROP", "4 words, below 50"),
        ("fineweb.max_short_lines", "KEEP", "short lines 1, above 0.67"),
    ]
    assert (
        evidence([family("fineweb", keep="KEEP")], {"text": GOOD}, TASK)[0]["why"]
        == "passes all 5 rules"
    )


def test_another_column() -> None:
    lf = rule("c4.max_curly_brackets", column="body")
    assert lf.features[0].name == f"{MEASURES}.body"
    assert lf({"body": ["This line has a { in it."]})[0].tolist() == [0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rule("gopher_quality.min_word"), "did you mean 'gopher_quality.min_words'"),
        (lambda: rules("gopher_qualty"), "did you mean 'gopher_quality'"),
        (lambda: rules("c4", thresholds={"min_sentence": 3}), "did you mean 'min_sentences'"),
    ],
)
def test_unknown_names(make, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        make()
