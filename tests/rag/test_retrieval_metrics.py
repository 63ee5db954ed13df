from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.rag.metrics import Quality, compare, measure, paired_bootstrap


@settings(max_examples=60)
@given(
    st.lists(st.permutations(list("abcdef")), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), min_size=1),
    st.integers(1, 6),
)
def test_figures_are_those_of_the_definitions(
    orders: list[list[str]], grades: dict[str, int], k: int
) -> None:
    grades = {**grades, "z": 1}
    questions = [f"q{i}" for i in range(len(orders))]
    found = measure(orders, questions, dict.fromkeys(questions, grades), ks=(k,))
    for row, order in enumerate(orders):
        gains = [grades.get(d, 0) for d in order]
        discounts = 1 / np.log2(np.arange(2, 20))
        ideal = np.array(sorted(grades.values(), reverse=True)[:k]) @ discounts[:k][: len(grades)]
        relevant = [n for n, gain in enumerate(gains[:k]) if gain]
        assert found.values[f"ndcg@{k}"][row] == pytest.approx(
            gains[:k] @ discounts[:k] / ideal, abs=1e-6
        )
        every = sum(g > 0 for g in grades.values())
        assert found.values[f"recall@{k}"][row] == pytest.approx(len(relevant) / every)
        first = 1 / (relevant[0] + 1) if relevant else 0
        assert found.values[f"mrr@{k}"][row] == pytest.approx(first)


def test_questions_for_which_nothing_is_found_count_as_nothing() -> None:
    found = measure([["", ""], ["a", ""]], ["p", "q"], {"p": {"a": 1}, "q": {"a": 1}}, ks=(2,))
    assert found.means() == {"ndcg@2": 0.5, "recall@2": 0.5, "mrr@2": 0.5}
    none = measure([["", ""]], ["p"], {"p": {"a": 1}}, ks=(1,))
    assert none.mean("ndcg@1") == 0


@pytest.mark.parametrize(
    ("ids", "questions", "qrels", "message"),
    [
        ([["a"]], ["q"], {}, "row 'q': no document is relevant"),
        ([["a"]], ["q"], {"q": {"a": 0}}, "no document is relevant"),
        ([["a", "a"]], ["q"], {"q": {"a": 1}}, "found twice"),
        ([["a"]], ["q"], {"q": {"a": 0.5}}, "whole numbers"),
        ([["a"]], ["q", "r"], {}, "got 1 for 2"),
        ([["a"], ["a"]], ["q", "q"], {"q": {"a": 1}}, "each question once"),
    ],
)
def test_wrong_rankings_are_named(
    ids: object, questions: object, qrels: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        measure(ids, questions, qrels, ks=(1,))  # type: ignore[arg-type]


def test_a_depth_that_was_not_searched_is_an_error() -> None:
    with pytest.raises(ConfigError, match="from 1 to the 1 that were found"):
        measure([["a"]], ["q"], {"q": {"a": 1}}, ks=(10,))


def test_the_bootstrap_agrees_with_the_t_test_and_holds_its_level() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        sample = rng.normal(0, 1, 80)
        interval, p = paired_bootstrap(sample, resamples=1000)
        found.append(p)
        assert abs(p - ttest_1samp(sample, 0).pvalue) < 0.08
        assert (interval.low <= 0 <= interval.high) == (p > 0.05) or 0.02 < p < 0.1
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.1


def test_equal_retrievals_do_not_differ() -> None:
    interval, p = paired_bootstrap(np.zeros(20))
    assert (interval.value, interval.low, interval.high, p) == (0, 0, 0, 1)
    with pytest.raises(DataError, match="no questions"):
        paired_bootstrap([])
    with pytest.raises(ConfigError, match="level"):
        paired_bootstrap([1.0], level=1)


def test_wins_and_losses_are_named_largest_first() -> None:
    names = ("p", "q", "r", "s")
    before = Quality(names, {"ndcg@10": np.array([0.2, 0.5, 0.9, 0.4])})
    after = Quality(names, {"ndcg@10": np.array([0.4, 1.0, 0.8, 0.4])})
    found = compare(before, after)
    assert [name for name, _ in found.wins] == ["q", "p"]
    assert found.losses == (("r", pytest.approx(-0.1)),)
    assert (found.ties, found.difference.value) == (1, pytest.approx(0.15))
    assert compare(before, after) == found
    with pytest.raises(UnknownNameError, match="did you mean 'ndcg@10'"):
        compare(before, after, "ndcg@1")
    with pytest.raises(DataError, match="same questions"):
        compare(before, Quality(names[::-1], after.values))
