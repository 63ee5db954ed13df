"""The benchmark of the engine: how parts that ran twice are told, and the logged step."""

from __future__ import annotations

import json
from functools import partial

from benchmarks.corpus_engine import (
    HOW,
    at_work,
    calls_of,
    clean_logged,
    digests,
    done_in,
    twice,
)
from llmlabel.engine import map_shards
from llmlabel.io.documents import ReadOptions
from llmlabel.io.shards import list_shards

CALLS = [("a", "n1", 10), ("b", "n2", 11), ("b", "n1", 30), ("a", "n1", 40)]


def test_a_call_after_its_part_was_done_ran_twice():
    assert twice(CALLS, {"a": 20, "b": 35}) == 1
    assert twice(CALLS[:3], {"a": 20, "b": 35}) == 0


def test_a_node_is_at_work_on_what_is_begun_and_not_done():
    assert at_work(CALLS[:2], "n2", {"a": 20})
    assert not at_work(CALLS[:2], "n2", {"a": 20, "b": 21})
    assert not at_work(CALLS[:1], "n2", {})


def test_the_logged_step_cleans_and_says_when_it_was_called(tmp_path):
    texts = ["The first of some documents, which is long enough to be told as English.", " "]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("a", "b"):
        lines = [json.dumps({"id": f"{name}{i}", "text": text}) for i, text in enumerate(texts)]
        (corpus / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    shards, log = list_shards(corpus).shards, tmp_path / "log"
    assert calls_of(log) == []
    work = partial(clean_logged, log=str(log), options=ReadOptions(), how=HOW)
    outs = [tmp_path / "one", tmp_path / "again"]
    for out in outs:
        facts = map_shards(work, shards, out=out, key="k", workers=1).facts
        assert (facts["read"], facts["left"]) == (4, 2)
    assert digests(outs[0]) == digests(outs[1])
    assert {name.split("/")[0] for name in digests(outs[0])} >= {"documents", "manifests"}
    done, calls = done_in(outs[0], shards), calls_of(log)
    assert [shard for shard, _, _ in calls] == [shard.id for shard in shards] * 2
    assert list(done) == [shard.id for shard in shards]
    assert twice(calls[:2], done) == 0
    assert twice(calls, done) == 2  # the second folder's calls came after the first was done
