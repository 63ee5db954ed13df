"""Recipes that ask a live server: a process of its own, over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmlabel.errors import BudgetExceeded, ClientError, ConfigError
from llmlabel.io import read_table
from llmlabel.recipe import explain_row, load_recipe, plan, retry, run
from llmlabel.report import Results, build

PROMPT = """---
name: judge
version: 3
model: gpt-4o-mini
max_tokens: 50
answer:
  label: {enum: [$classes, UNSURE]}
  confidence: {type: number, minimum: 0.5, maximum: 1}
---
system:
{% for c in task.classes %}{{ c.name }}: {{ c.description }}
{% endfor %}
user:
{{ text }}
"""


@pytest.fixture
def live(make_recipe, server, tmp_path, monkeypatch):
    """Return a function that makes a recipe which asks the server, with an answer cache of its own."""
    monkeypatch.setenv("LLMLABEL_CACHE", str(tmp_path / "cache"))

    def make(url: str = server.base_url, **ask):
        def change(data):
            step = {
                "step": "ask",
                "prompt": "judge.md",
                "client": {"use": "openai", "base_url": url, "api_key_env": "LLMLABEL_TEST_KEY"},
                "rows": {"train": "all"},
                **ask,
            }
            data["steps"].insert(1, step)
            lfs = next(s for s in data["steps"] if s["step"] == "label")["lfs"]
            sure = "label.confidence" if "confidence" in ask else "confidence"
            lfs.append(
                {
                    "lf": "answer",
                    "name": "llm",
                    "prompt": "judge",
                    "field": "label",
                    "confidence": sure,
                }
            )

        folder = make_recipe(change)
        (folder / "judge.md").write_text(PROMPT)
        return load_recipe(folder)

    return make


def answers(out) -> pa.Table:
    return read_table(next(out.glob("steps/ask-judge-*/answers.parquet")))


def test_answers_become_votes_with_provenance_and_cost(live, server, tmp_path):
    out = run(live(), tmp_path / "out")
    results = Results.read(out)
    table = answers(out)
    assert server.stats()["calls"] == len(set(results.rows("train")["text"].to_pylist()))
    assert set(table["status"].to_pylist()) == {"ok"}
    votes = results.votes("train")
    assert votes.confidences is not None
    assert (votes["llm"] >= 0).any()
    facts = results.facts("ask-judge")
    assert facts["usd"] > 0
    voted = next(v for v in table.to_pylist() if '"UNSURE"' not in v["answer"])
    found = explain_row(out, voted["id"])
    call = next(v["provenance"] for v in found["votes"] if v["lf"] == "llm")
    assert call["prompt_version"] == "3"
    assert call["model"] == "gpt-4o-mini-2026"
    assert call["latency_s"] > 0
    assert len(call["key"]) == 64
    page = (out / "report.html").read_text()
    assert "What the LLM cost" in page
    assert "sk-test-secret" not in page


def test_a_second_run_elsewhere_pays_nothing(live, server, tmp_path):
    recipe = live()
    planned = next(s for s in plan(recipe, tmp_path / "a") if s.cost is not None)
    assert planned.cost.calls == 60
    assert planned.cost.usd is not None
    assert planned.cost.usd.high > 0
    run(recipe, tmp_path / "a")
    calls = server.stats()["calls"]
    run(recipe, tmp_path / "b")
    assert server.stats()["calls"] == calls
    assert next(s for s in plan(recipe, tmp_path / "c") if s.cost is not None).cost.calls == 0


def test_kill_9_while_asking_repeats_at_most_what_was_in_flight(live, server, tmp_path):
    recipe = live(client={
        "use": "openai", "base_url": server.base_url, "api_key_env": "LLMLABEL_TEST_KEY", "max_in_flight": 4,
    })  # fmt: skip
    server.configure(latency_s=0.1)
    command = [
        sys.executable,
        "-m",
        "llmlabel",
        "run",
        str(recipe.folder),
        "--out",
        str(tmp_path / "out"),
    ]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while server.stats()["calls"] < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    run(recipe, tmp_path / "out", until="aggregate")
    calls = server.stats()["by_text"]
    assert len(calls) == 60
    assert sum(calls.values()) <= 60 + 4


def test_failed_rows_are_told_and_can_be_retried_alone(live, server, tmp_path):
    server.configure(rules=[{"contains": "lovely song 3", "do": [400], "forever": True}])
    recipe = live()
    out = run(recipe, tmp_path / "out")
    failed = [r for r in answers(out).to_pylist() if r["status"] == "failed"]
    assert [r["id"] for r in failed] == ["a3-HAM-0"]
    assert failed[0]["reason"]
    assert "1 calls of ask-judge failed for good" in (out / "report.html").read_text()
    server.configure()
    assert retry(recipe, out) == 1
    assert server.stats()["calls"] == 1
    assert set(answers(out)["status"].to_pylist()) == {"ok"}
    assert retry(recipe, out) == 0


def test_a_bad_key_ends_the_run_in_the_servers_words_without_the_key(live, server, tmp_path):
    server.configure(api_key="another")
    with pytest.raises(ClientError, match="Incorrect API key") as caught:
        run(live(), tmp_path / "out")
    assert "sk-test-secret" not in str(caught.value)


def test_a_budget_is_not_passed_and_what_was_paid_is_kept(live, server, tmp_path):
    with pytest.raises(BudgetExceeded):
        run(live(budget={"max_calls": 25}), tmp_path / "out")
    assert server.stats()["calls"] == 25
    run(live(budget={"max_calls": 35}), tmp_path / "out")
    assert server.stats()["calls"] == 60


def test_samples_give_a_confidence(live, server, tmp_path):
    out = run(live(confidence={"of": "label", "by": "samples", "samples": 3}), tmp_path / "out")
    assert server.stats()["calls"] == 180
    votes = Results.read(out).votes("train")
    assert votes.confidences is not None
    sure = votes.confidences[votes["llm"] >= 0, votes.position("llm")]
    assert sure == pytest.approx((3 + 1 / 3) / 4)  # this server says the same each time


def test_without_logprobs_nothing_is_made_up(live, tmp_path):
    out = run(live(confidence={"of": "label", "by": "logprobs"}), tmp_path / "out")
    assert Results.read(out).votes("train").confidences is None


def test_the_prompts_lean_is_taken_out_of_confidences(live, server, tmp_path):
    server.configure(lean=4.0)
    recipe = live(confidence={"of": "label", "by": "logprobs", "contextual": True})
    planned = next(s for s in plan(recipe, tmp_path / "a") if s.cost is not None)
    out = run(recipe, tmp_path / "out")
    assert planned.cost.calls == server.stats()["calls"]  # those about no row are planned too
    facts = Results.read(out).facts("ask-judge")
    assert facts["asked"] == {"train": 60}
    first, second, third = facts["contextual_bias"]
    assert second - first == pytest.approx(np.log(4.0))
    assert second == pytest.approx(third)
    sure = {json.loads(a)["label.confidence"] for a in answers(out)["answer"].to_pylist()}
    assert sorted(sure) == pytest.approx([3 / 5] * len(sure))  # without the lean: 3 against 1 and 1


def test_examples_are_shown_and_their_answers_checked(live, server, tmp_path):
    recipe = live(examples={"file": "examples.csv", "n": 2, "balance": "label"})
    (recipe.folder / "examples.csv").write_text(
        "text,label,confidence\nbuy followers,SPAM,1\nnice tune,HAM,0.9\nsend money,SPAM,1\n"
    )
    run(recipe, tmp_path / "out", until="ask")
    roles = [m["role"] for m in server.stats()["last"]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    (recipe.folder / "examples.csv").write_text("text,label,confidence\nbuy,SPOM,1\n")
    with pytest.raises(ConfigError, match="the example 'buy'"):
        run(recipe, tmp_path / "out", until="ask")


def test_rows_share_a_request_and_none_is_lost(live, server, tmp_path):
    out = run(live(rows_per_request=10), tmp_path / "out", until="label")
    assert answers(out).num_rows == 60
    # This server knows nothing of numbered rows: what it omits is asked alone.
    assert set(answers(out)["status"].to_pylist()) == {"ok"}


def test_an_endpoint_of_a_config_file(live, server, tmp_path):
    recipe = live(client={"use": "openai", "endpoint": "lab"})
    config = tmp_path / "where.yaml"
    config.write_text(
        f"endpoints:\n  lab: {{base_url: '{server.base_url}', api_key_env: LLMLABEL_TEST_KEY, model: own}}\n"
        "prices:\n  own: {input: 1.0, output: 2.0}\n"
    )
    out = run(load_recipe(recipe.folder, config=config), tmp_path / "out")
    assert set(answers(out)["model"].to_pylist()) == {"own-2026"}
    assert Results.read(out).facts("ask-judge")["usd"] > 0  # by the user's own price
    with pytest.raises(ConfigError, match="unknown endpoint 'lab'"):
        plan(recipe, tmp_path / "none")


def test_batch_mode_and_answers_outside_the_schema(live, batches, tmp_path):
    recipe = live(batches.base_url, mode="batch", poll_s=0.05)
    out = run(recipe, tmp_path / "out", until="aggregate")
    table = answers(out)
    assert table.num_rows == 60
    # This server answers in free text: told apart from abstains and from failures.
    assert set(table["status"].to_pylist()) == {"invalid"}
    assert Results.read(out).votes("train").coverage()[-1] == 0
    assert "60 answers of ask-judge were outside the schema" in build(out)


def test_each_prompt_is_measured_on_its_own_rows(live, server, tmp_path):
    """Another prompt's rows do not count against the one that is 'the LLM alone'."""
    recipe = live(rows={"train": 20})
    (recipe.folder / "other.md").write_text(PROMPT.replace("name: judge", "name: other"))
    file = recipe.folder / "recipe.yaml"
    step = f"""- step: ask
  prompt: other.md
  client: {{use: openai, base_url: '{server.base_url}', api_key_env: LLMLABEL_TEST_KEY}}
  rows: {{train: 40}}
- step: label
"""
    file.write_text(file.read_text().replace("- step: label\n", step))
    out = run(load_recipe(recipe.folder), tmp_path / "out")
    alone = next(r for r in Results.read(out).evaluation["train"] if r["key"] == "llm_alone")
    assert alone["n"] == 20
    assert alone["ece"] is not None
    assert "140 %" not in (out / "report.html").read_text()


