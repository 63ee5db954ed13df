"""Answers chosen by scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ClientError
from llmlabel.llm import Response, parse_answer
from llmlabel.llm.confidence import logprob_probabilities
from llmlabel.llm.scored_answer import ScoredAnswer

VALUES = st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=5, unique_by=str.casefold)


@given(VALUES, VALUES, st.data())
def test_the_answer_follows_its_schema_and_its_logprobs_read_back(first, second, data):
    fields = {
        "a": {"type": "string", "enum": first},
        "sure": {"type": "number", "minimum": 0.5, "maximum": 1},
        "b": {"type": "string", "enum": second},
    }
    answer = ScoredAnswer({"properties": fields})
    chosen, scored = [], []
    for values in (first, second):
        assert [e.startswith(json.dumps(v, ensure_ascii=False)) for e, v in
                zip(answer.endings, values, strict=True)] == [True] * len(values)  # fmt: skip
        n = len(values)
        scores = np.array(data.draw(st.lists(st.integers(-2000, 0), min_size=n, max_size=n))) / 100
        answer.choose(scores)
        chosen.append(values[int(scores.argmax())])
        scored.append(np.exp(scores) / np.exp(scores).sum())
    assert answer.done
    parsed = parse_answer(answer.text, {"properties": fields})
    assert (parsed["a"], parsed["b"]) == tuple(chosen)
    assert parsed["sure"] == pytest.approx(max(0.5, scored[0].max()), abs=1e-6)
    response = Response(answer.text, "m", logprobs=answer.logprobs)
    for name, values, p in zip("ab", (first, second), scored, strict=True):
        np.testing.assert_allclose(logprob_probabilities(response, name, values), p, atol=1e-9)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"why": {"type": "string"}}, "why"),
        ({"sure": {"type": "number"}, "a": {"enum": ["x", "y"]}}, "sure"),
        ({"a": {"enum": ["x", "y"]}, "count": {"type": "integer"}}, "count"),
    ],
)
def test_what_cannot_be_scored_is_said_at_once(fields, name):
    with pytest.raises(ClientError, match=f"cannot answer the field '{name}'") as caught:
        ScoredAnswer({"properties": fields})
    assert caught.value.fatal
    with pytest.raises(ClientError, match="needs an answer schema"):
        ScoredAnswer(None)
