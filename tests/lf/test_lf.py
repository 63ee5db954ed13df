from __future__ import annotations

import pytest

from llmlabel.errors import ConfigError, DataError, LabelingFunctionError, UnknownNameError
from llmlabel.lf import (
    LF,
    Feature,
    answer,
    apply,
    column,
    evidence,
    keyword,
    labeling_function,
    nearest,
    regex,
)
from llmlabel.schema import Task

TASK = Task("spam", ["HAM", "SPAM"])


def votes(lf: LF, **columns):
    return apply([lf], columns, TASK).votes[:, 0].tolist()


def test_keyword_respects_words_case_and_phrases():
    lf = keyword("k", ["ring", "money back"], "SPAM")
    texts = ["the RING.", "string", "money\n back", "moneyback", "ring", "a_ring", "bRing"]
    assert votes(lf, text=texts) == [1, -1, 1, -1, 1, -1, -1]
    assert votes(keyword("k", ["US"], "SPAM", case_sensitive=True), text=["us", "US"]) == [-1, 1]
    assert votes(keyword("k", ["über"], "SPAM"), text=["ÜBER alles", "darüber"]) == [1, -1]
    assert votes(keyword("k", ["c++", "?"], "SPAM"), text=["use c++ now", "c"]) == [1, -1]


def test_keyword_without_abstains():
    lf = keyword("k", ["refund"], "SPAM", without=["no refund"])
    assert votes(lf, text=["a refund", "no refund"]) == [1, -1]


@pytest.mark.parametrize("words", [[], [""], "refund"])
def test_keyword_needs_words(words):
    with pytest.raises(ConfigError, match="LF 'k': expected"):
        keyword("k", words, "SPAM")


def test_a_wrong_regex_says_where():
    with pytest.raises(
        ConfigError, match=r"LF 'r': '\(' is no regular expression: .* at position 0"
    ):
        regex("r", "(", "SPAM")


def test_nearest_margin_and_threshold():
    class Axis:
        def encode(self, texts):
            return [[t.count("a"), t.count("b")] for t in texts]

    def lf(**options):
        return nearest("n", {"HAM": ["a"], "SPAM": ["b"]}, Axis(), **options)

    assert votes(lf(threshold=0.5, margin=0.1), text=["a", "ab", "aab", "c"]) == [0, -1, 0, -1]
    assert votes(lf(threshold=0.95, margin=0), text=["aab"]) == [-1]
    with pytest.raises(ConfigError, match="threshold"):
        lf(threshold=2)
    with pytest.raises(ConfigError, match="prototypes for at least one class"):
        nearest("n", {}, Axis())


def test_column_values_outside_the_map_are_errors_unless_told():
    data = {"id": ["r1", "r2"], "old": ["spam", "spma"], "text": ["", ""]}
    with pytest.raises(
        LabelingFunctionError, match="unknown value 'spma' on row 'r2', did you mean 'spam'"
    ):
        apply([column("c", "old", {"spam": "SPAM"})], data, TASK)
    lenient = column("c", "old", {"spam": "SPAM"}, strict=False)
    assert apply([lenient], data, TASK).votes.tolist() == [[1], [-1]]


def test_column_confidence_travels_with_the_vote():
    lf = column("c", "old", ["HAM", "SPAM"], confidence="p")
    matrix = apply([lf], {"old": ["SPAM", None], "p": [0.75, 0.5]}, TASK)
    assert matrix.confidences is not None
    assert matrix.confidences[0, 0] == 0.75


def test_a_feature_is_computed_once_for_all_its_lfs():
    calls = []

    def compute(batch):
        calls.append(len(batch["text"]))
        return [{"x": "yes"} for _ in batch["text"]]

    said = Feature("answers.p", compute)
    lfs = [answer(f"a{i}", said, "x", {"yes": "SPAM"}) for i in range(3)]
    assert apply(lfs, {"text": ["a", "b", "c"]}, TASK, batch_size=2).votes.tolist() == [[1] * 3] * 3
    assert calls == [2, 1]


def test_a_feature_of_the_wrong_length_is_an_error():
    short = Feature("answers.p", lambda batch: [None])
    with pytest.raises(LabelingFunctionError, match="feature 'answers.p': expected 2 entries"):
        apply([answer("a", short, "x", ["HAM"])], {"text": ["a", "b"]}, TASK)


def test_apply_checks_before_it_works():
    lf = keyword("k", ["a"], "SPAM")
    with pytest.raises(ConfigError, match="two labeling functions have the name 'k'"):
        apply([lf, lf], {"text": ["a"]}, TASK)
    with pytest.raises(ConfigError, match="at least one labeling function"):
        apply([], {"text": ["a"]}, TASK)
    with pytest.raises(
        DataError, match="LF 'k' reads the column 'text', which is missing, did you mean 'texts'"
    ):
        apply([lf], {"texts": ["a"]}, TASK)
    with pytest.raises(UnknownNameError, match="LF 'k': unknown class 'SPAN', did you mean 'SPAM'"):
        apply([keyword("k", ["a"], "SPAN")], {"text": ["a"]}, TASK)


def test_functions_must_declare_the_names_they_return():
    @labeling_function
    def bare(row):
        return "SPAM"

    with pytest.raises(LabelingFunctionError, match="no labels were declared"):
        apply([bare], {"text": ["a"]}, TASK)

    @labeling_function(labels=["SPAM"])
    def typo(row):
        return "SPAMM"

    with pytest.raises(UnknownNameError, match="did you mean 'SPAM'"):
        apply([typo], {"text": ["a"]}, TASK)

    @labeling_function
    def nonsense(row):
        return 0.5

    with pytest.raises(
        LabelingFunctionError, match="returned 0.5; expected a class name, an int or None"
    ):
        apply([nonsense], {"text": ["a"]}, TASK)


def test_evidence_says_who_voted_and_why():
    lfs = [
        keyword("k", ["free"], "SPAM"),
        keyword("silent", ["zzz"], "HAM"),
        column("c", "old", ["HAM"]),
    ]
    found = evidence(lfs, {"text": "FREE stuff", "old": "HAM"}, TASK)
    assert found == [
        {
            "lf": "k",
            "kind": "keyword",
            "vote": "SPAM",
            "confidence": None,
            "why": 'contains "FREE"',
        },
        {"lf": "c", "kind": "column", "vote": "HAM", "confidence": None, "why": "old is 'HAM'"},
    ]


def test_progress_is_told():
    seen = []
    apply(
        [keyword("k", ["a"], "SPAM")],
        {"text": ["a"] * 5},
        TASK,
        batch_size=2,
        on_progress=lambda *p: seen.append(p),
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]