def test_another_server_is_another_question(live, server, batches, tmp_path):
    run(live(), tmp_path / "out")
    planned = plan(live(batches.base_url), tmp_path / "out")
    assert [s.done for s in planned if s.name == "ask-judge"] == [False]


def test_cache_commands_carry_paid_answers_elsewhere(live, server, tmp_path, monkeypatch):
    def llmlabel(*arguments: object) -> str:
        command = [sys.executable, "-m", "llmlabel", "cache", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert llmlabel("stats").strip() == "no answers yet"
    run(live(), tmp_path / "out", until="ask")
    assert "gpt-4o-mini-2026" in llmlabel("stats")
    assert llmlabel("export", tmp_path / "paid.jsonl").startswith("60 answers")
    monkeypatch.setenv("LLMLABEL_CACHE", str(tmp_path / "elsewhere"))
    assert llmlabel("import", tmp_path / "paid.jsonl").startswith("60 answers added")
    calls = server.stats()["calls"]
    run(live(), tmp_path / "again", until="ask")
    assert server.stats()["calls"] == calls
    assert llmlabel("prune", "--model", "gpt-4o-mini-2026").startswith("60 answers forgotten")
    assert '"answers": 0' in llmlabel("stats", "--json") or '"models": []' in llmlabel(
        "stats", "--json"
    )


def test_a_local_model_scores_the_classes(live, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs transformers (llmlabel[local])")
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "llm"))
    from tiny_model import save_tiny_model

    model = save_tiny_model(tmp_path / "model")
    recipe = live(client={"use": "local", "model": str(model)})
    planned = next(s for s in plan(recipe, tmp_path / "out") if s.cost is not None)
    assert (planned.cost.calls, planned.free) == (60, "local")
    out = run(recipe, tmp_path / "out", until="aggregate")
    assert set(answers(out)["status"].to_pylist()) == {"ok"}
    assert "0 (local)" in build(out)
    assert run(recipe, tmp_path / "again", until="ask") != out
    assert all(answers(tmp_path / "again")["cached"].to_pylist())


