"""Votes kept per labeling function."""

from __future__ import annotations

import os

import llmlabel.recipe.vote_store as module
from llmlabel.recipe.vote_store import VoteStore
from llmlabel.votes import VoteMatrix

ONE = VoteMatrix([[0], [-1]], ["a"], ["A", "B"], [[0.75], [0.5]])


def test_what_is_kept_comes_back_and_what_is_not_is_none(tmp_path):
    store = VoteStore(tmp_path / "votes")
    assert store.get("k" * 64, ["train"]) is None
    store.put("k" * 64, {"train": ONE})
    assert store.get("k" * 64, ["train"]) == {"train": ONE}
    assert store.get("k" * 64, ["train", "test"]) is None
    file = next((tmp_path / "votes").iterdir())
    for broken in (b"half a fi", file.read_bytes()[:100]):
        file.write_bytes(broken)
        assert store.get("k" * 64, ["train"]) is None


def test_the_oldest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 2)
    store = VoteStore(tmp_path)
    for i, key in enumerate("abc"):
        store.put(key * 64, {"train": ONE})
        os.utime(next(tmp_path.glob(f"{key}*")), (i, i))
    store.prune()
    assert [store.get(key * 64, ["train"]) is None for key in "abc"] == [True, False, False]
