import asyncio
import json

import pytest

from benchmarks.record_ratings import RECIPE, record_ratings
from benchmarks.shared import SHARED, read_jsonl
from llmlabel.errors import RecordedAnswerError
from llmlabel.io import list_shards
from llmlabel.io.reading import read_shard
from llmlabel.llm import RecordedClient, load_prompt
from llmlabel.llm.answers import check_answer
from llmlabel.schema import Task

TASK = Task("quality", ["KEEP", "DROP"])
RATINGS = RECIPE / "data" / "ratings.jsonl"


def answer_to(client, row):
    request = load_prompt("document-quality").request(TASK, row, row["text"], row["id"])
    return json.loads(asyncio.run(client.complete(request)).text)


def test_ratings_are_replayed_for_the_rows_given_and_for_no_other_text(tmp_path):
    rows = read_jsonl(RECIPE / "data" / "labeled.jsonl")[:5]
    target = tmp_path / "answers.jsonl"
    count = record_ratings(RATINGS, [*rows, rows[0], {"id": "else", "text": "x"}], TASK, target)
    client = RecordedClient(target)
    said = {r["id"]: r for r in read_jsonl(RATINGS)}
    assert count == len(client) == 5
    for row in rows:
        assert {"id": row["id"], **answer_to(client, row)} == said[row["id"]]
    with pytest.raises(RecordedAnswerError, match="is not the one that was recorded"):
        answer_to(client, {"id": rows[0]["id"], "text": "another text"})


def test_every_document_of_the_recipe_is_rated_once():
    pytest.importorskip("fastwarc")
    pytest.importorskip("trafilatura")
    shards = list_shards(RECIPE / "documents").shards
    batches = [batch for shard in shards for batch in read_shard(shard)]
    ids = [i for batch in batches for i in batch.documents["id"].to_pylist()]
    ids += [row["id"] for row in read_jsonl(RECIPE / "data" / "labeled.jsonl")]
    rated = [row["id"] for row in read_jsonl(RATINGS)]
    assert sorted(rated) == sorted(ids) and len(set(ids)) == len(ids)
    aside = [row["what"] for batch in batches for row in batch.set_aside.to_pylist()]
    assert sorted(aside) == ["not JSON", "not JSON", "not UTF-8"]


def test_the_shared_ratings_are_answers_to_the_prompt():
    if not SHARED.is_dir():
        pytest.skip(f"reads {SHARED}, which is not here")
    schema = load_prompt("document-quality").schema(TASK)
    rows = read_jsonl(SHARED / "web" / "ratings.jsonl")
    answers = [{f: row[f] for f in schema["properties"]} for row in rows]
    assert len(answers) == 816
    assert [check_answer(a, schema) for a in answers] == answers