def test_stated_confidences_are_calibrated_by_a_few_known_rows(live, server, tmp_path):
    """This server states .5 whatever it says; told that it is always right, it is surer."""
    recipe = live(confidence={"of": "label", "by": "stated", "calibrate": "known.csv"})
    plain = run(live(), tmp_path / "plain", until="ask")
    said = {r["id"]: json.loads(r["answer"])["label"] for r in answers(plain).to_pylist()}
    recipe = live(confidence={"of": "label", "by": "stated", "calibrate": "known.csv"})
    known = [(i, label) for i, label in said.items() if label != "UNSURE"][:20]
    text = "id,label\n" + "".join(f"{i},{label}\n" for i, label in known)
    (recipe.folder / "known.csv").write_text(text)
    out = run(recipe, tmp_path / "out")
    facts = Results.read(out).facts("ask-judge")
    assert facts["calibration_rows"] == len(known)
    (recipe.folder / "known.csv").write_text("id,label\na0-HAM-0,HMA\n")
    with pytest.raises(ConfigError, match="unknown value 'HMA', did you mean 'HAM'"):
        run(recipe, tmp_path / "out")


def test_rows_of_which_the_student_is_not_sure_go_to_the_llm(live, server, tmp_path):
    recipe = live()
    folder = recipe.file.parent
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows = [{**row, "id": f"v-{row['id']}", "text": f"{row['text']} again"} for row in rows]
    (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("  test: ", "  valid: valid.jsonl\n  test: "))
    out = run(load_recipe(folder), tmp_path / "out")
    before = server.stats()["calls"]
    command = [sys.executable, "-m", "llmlabel", "predict", str(out), "-"]
    command += ["--target-accuracy", "0.9999", "--defer-to", "llm", "--text", "text"]
    asked = [{"text": f"a new message number {i}", "at": i} for i in range(9)]
    given = "".join(json.dumps(row) + "\n" for row in asked)

    def predict() -> list[dict]:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    found = predict()
    assert [row["at"] for row in found] == list(range(9))
    told = [row for row in found if row["answered_by"] == "llm"]
    assert told
    assert all(row["label"] in ("HAM", "SPAM") and row["answered"] for row in told)
    left = [row for row in found if row["answered_by"] is None]
    assert all(row["label"] is None for row in left)  # the server said UNSURE
    assert server.stats()["calls"] == before + 9
    # Another text column is what the LLM is shown, too.
    other = given.replace('"text"', '"body"').replace("a new", "another new")
    command[-1] = "body"
    done = subprocess.run(command, input=other, capture_output=True, text=True, check=True)
    bodies = [json.loads(line) for line in done.stdout.splitlines()]
    assert server.stats()["calls"] == before + 18  # nine different prompts, none of them empty
    assert len(bodies) == 9
    command[-1] = "text"
    assert predict() == found  # from the cache: nothing is paid twice
    assert server.stats()["calls"] == before + 18
