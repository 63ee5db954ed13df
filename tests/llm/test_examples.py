"""Examples in prompts: which are chosen, and how they are shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.llm import parse_prompt
from llmlabel.llm.examples import Example, ExamplePool, select_examples
from llmlabel.schema import Task

WAYS = ["fixed", "random", "nearest", "diverse"]


def made_pool(texts, classes=None, vectors=None, ids=None):
    ids = tuple(ids or (f"p{i}" for i in range(len(texts))))
    answers = tuple(Example(t, {"label": "HAM"}) for t in texts)
    return ExamplePool(ids, answers, classes, vectors)


def unit(rng, n, d=4):
    V = rng.normal(size=(n, d))
    return V / np.linalg.norm(V, axis=1, keepdims=True)


@given(
    st.sampled_from(WAYS),
    st.lists(st.integers(0, 5), min_size=0, max_size=12),
    st.integers(0, 6),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_the_row_itself_is_never_shown_and_nothing_is_shown_twice(how, codes, n, k, seed):
    rng = np.random.default_rng(seed)
    texts = [f"Text {c}" for c in codes]
    pool = made_pool(texts, rng.integers(0, k, len(texts)), unit(rng, len(texts)))
    asked_ids = [f"p{i}" for i in range(len(texts))] + ["other"]
    asked_texts = [*texts[::-1], "  text\n1 "]
    vectors = unit(rng, len(asked_ids))
    chosen = select_examples(pool, asked_ids, asked_texts, n, how, vectors=vectors, seed=seed)
    assert chosen.shape == (len(asked_ids), n)
    for row_id, text, found in zip(asked_ids, asked_texts, chosen, strict=True):
        shown = [i for i in found if i >= 0]
        assert list(found[: len(shown)]) == shown  # what is missing is missing at the end
        assert len(set(shown)) == len(shown)
        same = {i for i, t in enumerate(texts) if t.casefold() == " ".join(text.split()).casefold()}
        same |= {i for i, own in enumerate(pool.ids) if own == row_id}
        assert not same & set(shown)
        assert len(shown) == min(n, len(texts) - len(same))


@pytest.mark.parametrize("how", WAYS)
def test_classes_take_turns(how):
    rng = np.random.default_rng(0)
    classes = np.array([0] * 40 + [1] * 8 + [2] * 2)
    pool = made_pool([f"t{i}" for i in range(50)], classes, unit(rng, 50))
    asked = [f"q{i}" for i in range(30)]
    found = select_examples(pool, asked, asked, 9, how, vectors=unit(rng, 30))
    counts = np.array([np.bincount(classes[row], minlength=3) for row in found])
    assert (counts[:, 2] == 2).all()  # all there are
    assert (np.abs(counts[:, 0] - counts[:, 1]) <= 1).all()


@pytest.mark.parametrize("how", WAYS)
def test_a_rows_examples_do_not_depend_on_the_other_rows(how):
    rng = np.random.default_rng(0)
    pool = made_pool([f"t{i % 30}" for i in range(40)], rng.integers(0, 3, 40), unit(rng, 40))
    ids, V = [f"q{i}" for i in range(20)], unit(rng, 20)
    texts = [f"t{i}" for i in range(20)]
    together = select_examples(pool, ids, texts, 5, how, vectors=V, seed=3)
    for i in range(20):
        alone = select_examples(
            pool, ids[i : i + 1], texts[i : i + 1], 5, how, vectors=V[i : i + 1], seed=3
        )
        np.testing.assert_array_equal(alone[0], together[i])


def test_nearest_are_the_nearest_and_the_nearest_is_last():
    rng = np.random.default_rng(1)
    pool = made_pool([f"t{i}" for i in range(50)], vectors=unit(rng, 50))
    Q = unit(rng, 7)
    ids = [f"q{i}" for i in range(7)]
    found = select_examples(pool, ids, ids, 4, "nearest", vectors=Q)
    expected = np.argsort(Q @ pool.vectors.T, axis=1)[:, -4:]
    np.testing.assert_array_equal(found, expected)


def test_diverse_covers_every_cluster():
    rng = np.random.default_rng(2)
    centres = np.eye(5)
    V = centres[np.repeat(np.arange(5), [50, 3, 3, 2, 1])] + rng.normal(0, 0.01, (59, 5))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    found = select_examples(
        made_pool([f"t{i}" for i in range(59)], vectors=V), ["q"], ["q"], 5, "diverse"
    )
    assert set((V[found[0]] @ centres.T).argmax(axis=1)) == set(range(5))


def test_random_follows_seed_and_text():
    pool = made_pool([f"t{i}" for i in range(100)])
    texts = [f"q{i % 50}" for i in range(100)]
    ids = [f"q-{i}" for i in range(100)]
    first = select_examples(pool, ids, texts, 3, seed=1)
    np.testing.assert_array_equal(first, select_examples(pool, ids, texts, 3, seed=1))
    np.testing.assert_array_equal(first[:50], first[50:])  # twins ask the same: one call
    assert (first != select_examples(pool, ids, texts, 3, seed=2)).any()
    assert len(np.unique(first[:50])) > 50  # drawn from all over the pool


def test_what_is_not_there_is_said():
    pool = made_pool(["a", "b"])
    with pytest.raises(UnknownNameError, match="did you mean 'nearest'"):
        select_examples(pool, ["q"], ["q"], 1, "nearst")
    with pytest.raises(ConfigError, match="needs the vectors of the pool"):
        select_examples(pool, ["q"], ["q"], 1, "diverse")
    full = made_pool(["a", "b"], vectors=np.eye(2))
    with pytest.raises(ConfigError, match="needs the vectors of the rows"):
        select_examples(full, ["q"], ["q"], 1, "nearest")
    with pytest.raises(DataError, match=r"expected shape \(1, 2\), got \(2, 2\)"):
        select_examples(full, ["q"], ["q"], 1, "nearest", vectors=np.eye(2))
    with pytest.raises(DataError, match="2 examples, but 1 classes"):
        made_pool(["a", "b"], [0])
    with pytest.raises(DataError, match="row 'p': comes twice"):
        made_pool(["a", "b"], ids=["p", "p"])
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        select_examples(pool, ["q"], ["q"], -1)


SHOWN = [
    Example("buy", {"label": "SPAM", "confidence": 0.9}, {"text": "buy"}),
    Example("hi", {"label": "HAM", "confidence": 0.8}, {"text": "hi"}),
]


def test_examples_become_turns_before_the_last_user_message(prompt, task):
    plain = prompt.request(task, {}, "x", "r")
    shown = prompt.request(task, {}, "x", "r", examples=SHOWN)
    assert [m["role"] for m in shown.messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert shown.messages[1:5] == (
        {"role": "user", "content": "<buy>"},
        {"role": "assistant", "content": '{"label": "SPAM", "confidence": 0.9}'},
        {"role": "user", "content": "<hi>"},
        {"role": "assistant", "content": '{"label": "HAM", "confidence": 0.8}'},
    )
    assert (shown.messages[0], shown.messages[5]) == plain.messages
    assert shown.key("p") != plain.key("p")
    other = prompt.request(task, {}, "x", "r", examples=SHOWN[::-1])
    assert len({plain.key("p"), shown.key("p"), other.key("p")}) == 3
    assert prompt.request(task, {}, "x", "r", examples=()).key("p") == plain.key("p")


def test_a_template_can_show_them_itself():
    own = parse_prompt(
        """---
name: own
version: 1
answer:
  label: {enum: [$classes]}
---
user:
{% for e in examples %}
{{ e.text }} -> {{ e.answer.label }} {{ e.json }}
{% endfor %}
{{ text }}
"""
    )
    task = Task("spam", ["HAM", "SPAM"])
    messages = own.render(task, {}, "x", [Example("buy {{ 1 }}", {"label": "SPAM"})])
    assert messages == [{"role": "user", "content": 'buy {{ 1 }} -> SPAM {"label": "SPAM"}\nx'}]
    assert own.render(task, {}, "x") == [{"role": "user", "content": "x"}]


def test_an_example_outside_the_schema_is_refused(prompt, task):
    with pytest.raises(ConfigError, match=r"spam\.md: the example 'buy': confidence: is missing"):
        prompt.render(task, {}, "x", [Example("buy", {"label": "SPAM"})])
    with pytest.raises(ConfigError, match="label: expected one of HAM, SPAM, UNSURE, got 'EGGS'"):
        prompt.render(task, {}, "x", [Example("buy", {"label": "EGGS", "confidence": 1})])
