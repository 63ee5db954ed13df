import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.llm import InvalidAnswer, parse_answer
from llmlabel.llm.answers import check_answer

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["HAM", "SPAM", "UNSURE"]},
        "confidence": {"type": "number", "minimum": 0.5, "maximum": 1},
    },
    "required": ["label", "confidence"],
    "additionalProperties": False,
}
GOOD = {"label": "SPAM", "confidence": 0.9}
TEXT = json.dumps(GOOD)

good_answers = st.fixed_dictionaries(
    {"label": st.sampled_from(["HAM", "SPAM", "UNSURE"]), "confidence": st.floats(0.5, 1)}
)


def one(rule, value):
    """Parse an answer of one field x."""
    got = parse_answer(json.dumps({"x": value}), {"properties": {"x": rule}})
    return got if isinstance(got, InvalidAnswer) else got["x"]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"  \n{TEXT}\n",
        f"```json\n{TEXT}\n```",
        f"```\n{json.dumps(GOOD, indent=2)}\n```",
        f"Sure, here is the {{answer}} you want:\n\n{TEXT}\n\nAnything else?",
        f'<think>{{"label": "HAM", "confidence": 0.6}} or not?</think>\n{TEXT}',
        f'that is {{"label": "HAM", "confidence": 0.6}} or not?</think>\n{TEXT}',
        f"{TEXT}\n{TEXT}",
        '{"confidence": 0.9, "label": "spam"}',
        '{"label": " Spam ", "confidence": 0.9, "why": "it sells"}',
        '{"label": "SPAM", "label": "SPAM", "confidence": 0.9}',
    ],
)
def test_the_answer_is_found(text):
    assert parse_answer(text, SCHEMA) == GOOD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object in the answer"),
        ("SPAM", "no JSON object in the answer"),
        ("[1, 2]", "no JSON object in the answer"),
        ("{'label': 'SPAM', 'confidence': 0.9}", "no JSON object in the answer"),
        ("{}", "label: is missing"),
        ('{"label": "SPAM"}', "confidence: is missing"),
        ('{"label": "EGGS", "confidence": 0.9}', "label: expected one of HAM, SPAM, UNSURE, got 'EGGS'"),
        ('{"label": "HAM or SPAM", "confidence": 0.9}', "label: expected one of HAM, SPAM, UNSURE"),
        ('{"label": null, "confidence": 0.9}', "label: expected one of HAM, SPAM, UNSURE, got None"),
        ('{"label": "HAM", "confidence": 90}', "confidence: expected a number in [0.5, 1], got 90"),
        ('{"label": "HAM", "confidence": "0.9"}', "confidence: expected a number, got '0.9'"),
        ('{"label": "HAM", "confidence": true}', "confidence: expected a number, got True"),
        ('{"label": "HAM", "confidence": NaN}', "confidence: expected a number, got nan"),
        ('{"label": "SPAM", "confidence": 0.9', "the JSON object is cut off"),
        ('{"label": "SP', "the JSON object is cut off"),
        ('{"examples": [{"label": "SPAM", "confidence": 0.9}], "label": ', "the JSON object is cut off"),
        ('{"answer": {"label": "SPAM", "confidence": 0.9}}', "label: is missing"),
        ('{"label": "SPAM", "label": "HAM", "confidence": 0.9}', "label: is given twice, differently"),
        ('{"label": "SPAM", "confidence": 0.9} {"label": "HAM", "confidence": 0.9}', "2 answers that differ"),
        ('{"a":' * 100_000, "the JSON object is nested too deep or a number too long"),
        ('{"label": "HAM", "confidence": ' + "9" * 5000 + "}", "the JSON object is nested too deep or a number too long"),
        ("{} " * 101, "more than 100 JSON objects"),
    ],
)  # fmt: skip
def test_an_answer_outside_the_schema_is_invalid_with_its_reason(text, reason):
    got = parse_answer(text, SCHEMA)
    assert isinstance(got, InvalidAnswer)
    assert got.reason.startswith(reason)
    assert got.text == text


def test_case_is_no_guess_where_two_classes_differ_only_in_it():
    assert one({"enum": ["us", "US"]}, "us") == "us"
    assert one({"enum": ["us", "US"]}, "Us").reason == "x: expected one of us, US, got 'Us'"


def test_fields_come_in_the_schemas_order():
    assert list(parse_answer('{"confidence": 0.9, "label": "HAM"}', SCHEMA)) == [
        "label",
        "confidence",
    ]


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ({"type": "string"}, "", ""),
        ({"type": "boolean"}, False, False),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "number"}, 3, 3),
        ({"type": "integer", "enum": [1, 2]}, 2, 2),
        ({"enum": [True, 1]}, 1, 1),
    ],
)
def test_each_kind_of_field(rule, value, expected):
    got = one(rule, value)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ({"type": "string"}, 3),
        ({"type": "boolean"}, 1),
        ({"type": "integer"}, 3.5),
        ({"type": "integer"}, True),
        ({"type": "integer", "enum": [1, 2]}, "2"),
        ({"enum": [1]}, True),
        ({"enum": ["yes", "no"]}, True),
        ({"type": "number", "maximum": 1}, 1.5),
    ],
)
def test_no_kind_passes_for_another(rule, value):
    assert isinstance(one(rule, value), InvalidAnswer)


@given(st.text())
def test_any_text_gives_an_answer_of_the_schema_or_a_reason(text):
    got = parse_answer(text, SCHEMA)
    assert isinstance(got, InvalidAnswer) or check_answer(got, SCHEMA) == got


@given(
    good_answers,
    st.text(st.characters(exclude_characters="{}")),
    st.text(st.characters(exclude_characters="{}")),
)
def test_an_answer_is_found_in_any_prose(answer, before, after):
    assert parse_answer(before + json.dumps(answer) + after, SCHEMA) == answer


@given(good_answers, good_answers)
def test_of_two_that_differ_none_is_chosen(a, b):
    got = parse_answer(f"{json.dumps(a)} no, {json.dumps(b)}", SCHEMA)
    assert got == a if a == b else isinstance(got, InvalidAnswer)


@given(good_answers, st.data())
def test_an_answer_that_was_cut_off_is_never_read(answer, data):
    text = json.dumps(answer)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert isinstance(parse_answer(cut, SCHEMA), InvalidAnswer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.fixed_dictionaries({}, optional={"label": json_values, "confidence": json_values}))
def test_only_values_of_the_schema_pass(answer):
    got = parse_answer(json.dumps(answer), SCHEMA)
    if not isinstance(got, InvalidAnswer):
        assert got["label"] in ["HAM", "SPAM", "UNSURE"]
        assert isinstance(got["confidence"], int | float) and 0.5 <= got["confidence"] <= 1
