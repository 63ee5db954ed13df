"""Confidence of an answer's field, from tokens, a stated number and votes."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.llm import Response
from llmlabel.llm.confidence import (
    class_probabilities,
    logprob_probabilities,
    verbalized_probabilities,
    vote_probabilities,
)

SCHEMA = {
    "properties": {
        "label": {"type": "string", "enum": ["HAM", "SPAM", "UNSURE"]},
        "confidence": {"type": "number"},
    }
}


def token(text, p, **others):
    top = [{"token": text, "logprob": math.log(p)}]
    top += [{"token": t, "logprob": math.log(q)} for t, q in others.items()]
    return {"token": text, "logprob": math.log(p), "top_logprobs": top}


def answer(*tokens):
    return Response("".join(t["token"] for t in tokens), "m", logprobs=tokens)


def test_the_value_is_found_inside_json_and_its_first_token_decides():
    said = answer(
        token('{"', 1), token("label", 1), token('":', 1), token(' "', 1),
        token("SP", 0.6, H=0.3, UN=0.1), token("AM", 1), token('"}', 1),
    )  # fmt: skip
    np.testing.assert_allclose(
        logprob_probabilities(said, "label", ["HAM", "SPAM", "UNSURE"]), [0.3, 0.6, 0.1]
    )
    np.testing.assert_allclose(
        logprob_probabilities(said, "label", ["HAM", "SPAM"]), [1 / 3, 2 / 3]
    )


def test_a_token_that_holds_the_quote_and_spaces_counts():
    said = answer(
        token('{"label":', 1),
        token(' "SPAM', 0.5, **{' "HAM': 0.25, '"HAM': 0.125}),
        token('"}', 1),
    )
    np.testing.assert_allclose(
        logprob_probabilities(said, "label", ["HAM", "SPAM"]), [0.375 / 0.875, 0.5 / 0.875]
    )


def test_shared_beginnings_are_told_apart_later():
    names = ["refund", "refund_late", "return"]
    said = answer(
        token('{"label": "', 1), token("ref", 0.8, ret=0.2), token("und", 1),
        token("_late", 0.75, **{'"}': 0.25}), token('"}', 1),
    )  # fmt: skip
    np.testing.assert_allclose(logprob_probabilities(said, "label", names), [0.2, 0.6, 0.2])


def test_an_unwritten_token_that_begins_several_classes_is_shared():
    said = answer(token('{"label": "', 1), token("B", 0.4, A=0.6), token('"}', 1))
    np.testing.assert_allclose(
        logprob_probabilities(said, "label", ["AX", "AY", "B"]), [0.3, 0.3, 0.4]
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.9, 0.1]),  # only the token itself: the rest is all the other may have
        ({"X": 0.04}, [0.9, 0.04]),  # no more than the least that is listed
        ({"X": 0.08, "Y": 0.01}, [0.9, 0.01]),
    ],
)
def test_a_class_that_is_not_listed_gets_its_bound(options, expected):
    said = answer(token("A", 0.9, **options))
    found = logprob_probabilities(said, None, ["A", "B"])
    np.testing.assert_allclose(found, np.array(expected) / sum(expected))


def test_uncovered_classes_share_the_rest():
    found = logprob_probabilities(answer(token("A", 0.9)), None, ["A", "B", "C"])
    np.testing.assert_allclose(found, [0.9, 0.05, 0.05])


def test_plain_text_behind_thoughts_and_in_another_case():
    said = answer(
        token("SPAM? no</think>", 1), token("\n", 1), token("ham", 0.7, spam=0.3), token(".", 1)
    )
    np.testing.assert_allclose(logprob_probabilities(said, None, ["HAM", "SPAM"]), [0.7, 0.3])


def test_a_plain_value_that_begins_another_ends_with_the_text():
    said = answer(token("A", 1.0))
    np.testing.assert_allclose(logprob_probabilities(said, None, ["A", "AB"]), [1, 0])


def test_case_is_kept_where_it_tells_classes_apart():
    said = answer(token("a", 0.7, A=0.3))
    np.testing.assert_allclose(logprob_probabilities(said, None, ["A", "a"]), [0.3, 0.7])


def test_escaped_letters_are_read():
    said = answer(token('{"label": "', 1), token("\\u00e9t\\u00e9", 0.8, hiver=0.2), token('"}', 1))
    np.testing.assert_allclose(logprob_probabilities(said, "label", ["hiver", "été"]), [0.2, 0.8])


def test_an_answer_that_is_no_class_leaves_what_the_alternatives_say():
    said = answer(token('{"label": "', 1), token("UNSURE", 0.5, HAM=0.4, SPAM=0.1), token('"}', 1))
    np.testing.assert_allclose(logprob_probabilities(said, "label", ["HAM", "SPAM"]), [0.8, 0.2])


def test_nothing_known_is_uniform():
    said = answer(token('{"label": "', 1), token("UNSURE", 1.0), token('"}', 1))
    np.testing.assert_allclose(logprob_probabilities(said, "label", ["HAM", "SPAM"]), [0.5, 0.5])


def test_no_logprobs_and_no_field_are_errors():
    with pytest.raises(DataError, match="no logprobs"):
        logprob_probabilities(Response("HAM", "m"), None, ["HAM", "SPAM"])
    with pytest.raises(DataError, match="no such field"):
        logprob_probabilities(answer(token("{}", 1)), "label", ["HAM", "SPAM"])
    with pytest.raises(ConfigError, match="at least two different names"):
        logprob_probabilities(answer(token("HAM", 1)), None, ["HAM"])


NAMES = st.lists(
    st.text('abAB_ é"\\', min_size=1, max_size=5), min_size=2, max_size=5, unique_by=str.casefold
)


@given(NAMES, st.data())
def test_any_cut_of_any_value_gives_the_true_distribution(names, data):
    """A model over whole values, cut into single characters with all alternatives listed."""
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(names), max_size=len(names)))
    p = dict(zip(names, np.array(weights) / sum(weights), strict=True))
    ends = {name: json.dumps(name, ensure_ascii=False)[1:] for name in names}
    written = data.draw(st.sampled_from(names))
    tokens, done = [token('{"label": "', 1)], ""
    while done != ends[written]:
        mass: dict[str, float] = {}
        for name, end in ends.items():
            if end.startswith(done):
                mass[end[len(done)]] = mass.get(end[len(done)], 0) + p[name]
        nxt = ends[written][len(done)]
        total = sum(mass.values())
        others = {c: m / total for c, m in mass.items() if c != nxt}
        tokens.append(token(nxt, mass[nxt] / total, **others))
        done += nxt
    found = logprob_probabilities(answer(*tokens, token("}", 1)), "label", names)
    # Off the written path only the sum over a shared beginning is known; on it, all.
    assert found.sum() == pytest.approx(1)
    assert found[names.index(written)] == pytest.approx(p[written])


@given(NAMES, st.permutations(range(5)))
def test_the_order_of_classes_changes_nothing(names, order):
    order = [i for i in order if i < len(names)]
    end = json.dumps(names[0], ensure_ascii=False)[1:]
    said = answer(token('{"label": "', 1), token(end, 0.6, **{names[1]: 0.3}), token("}", 1))
    straight = logprob_probabilities(said, "label", names)
    np.testing.assert_allclose(
        logprob_probabilities(said, "label", [names[i] for i in order]), straight[order]
    )


def test_stated_confidence():
    found = verbalized_probabilities([0, 1, -1, 0], [1.0, 0.1, np.nan, 0.6], 2)
    np.testing.assert_allclose(found, [[0.995, 0.005], [0.5, 0.5], [0.5, 0.5], [0.6, 0.4]])
    with pytest.raises(DataError, match=r"row 1.*got 1\.2"):
        verbalized_probabilities([0, 1], [1, 1.2], 2)
    with pytest.raises(DataError, match="expected -1 to 1, got 0 to 2"):
        verbalized_probabilities([0, 2], [1, 1], 2)


@given(st.lists(st.integers(-1, 3), min_size=0, max_size=8), st.floats(0.01, 10))
def test_votes_are_smoothed_shares(votes, pseudo):
    found = vote_probabilities(np.array([votes], dtype=int), 4, pseudo_votes=pseudo)[0]
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()
    counts = np.bincount([v for v in votes if v >= 0], minlength=4)
    for a, b in itertools.permutations(range(4), 2):
        if counts[a] > counts[b]:
            assert found[a] > found[b]


def test_the_best_source_that_is_there_is_used():
    names = ["HAM", "SPAM"]
    stated = Response('{"label": "SPAM", "confidence": 0.9}', "m")
    assert class_probabilities(
        stated, "label", names, schema=SCHEMA, confidence="confidence"
    ) == pytest.approx([0.1, 0.9])
    assert class_probabilities(stated, "label", names, schema=SCHEMA) == pytest.approx([0.25, 0.75])
    broken = Response("cannot say", "m")
    assert class_probabilities(
        [stated, stated, broken], "label", names, schema=SCHEMA
    ) == pytest.approx([0.5 / 3, 2.5 / 3])
    sure = answer(token("SPAM", 0.8, HAM=0.2))
    unsure = answer(token("SPAM", 0.4, HAM=0.6))
    assert class_probabilities([sure, unsure], None, names) == pytest.approx([0.4, 0.6])
    assert class_probabilities(sure, None, names, method="votes") == pytest.approx([0.25, 0.75])


def test_what_a_method_lacks_is_said():
    said = Response('{"label": "SPAM"}', "m")
    with pytest.raises(UnknownNameError, match="did you mean 'votes'"):
        class_probabilities(said, "label", ["HAM", "SPAM"], method="vote")
    with pytest.raises(ConfigError, match="need the schema"):
        class_probabilities(said, "label", ["HAM", "SPAM"])
    with pytest.raises(ConfigError, match="name the field"):
        class_probabilities(said, "label", ["HAM", "SPAM"], schema=SCHEMA, method="verbalized")
    with pytest.raises(UnknownNameError, match="'lable', did you mean 'label'"):
        class_probabilities(said, "lable", ["HAM", "SPAM"], schema=SCHEMA)
    with pytest.raises(DataError, match="no logprobs"):
        class_probabilities(said, "label", ["HAM", "SPAM"], method="logprobs")
