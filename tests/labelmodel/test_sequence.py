"""The sequence model: exact inference against brute force, planted parameters, BIO."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel import MajorityVote, SequenceModel
from llmlabel.labelmodel.sequences import bio_tags, chains, smooth, viterbi
from llmlabel.votes import VoteMatrix


def sentences(rng, count=400, m=4, abstain=0.5):
    """Spans of two types in outside text; LFs right 85 % of the time where they speak."""
    moves = np.array([[0.85, 0.1, 0.05], [0.3, 0.7, 0], [0.3, 0, 0.7]])
    lengths = rng.integers(1, 25, count)
    gold = []
    for length in lengths:
        state = 0
        for _ in range(length):
            state = rng.choice(3, p=moves[state])
            gold.append(state)
    gold = np.array(gold)
    wrong = rng.random((len(gold), m)) > 0.85
    votes = np.where(wrong, rng.integers(0, 3, wrong.shape), gold[:, None])
    votes[rng.random(votes.shape) < abstain] = -1
    return VoteMatrix(votes, [f"lf{j}" for j in range(m)], ["O", "PER", "ORG"]), lengths, gold


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_inference_is_exact(seed):
    rng = np.random.default_rng(seed)
    k, lengths = int(rng.integers(2, 4)), rng.integers(1, 6, int(rng.integers(1, 4)))
    n = int(lengths.sum())
    emission = np.log(rng.random((n, k)))
    start, moves = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), k)
    found = smooth(emission, chains(lengths, n), start, moves)
    best = viterbi(emission, chains(lengths, n), start, moves)
    at, evidence, counted = 0, 0.0, np.zeros((k, k))
    for length in lengths:
        part = emission[at : at + length]
        paths = list(product(range(k), repeat=int(length)))
        weights = np.array(
            [
                start[p[0]]
                * np.prod([moves[a, b] for a, b in pairwise(p)])
                * np.exp(part[range(length), p].sum())
                for p in paths
            ]
        )
        share = weights / weights.sum()
        evidence += np.log(weights.sum())
        expected = np.zeros((length, k))
        for p, w in zip(paths, share, strict=True):
            expected[range(length), p] += w
            for a, b in pairwise(p):
                counted[a, b] += w
        np.testing.assert_allclose(found.posterior[at : at + length], expected, atol=1e-9)
        assert tuple(best[at : at + length]) == paths[int(share.argmax())]
        at += length
    assert found.log_evidence == pytest.approx(evidence)
    np.testing.assert_allclose(found.moves, counted, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_context_beats_votes_alone(seed):
    L, lengths, gold = sentences(np.random.default_rng(seed))
    model = SequenceModel().fit(L, lengths)
    right = (model.predict_proba(L, lengths).argmax(axis=1) == gold).mean()
    alone = (MajorityVote().fit(L).predict_proba(L).argmax(axis=1) == gold).mean()
    assert right > alone + 0.015
    assert right > 0.95
    assert model.moves_[1, 1] == pytest.approx(0.7, abs=0.1)
    assert model.converged_


def test_rare_spans_among_silence():
    """Gazetteers that never vote O: silence is outside."""
    rng = np.random.default_rng(3)
    L, lengths, gold = sentences(rng)
    votes = np.where((L.votes == 0) | (rng.random(L.votes.shape) < 0.2), -1, L.votes)
    L = VoteMatrix(votes, L.lf_names, L.classes)
    model = SequenceModel().fit(L, lengths)
    right = model.predict(L, lengths) == np.array(L.classes)[gold]
    assert right.mean() > 0.8


def test_sentences_may_come_in_any_order():
    L, lengths, _ = sentences(np.random.default_rng(4), count=60)
    begins = np.cumsum(lengths) - lengths
    order = np.random.default_rng(5).permutation(len(lengths))
    rows = np.concatenate([np.arange(begins[i], begins[i] + lengths[i]) for i in order])
    here = SequenceModel().fit(L, lengths).predict_proba(L, lengths)
    there = SequenceModel().fit(L.take(rows), lengths[order])
    np.testing.assert_allclose(
        there.predict_proba(L.take(rows), lengths[order]), here[rows], atol=1e-6
    )


def test_bio_classes_give_valid_tags():
    rng = np.random.default_rng(6)
    L, lengths, gold = sentences(rng, count=200)
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
    starts = np.zeros(len(gold), bool)
    starts[np.cumsum(lengths) - lengths] = True
    first = starts | (np.r_[-1, gold[:-1]] != gold)
    tags = np.where(gold == 0, 0, 2 * gold - first)
    wrong = rng.random(L.votes.shape) > 0.8
    votes = np.where(wrong, rng.integers(0, 5, wrong.shape), tags[:, None])
    L = VoteMatrix(votes, L.lf_names, names)
    found = SequenceModel().fit(L, lengths).predict_bio(L, lengths)
    for i, tag in enumerate(found):
        if tag.startswith("I-"):
            assert not starts[i]
            assert found[i - 1] in (f"B-{tag[2:]}", tag)
    assert (np.array(found) == np.array(names)[tags]).mean() > 0.95


@pytest.mark.parametrize(
    ("classes", "lengths", "tags"),
    [
        (["O", "A", "A"], [3], ["O", "B-A", "I-A"]),
        (["A", "A", "B"], [1, 2], ["B-A", "B-A", "B-B"]),
        ([], [], []),
    ],
)
def test_bio(classes, lengths, tags):
    assert bio_tags(classes, lengths) == tags


def test_what_is_wrong_is_said():
    L = VoteMatrix([[0], [1]], ["a"], ["O", "PER"])
    with pytest.raises(DataError, match="they add up to 3; there are 2 tokens"):
        SequenceModel().fit(L, [3])
    with pytest.raises(DataError, match="one positive whole number per sentence"):
        SequenceModel().fit(L, [2, 0])
    with pytest.raises(UnknownNameError, match="unknown class 'o', did you mean 'O'"):
        SequenceModel(outside="o").fit(L, [2])
    with pytest.raises(ConfigError, match="prior_votes: expected .* got -1"):
        SequenceModel(prior_votes=-1).fit(L, [2])
    with pytest.raises(DataError, match="no labeling function votes on any of the 2 rows"):
        SequenceModel().fit(VoteMatrix([[-1], [-1]], ["a"], ["O", "PER"]), [2])
    with pytest.raises(NotFittedError):
        SequenceModel().predict(L, [2])
    fitted = SequenceModel().fit(L, [2])
    with pytest.raises(DataError, match="expected the labeling functions a and the classes O, PER"):
        fitted.predict(VoteMatrix([[0]], ["b"], ["O", "PER"]), [1])
    with pytest.warns(ConvergenceWarning, match="raise max_iter or tol"):
        SequenceModel(max_iter=1).fit(L, [2])
    assert clone(fitted).get_params() == fitted.get_params()
