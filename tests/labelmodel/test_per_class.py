"""Multi-label: one model per class."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel import PRESENCE, MajorityVote, OneModelPerClass, TwoRateModel
from llmlabel.votes import VoteMatrix


def planted(rng, n=1000):
    gold = rng.random((n, 3)) < [0.3, 0.5, 0.1]
    votes = {}
    for c, (name, m) in enumerate({"sport": 5, "money": 4, "art": 6}.items()):
        wrong = rng.random((n, m)) < 0.2
        said = np.where(rng.random((n, m)) < 0.4, -1, gold[:, [c]] ^ wrong)
        votes[name] = VoteMatrix(said, [f"lf{j}" for j in range(m)], PRESENCE)
    return votes, gold


def test_every_class_is_a_question_of_its_own():
    votes, gold = planted(np.random.default_rng(0))
    model = OneModelPerClass(TwoRateModel()).fit(votes)
    found = model.predict_proba(votes)
    assert found.shape == gold.shape
    assert ((found > 0.5) == gold).mean() > 0.85
    alone = TwoRateModel().fit(votes["money"]).predict_proba(votes["money"])[:, 1]
    np.testing.assert_array_equal(found[:, 1], alone)
    assert model.classes_.tolist() == ["sport", "money", "art"]
    covered = np.stack([L.covered() for L in votes.values()], axis=1)
    np.testing.assert_array_equal(model.covered(votes), covered)
    assert model.model.get_params() == TwoRateModel().get_params()
    assert isinstance(clone(model).model, TwoRateModel)


def test_what_is_wrong_is_said():
    sport = VoteMatrix([[1], [0]], ["a"], PRESENCE)
    model = OneModelPerClass(MajorityVote())
    with pytest.raises(ConfigError, match="the votes of at least one class"):
        model.fit({})
    with pytest.raises(DataError, match="class 'art': expected votes of the classes ABSENT, PRES"):
        model.fit({"sport": sport, "art": VoteMatrix([[1], [0]], ["a"], ["NO", "YES"])})
    with pytest.raises(DataError, match="class 'art' has votes on 1 rows, 'sport' on 2"):
        model.fit({"sport": sport, "art": VoteMatrix([[1]], ["a"], PRESENCE)})
    with pytest.raises(DataError, match="class 'art': no labeling function votes on any of"):
        model.fit({"sport": sport, "art": VoteMatrix([[-1], [-1]], ["a"], PRESENCE)})
    with pytest.raises(NotFittedError):
        OneModelPerClass(MajorityVote()).predict_proba({"sport": sport})
    model.fit({"sport": sport})
    with pytest.raises(UnknownNameError, match="unknown class 'sports', did you mean 'sport'"):
        model.predict_proba({"sport": sport, "sports": sport})
    with pytest.raises(DataError, match="the votes of class 'sport' of the fitted model"):
        model.predict_proba({})
