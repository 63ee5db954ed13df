"""A mix hits its shares, and no sharding changes which documents are in it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.mixing import (
    count_cells,
    draw,
    joined_cells,
    mix_verdict,
    plan_mix,
    score_bins,
    uniforms,
)
from llmlabel.errors import ConfigError, DataError, UnknownNameError

N = 6000
RANDOM = np.random.default_rng(0)
LANG = RANDOM.choice(["de", "en", "fr"], N, p=[0.2, 0.7, 0.1]).tolist()
SOURCE = RANDOM.choice(["web", "books"], N, p=[0.9, 0.1]).tolist()
TOKENS = RANDOM.integers(50, 500, N)
IDS = [f"doc{i}" for i in range(N)]
COLUMNS = {"lang": LANG, "source": SOURCE}
CELLS = count_cells(COLUMNS, TOKENS)


def share(values: list[str], wanted: str, copies: np.ndarray) -> float:
    mine = np.array(values) == wanted
    return float((TOKENS * copies)[mine].sum() / (TOKENS * copies).sum())


def test_shares_of_two_columns_are_met() -> None:
    targets = {"lang": {"de": 0.4, "en": 0.5, "fr": 0.1}, "source": {"web": 0.7, "books": 0.3}}
    plan = plan_mix(CELLS, targets)
    copies = draw(plan, COLUMNS, IDS, seed=1)
    assert set(copies.tolist()) == {0, 1}
    for name, values in COLUMNS.items():
        for value, aim in targets[name].items():
            assert plan.shares[name][value] == pytest.approx(aim, abs=1e-6)
            assert share(values, value, copies) == pytest.approx(aim, abs=0.03)
    assert (TOKENS * copies).sum() == pytest.approx(plan.tokens, rel=0.05)
    assert plan.cells["rate"].max() == pytest.approx(1.0)


def test_upsampling_up_to_the_copies_allowed() -> None:
    plan = plan_mix(CELLS, {"lang": {"fr": 0.5, "en": 0.5}}, max_copies=2.5)
    copies = draw(plan, COLUMNS, IDS, seed=1)
    french = copies[np.array(LANG) == "fr"]
    assert set(french.tolist()) == {2, 3}
    assert french.mean() == pytest.approx(2.5, abs=0.1)
    assert not copies[np.array(LANG) == "de"].any()
    assert share(LANG, "fr", copies) == pytest.approx(0.5, abs=0.03)


def test_the_rest_and_equal_shares() -> None:
    plan = plan_mix(CELLS, {"lang": {"de": 0.5, "*": 0.5}})
    ratio = plan.shares["lang"]["en"] / plan.shares["lang"]["fr"]
    tokens = {v: TOKENS[np.array(LANG) == v].sum() for v in ("en", "fr")}
    assert ratio == pytest.approx(tokens["en"] / tokens["fr"])
    equal = plan_mix(CELLS, {"lang": "equal"})
    assert list(equal.shares["lang"].values()) == pytest.approx([1 / 3] * 3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, N), max_size=4), st.integers(0, 5), st.randoms(use_true_random=False)
)
def test_any_sharding_draws_the_same(cuts: list[int], seed: int, random: object) -> None:
    order = list(range(0, N, 7))
    random.shuffle(order)  # type: ignore[attr-defined]
    edges = [0, *sorted(min(c, len(order)) for c in cuts), len(order)]
    shards = [order[a:b] for a, b in itertools.pairwise(edges)]

    def of(rows: list[int]) -> dict[str, list[str]]:
        return {name: [values[i] for i in rows] for name, values in COLUMNS.items()}

    targets = {"lang": {"de": 0.5, "en": 0.5}}
    whole = sorted(order)
    one = plan_mix(count_cells(of(whole), TOKENS[whole]), targets)
    cells = joined_cells([count_cells(of(rows), TOKENS[rows]) for rows in shards if rows])
    other = plan_mix(cells, targets)
    assert one.cells.equals(other.cells)
    drawn = dict(zip(whole, draw(one, of(whole), [IDS[i] for i in whole], seed=seed), strict=True))
    for rows in shards:
        found = draw(other, of(rows), [IDS[i] for i in rows], seed=seed)
        assert found.tolist() == [drawn[i] for i in rows]


def test_many_clusters_with_equal_shares() -> None:
    random = np.random.default_rng(3)
    cluster = random.zipf(1.5, 40_000) % 5000
    plan = plan_mix(count_cells({"cluster": cluster.tolist()}), {"cluster": "equal"})
    assert plan.cells["rate"].max() == pytest.approx(1.0)
    taken = plan.cells["rate"] * plan.cells["documents"]
    assert taken.to_numpy() == pytest.approx(1.0)  # the smallest cluster has one document


def test_seeds_are_independent() -> None:
    a, b = uniforms(IDS, 0), uniforms(IDS, 1)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    counts = np.histogram(a, bins=20, range=(0, 1))[0]
    assert ((counts - N / 20) ** 2 / (N / 20)).sum() < 45  # chi square of 19 degrees
    assert uniforms([5, "5"], 0)[0] == uniforms(["5"], 0)[0]


def test_score_bins_and_verdict() -> None:
    assert score_bins([0.2, 0.5, 9], [0.5, 1]) == ["< 0.5", ">= 0.5", ">= 1"]
    found = mix_verdict(np.array([0, 1, 2]))
    assert found.reason.tolist() == ["not drawn", "", ""]
    assert found.values["copies"].tolist() == [0, 1, 2]


def test_targets_that_cannot_be_met_say_why() -> None:
    with pytest.raises(DataError, match=r"targets: .* tokens need .* lang=fr.*at most"):
        plan_mix(CELLS, {"lang": {"fr": 0.5, "en": 0.5}}, tokens=1e9)
    small = count_cells({"lang": ["de", "en"], "source": ["web", "books"]})
    with pytest.raises(DataError, match="no mix has all these shares"):
        plan_mix(small, {"lang": {"de": 0.5, "en": 0.5}, "source": {"web": 0.3, "books": 0.7}})
    with pytest.raises(DataError, match=r"lang=\* has a share of 0.5, but no tokens"):
        plan_mix(small, {"lang": {"de": 0.25, "en": 0.25, "*": 0.5}})
    with pytest.raises(DataError, match="nothing is left"):
        plan_mix(count_cells({"lang": []}), {})


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'lang'"):
        plan_mix(CELLS, {"langs": "equal"})
    with pytest.raises(UnknownNameError, match="targets: lang: unknown value 'ger'"):
        plan_mix(CELLS, {"lang": {"ger": 1.0}})
    with pytest.raises(ConfigError, match="sum to 1: 0.9"):
        plan_mix(CELLS, {"lang": {"de": 0.9}})
    with pytest.raises(ConfigError, match="cannot be called tokens"):
        count_cells({"tokens": ["a"]})
    with pytest.raises(ConfigError, match="at least one column"):
        count_cells({})
    with pytest.raises(DataError, match="different lengths"):
        count_cells({"a": ["x"], "b": []})
    with pytest.raises(DataError, match="1 documents, but 2 numbers of tokens"):
        count_cells({"a": ["x"]}, [1, 2])
    with pytest.raises(DataError, match="no counts to join"):
        joined_cells([])
    plan = plan_mix(CELLS, {"lang": "equal"})
    with pytest.raises(DataError, match="row 'x': the plan has no cell {'lang': 'es'"):
        draw(plan, {"lang": ["es"], "source": ["web"]}, ["x"], seed=0)
    with pytest.raises(UnknownNameError, match="unknown column 'source'"):
        draw(plan, {"lang": ["de"]}, ["x"], seed=0)
    with pytest.raises(DataError, match="2 ids, but 1 values"):
        draw(plan, {"lang": ["de"], "source": ["web"]}, ["x", "y"], seed=0)
    with pytest.raises(ConfigError, match="edges: expected rising numbers"):
        score_bins([1.0], [2, 1])
    with pytest.raises(DataError, match="row 1: a score is missing"):
        score_bins([1.0, float("nan")], [2])
