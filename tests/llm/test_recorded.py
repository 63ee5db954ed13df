import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from llmlabel.errors import DataError, RecordedAnswerError
from llmlabel.llm import (
    Failure,
    RecordedClient,
    Response,
    complete_all,
    load_prompt,
    parse_answer,
    parse_prompt,
    row_text,
    write_recorded,
)
from llmlabel.schema import Task

TICKETS = Path("/work/shared/data/tickets")

ROWS = [
    {"id": "a", "text": "Subscribe!"},
    {"id": "b", "text": "nice song"},
    {"id": "c", "text": "?"},
]
ANSWERS = {
    "a": {"label": "SPAM", "confidence": 0.9},
    "b": {"confidence": 0.8, "label": "HAM"},
}


@pytest.fixture
def file(tmp_path, prompt, task):
    path = tmp_path / "answers.jsonl"
    assert write_recorded(path, ANSWERS, prompt, task, ROWS, model="m", created=7) == 2
    return path


def request(prompt, task, row):
    return prompt.request(task, row, row["text"], row["id"])


def ask(client, one):
    return asyncio.run(client.complete(one))


def change(path, line, edit):
    """Edit one line of a recording in place."""
    lines = path.read_text().splitlines()
    data = json.loads(lines[line])
    edit(data)
    lines[line] = json.dumps(data)
    path.write_text("\n".join(lines))


def test_what_was_written_is_answered(file, prompt, task):
    client = RecordedClient(file)
    got = ask(client, request(prompt, task, ROWS[0]))
    assert got == Response(
        '{"label": "SPAM", "confidence": 0.9}', "m", created=7, body={"id": "chatcmpl-a"}
    )
    assert parse_answer(got.text, prompt.schema(task)) == ANSWERS["a"]
    assert len(client) == 2


def test_the_file_is_the_batch_format_and_always_the_same_bytes(file, tmp_path, prompt, task):
    line = json.loads(file.read_text().splitlines()[0])
    assert line["custom_id"] == "a" and line["error"] is None
    assert line["response"]["status_code"] == 200
    assert line["response"]["body"]["object"] == "chat.completion"
    metadata = line["response"]["body"]["metadata"]
    assert metadata["prompt"] == "spam"
    assert metadata["prompt_sha256"] == prompt.fingerprint(task)
    assert re.fullmatch("[0-9a-f]{64}", metadata["messages_sha256"])
    write_recorded(tmp_path / "again.jsonl", ANSWERS, prompt, task, ROWS, model="m", created=7)
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_a_row_that_was_not_recorded_is_refused(file, prompt, task):
    with pytest.raises(RecordedAnswerError, match=r"no recorded answer for row 'c' in .*a, b"):
        complete_all([request(prompt, task, row) for row in ROWS], RecordedClient(file))


def test_a_changed_prompt_is_refused(file, prompt, task):
    changed = Task("spam", {"HAM": "a remark", "SPAM": "promotion"})
    with pytest.raises(RecordedAnswerError) as caught:
        ask(RecordedClient(file), request(prompt, changed, ROWS[0]))
    now, then = prompt.fingerprint(changed)[:12], prompt.fingerprint(task)[:12]
    assert str(caught.value) == (
        "prompt 'spam' has changed since its answers were recorded "
        f"(fingerprint {now}... now, {then}... recorded in {file}:1)"
    )
    assert caught.value.fatal and caught.value.hint


def test_another_prompt_is_refused_by_name(file, task):
    other = load_prompt("classify")
    with pytest.raises(RecordedAnswerError, match="'classify' is not the recorded one, 'spam'"):
        ask(RecordedClient(file), request(other, task, ROWS[0]))


def test_a_changed_text_is_refused(file, prompt, task):
    with pytest.raises(RecordedAnswerError, match=r"text of row 'a' is not the one .*:1\)"):
        complete_all(
            [request(prompt, task, {"id": "a", "text": "Subscribe?"})], RecordedClient(file)
        )


def test_a_file_without_provenance_is_refused(file, prompt, task):
    change(file, 0, lambda d: d["response"]["body"].pop("metadata"))
    with pytest.raises(RecordedAnswerError, match=r"answers\.jsonl:1: cannot tell which prompt"):
        ask(RecordedClient(file), request(prompt, task, ROWS[0]))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda d: d.update(response=None, error={"message": "expired"}),
            ":1: recorded an error: expired",
        ),
        (
            lambda d: d["response"].update(
                status_code=400, body={"error": {"message": "too long"}}
            ),
            ":1: recorded status 400: too long",
        ),
        (
            lambda d: d["response"]["body"]["choices"][0]["message"].update(refusal="no"),
            ":1: refused: no",
        ),
        (lambda d: d["response"]["body"].update(choices=[]), ":1: expected a chat completion"),
    ],
)
def test_a_recorded_failure_is_that_rows_failure(file, prompt, task, edit, message):
    change(file, 0, edit)
    asked = [request(prompt, task, row) for row in ROWS[:2]]
    failed, fine = complete_all(asked, RecordedClient(file))
    assert isinstance(failed, Failure) and message in failed.reason and not failed.retryable
    assert isinstance(fine, Response)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", ":3: not JSON"),
        (b"\xff", ":3: not UTF-8 (byte 0xff)"),
        (b"[1]", ":3: expected a line of OpenAI Batch output"),
        (b'{"id": "a", "label": "SPAM"}', ":3: expected a line of OpenAI Batch output"),
        (b'{"custom_id": "x", "response": {}}', ":3, row 'x': expected response.status_code"),
        (b'{"custom_id": "a", "error": {}}', ":3, row 'a': is answered twice; first in line 1"),
    ],
)
def test_a_bad_line_is_named(file, line, message):
    file.write_bytes(file.read_bytes() + line + b"\n")
    with pytest.raises(DataError) as caught:
        RecordedClient(file)
    assert f"{file}{message}" in str(caught.value)


