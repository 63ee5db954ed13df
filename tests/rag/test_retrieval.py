from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.rag.combined import ByDocument, Hybrid, Reranked
from llmlabel.rag.retrieval import BM25, Dense, Hits, ranked

TEXTS = {
    "tent": "Pitching the tent on level ground",
    "stove": "The stove burns gas and petrol",
    "boots": "Waxing leather boots",
    "gas": "Gas canisters for the stove",
}


def _bm25(**options: Any) -> BM25:
    return BM25(list(TEXTS), list(TEXTS.values()), **options)


def test_bm25_finds_by_stemmed_words_and_nothing_that_shares_none() -> None:
    found = _bm25().search(["burning stoves", "zebra", "", "the"], 3)
    assert found.ids.tolist() == [["stove", "gas", ""], ["", "", ""], ["", "", ""], ["", "", ""]]
    assert found.scores.shape == (4, 3)
    assert np.isneginf(found.scores[1:]).all()
    assert _bm25(language=None).search(["stoves"], 1).ids.tolist() == [[""]]


def test_bm25_is_lucenes_formula() -> None:
    texts = ["a a b", "b c", "c c c c"]
    found = BM25(["0", "1", "2"], texts, language=None, k1=1.2, b=0.75).search(["a c"], 3)
    lengths = np.array([3, 2, 4])

    def part(tf: list[int]) -> Any:
        counts = np.array(tf)
        df = (counts > 0).sum()
        idf = np.log(1 + (3 - df + 0.5) / (df + 0.5))
        return idf * counts / (counts + 1.2 * (0.25 + 0.75 * lengths / lengths.mean()))

    expected = part([2, 0, 0]) + part([0, 1, 4])
    scores = dict(zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True))
    assert [scores[str(i)] for i in range(3)] == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_corpus_without_words_finds_nothing() -> None:
    assert BM25(["a"], ["?!"]).search(["a"], 2).ids.tolist() == [["", ""]]


def test_dense_pads_what_is_not_there() -> None:
    found = Dense(["a", "b"], np.eye(2), lambda q: np.eye(2)[: len(q)]).search(["x", "y"], 3)
    assert found.ids.tolist() == [["a", "b", ""], ["b", "a", ""]]
    assert Dense(["a"], np.eye(1), lambda q: np.empty((0, 1))).search([], 2).ids.shape == (0, 2)


class _Given:
    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def search(self, queries: Any, k: int) -> Hits:
        return ranked([{i: -float(n) for n, i in enumerate(self.ids)} for _ in queries], k)


@given(st.permutations("abcde"), st.permutations("abcde"), st.integers(1, 5))
def test_hybrid_is_the_sum_of_reciprocal_ranks(one: Any, other: Any, k: int) -> None:
    found = Hybrid([_Given(*one), _Given(*other)]).search(["q"], k)
    sums = {i: 1 / (61 + one.index(i)) + 1 / (61 + other.index(i)) for i in "abcde"}
    expected = sorted(sums.values(), reverse=True)[:k]
    assert found.scores[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert [sums[i] for i in found.ids[0]] == pytest.approx(expected)


def test_hybrid_by_scores_adds_them_between_the_least_and_the_best() -> None:
    class Scored:
        def __init__(self, scores: dict[str, float]) -> None:
            self.scores = scores

        def search(self, queries: Any, k: int) -> Hits:
            return ranked([self.scores for _ in queries], k)

    one, other = Scored({"a": 10.0, "b": 9.0, "c": 0.0}), Scored({"b": 0.5, "c": 0.3})
    found = Hybrid([one, other], fusion="scores", weights=[1, 2]).search(["q"], 3)
    assert found.ids.tolist() == [["b", "a", "c"]]
    assert found.scores[0].tolist() == pytest.approx([2.9, 1.0, 0.0])


def test_hybrid_keeps_what_only_one_finds_and_heeds_weights() -> None:
    both = [_Given("a"), _Given("b", "c")]
    assert set(Hybrid(both).search(["q"], 4).ids[0]) == {"a", "b", "c", ""}
    assert Hybrid(both, weights=[1, 3]).search(["q"], 3).ids.tolist() == [["b", "c", "a"]]
    with pytest.raises(ConfigError, match="at least two"):
        Hybrid(both[:1])
    with pytest.raises(ConfigError, match="2 numbers"):
        Hybrid(both, weights=[1])
    with pytest.raises(UnknownNameError, match="did you mean 'ranks'"):
        Hybrid(both, fusion="rank")  # type: ignore[arg-type]


def test_a_second_look_orders_the_candidates_only() -> None:
    asked: list[Any] = []

    def score(pairs: Any) -> list[float]:
        asked.extend(pairs)
        return [float(len(passage)) for _, passage in pairs]

    found = Reranked(_bm25(), TEXTS, score, depth=2).search(["stove gas", "zebra"], 2)
    assert found.ids.tolist() == [["stove", "gas"], ["", ""]]
    assert asked == [("stove gas", TEXTS["gas"]), ("stove gas", TEXTS["stove"])]
    with pytest.raises(ConfigError, match="expected 2 scores, got 1"):
        Reranked(_bm25(), TEXTS, lambda pairs: [1.0]).search(["stove"], 1)


def test_a_documents_best_chunk_counts_however_many_it_has() -> None:
    document = {f"a#{i}": "a" for i in range(30)} | {"b#0": "b", "c#0": "c"}
    found = ByDocument(_Given(*document), document).search(["q"], 2)
    assert found.ids.tolist() == [["a", "b"]]
    assert found.scores.tolist() == [[0.0, -30.0]]
    assert ByDocument(_Given(*document), document).search(["q"], 9).ids.shape == (1, 9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_real_cross_encoder_scores_pairs(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    from llmlabel.rag.cross_encoder import load_cross_encoder

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "stove", "gas", "tent"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    score = load_cross_encoder(tmp_path)
    pairs = [("gas", TEXTS["stove"]), ("gas", TEXTS["gas"])]
    assert score(pairs).shape == (2,)
    found = Reranked(_bm25(), TEXTS, score).search(["gas"], 2)
    best = int(np.argmax(score(pairs)))
    assert found.ids[0, 0] == ("stove", "gas")[best]
    assert found.scores[0, 0] == pytest.approx(float(score(pairs).max()), abs=1e-5)
    with pytest.raises(ConfigError, match="no model folder"):
        (tmp_path / "none").mkdir()
        load_cross_encoder(tmp_path / "none")


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown language 'english'"):
        _bm25(language="english")
    with pytest.raises(DataError, match="got 1 for 2"):
        BM25(["a"], ["x", "y"])
    with pytest.raises(DataError, match="got 0 for 0"):
        Dense([], np.empty((0, 2)), lambda q: q)
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        _bm25().search(["x"], 0)
