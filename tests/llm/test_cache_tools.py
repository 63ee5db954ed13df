import json
import time

import pytest

from llmlabel.errors import ConfigError, DataError
from llmlabel.llm import Cache, Request, Response, Usage, complete_all
from llmlabel.llm.batch_files import request_line
from llmlabel.llm.cache_tools import (
    ImportReport,
    cache_stats,
    export_cache,
    import_batch,
    import_cache,
    prune_cache,
)

ANSWERS = {
    "a": Response("yes \ud800", "m", usage=Usage(10, 2)),
    "b": Response("no", "m", usage=Usage(5, 1)),
    "c": Response("perhaps", "other"),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "answers.sqlite"
    with Cache(path) as cache:
        cache.put_many(ANSWERS)
    return path


def test_stats_count_answers_and_tokens_by_model(path):
    stats = cache_stats(path)
    assert [(m.model, m.answers, m.prompt_tokens, m.completion_tokens) for m in stats.models] == [
        ("m", 2, 15, 3),
        ("other", 1, 0, 0),
    ]
    assert stats.answers == 3 and stats.bytes > 4096
    assert abs(stats.models[0].newest - time.time()) < 60


def test_what_is_exported_comes_back_whole(path, tmp_path):
    target = tmp_path / "answers.jsonl"
    assert export_cache(path, target) == 3
    copy = tmp_path / "copy.sqlite"
    assert import_cache(copy, target) == ImportReport(3, 0)
    assert import_cache(copy, target) == ImportReport(0, 3)
    with Cache(copy) as cache:
        assert {k: r.as_dict() for k, r in cache.get_many("abc").items()} == {
            k: r.as_dict() for k, r in ANSWERS.items()
        }
    assert export_cache(path, target, model="other") == 1


def test_a_broken_line_is_named(path, tmp_path):
    source = tmp_path / "x.jsonl"
    source.write_text('{"key": "k"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:1: expected a line of an exported cache"):
        import_cache(path, source)


def test_pruning_deletes_by_model_and_age_and_nothing_else(path):
    assert prune_cache(path, older_than_days=1) == 0
    assert prune_cache(path, model="m", older_than_days=1) == 0
    assert prune_cache(path, model="other") == 1
    with Cache(path) as cache:
        assert cache.known("abc") == {"a", "b"}
    assert prune_cache(path, older_than_days=-1) == 2
    with pytest.raises(ConfigError, match="expected an age or a model"):
        prune_cache(path)


def test_an_absent_cache_is_said(tmp_path):
    with pytest.raises(DataError, match="no such cache"):
        prune_cache(tmp_path / "x", model="m")
    with pytest.raises(DataError, match="no such cache"):
        export_cache(tmp_path / "x", tmp_path / "y")


def test_a_batchs_answers_are_found_by_the_run_that_asks_the_same(tmp_path, task, prompt):
    asked = [prompt.request(task, {}, t, t, "m") for t in ("one", "two", "three")]
    plain = Request("plain", "m", [{"role": "user", "content": "hi"}], {"max_tokens": 3})
    requests, results = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests.write_bytes(b"".join(request_line(r.custom_id, r, "m") for r in [*asked, plain]))

    def result(name, content, status=200):
        message = {"role": "assistant", "content": content}
        body = {"model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}]}
        if status != 200:
            body = {"error": {"message": "no"}}
        return json.dumps(
            {"custom_id": name, "response": {"status_code": status, "body": body}, "error": None}
        )

    said = [result(n, f"<{n}>") for n in ("plain", "one", "two")] + [result("three", "", 500)]
    results.write_text("\n".join(said))
    path = tmp_path / "answers.sqlite"
    assert import_batch(path, requests, results, provider="here") == ImportReport(3, 0, 1)

    class Nobody:
        provider = "here"

        async def complete(self, request):
            raise AssertionError(f"asked {request.custom_id}")

        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc_info):
            pass

    with Cache(path) as cache:
        answers = complete_all([*asked[:2], plain], Nobody(), cache=cache)
    assert [a.text for a in answers] == ["<one>", "<two>", "<plain>"]
    results.write_text(result("stranger", "x"))
    with pytest.raises(DataError, match="'stranger' has no request"):
        import_batch(path, requests, results)