def test_a_missing_and_an_empty_file_are_named(file):
    with pytest.raises(
        DataError, match=r"no such file of recorded answers, did you mean .*answers\.jsonl"
    ):
        RecordedClient(file.with_name("answrs.jsonl"))
    file.write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        RecordedClient(file)


def test_rows_with_the_same_text_keep_their_own_answers(tmp_path, prompt, task):
    rows = [{"id": i, "text": "same"} for i in "ab"]
    path = tmp_path / "twins.jsonl"
    write_recorded(path, ANSWERS, prompt, task, rows, model="m", created=0)
    got = complete_all([request(prompt, task, row) for row in rows], RecordedClient(path))
    assert [json.loads(r.text)["label"] for r in got] == ["SPAM", "HAM"]
    assert [r.cached for r in got] == [False, False]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"a": {"label": "SPAM", "confidence": 90}},
            "row 'a': the answer is outside the schema: confidence",
        ),
        (
            {"a": {**ANSWERS["a"], "why": ""}},
            "row 'a': the answer has fields outside the schema: why",
        ),
        ({**ANSWERS, "z": ANSWERS["a"]}, "row 'z': 1 answers have no row"),
    ],
)
def test_nothing_wrong_is_written(tmp_path, prompt, task, answers, message):
    with pytest.raises(DataError, match=re.escape(message)):
        write_recorded(tmp_path / "x.jsonl", answers, prompt, task, ROWS, model="m", created=0)
    assert list(tmp_path.iterdir()) == []


# --- the recorded answers of shared/data/tickets -----------------------------


def read(name):
    return [json.loads(line) for line in (TICKETS / name).read_text().splitlines()]


def tickets_task():
    """The task with the descriptions of the recorded prompt."""
    meta = json.loads((TICKETS / "meta.json").read_text())
    text = (TICKETS / "llm_prompt.md").read_text()
    described = dict(re.findall(r"^([A-Z_]+): (.*)$", text, re.MULTILINE))
    return Task("tickets", {name: described[name] for name in meta["classes"]})


needs_tickets = pytest.mark.skipif(not TICKETS.is_dir(), reason=f"{TICKETS} is not here")


@needs_tickets
def test_the_tickets_recording_goes_round(tmp_path):
    task, prompt = tickets_task(), load_prompt("support-tickets")
    rows = [row for split in ("train", "valid", "test") for row in read(f"{split}.jsonl")]
    answers = {a.pop("id"): a for a in read("llm_answers.jsonl")}
    path = tmp_path / "answers.jsonl"
    assert write_recorded(path, answers, prompt, task, rows, model="m", created=0) == 1919

    started = time.perf_counter()
    asked = [prompt.request(task, r, row_text(task, r), r["id"]) for r in rows]
    results = complete_all(asked, RecordedClient(path))
    schema = prompt.schema(task)
    parsed = {
        q.custom_id: parse_answer(r.text, schema) for q, r in zip(asked, results, strict=True)
    }
    assert parsed == answers
    assert time.perf_counter() - started < 10


@needs_tickets
def test_the_tickets_prompt_keeps_the_recorded_wording():
    system = load_prompt("support-tickets").render(tickets_task(), {}, "x")[0]["content"]
    recorded = (TICKETS / "llm_prompt.md").read_text().splitlines()
    kept = [line for line in recorded if line in system.splitlines()]
    changed = [line for line in recorded if line not in system.splitlines()]
    assert len(kept) == 17
    # What one message per request and words for y, n, u change.
    assert [line.split(":")[0] for line in changed] == [
        recorded[0],
        "Answer for each message",
        "- label",
        "- confidence",
        "- six questions, y (yes), n (no) or u (cannot tell)",
    ]
    assert recorded[0].replace("Give each message", "Give the message") in system


@needs_tickets
def test_a_reworded_tickets_prompt_is_refused(tmp_path):
    task, prompt = tickets_task(), load_prompt("support-tickets")
    rows = read("valid.jsonl")
    answers = {a.pop("id"): a for a in read("llm_answers.jsonl")}
    path = tmp_path / "answers.jsonl"
    some = {r["id"]: answers[r["id"]] for r in rows}
    write_recorded(path, some, prompt, task, rows, model="m", created=0)
    text = Path(prompt.file).read_text()
    reworded = parse_prompt(text.replace("customer's main need", "customer's chief need"))
    asked = [reworded.request(task, r, row_text(task, r), r["id"]) for r in rows]
    with pytest.raises(RecordedAnswerError, match="'support-tickets' has changed since"):
        complete_all(asked, RecordedClient(path))
