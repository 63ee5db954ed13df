"""The shipped recipe that filters a corpus, through the command line to the report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from llmlabel.errors import ConfigError
from llmlabel.io import read_table
from llmlabel.recipe import explain_row
from llmlabel.recipe.analyzing import analyze_run
from llmlabel.recipe.exporting import export_run
from llmlabel.report import Results, build

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "pretraining-filter"
CLEANED = ("text", "language", "benchmarks")
for name in ("fastwarc", "trafilatura", "zstandard", "py3langid", "phonenumbers", "ftfy"):
    pytest.importorskip(name, reason=f"needs {name} (llmlabel[corpus])")


def llmlabel(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmlabel", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def filtered(tmp_path_factory) -> tuple[Results, str]:
    out = tmp_path_factory.mktemp("filtered") / "out"
    done = llmlabel("run", RECIPE, "--out", out)
    assert done.returncode == 0, done.stderr
    return Results.read(out), done.stderr


@pytest.fixture(scope="module")
def page(filtered) -> str:
    return (filtered[0].folder / "report.html").read_text()


def test_the_funnel_adds_up(filtered, part_rows):
    results, said = filtered
    clean, dedup, facts = (results.facts(step) for step in ("clean", "dedup", "filter"))
    assert (clean["read"], clean["left"]) == (435, dedup["documents"])
    assert clean["read"] == clean["left"] + sum(clean["dropped"].values())
    assert facts["documents"] == 435 == facts["kept"] + sum(facts["dropped"].values())
    assert facts["kept"] == pytest.approx(184, abs=8), "as the recipe's README says"
    assert {s: facts["dropped"][s] for s in CLEANED} == clean["dropped"]
    assert facts["dropped"]["dedup"] == dedup["dropped"]
    decisions = part_rows(results, "filter", "decisions")
    assert len({r["id"] for r in decisions}) == len(decisions) == 435
    assert facts["dropped"] == Counter(r["step"] for r in decisions if not r["keep"])
    assert sum(facts["scores"].values()) == facts["kept"] + facts["dropped"]["filter"]
    for name in ("source", "language"):
        counts = facts[name].values()
        assert sum(v["documents"] for v in counts) == 435
        assert sum(v["kept"] for v in counts) == facts["kept"]
    line = next(line for line in said.splitlines() if " clean " in line)
    assert "read 435; left 388; dropped: benchmarks 4, language 42, text 1" in line


def test_what_is_damaged_is_named(filtered, part_rows):
    rows = part_rows(filtered[0], "clean", "set_aside")
    assert {(r["file"], r["line"], r["what"]) for r in rows} == {
        ("crawl-01.jsonl.gz", 32, "not UTF-8"),
        ("crawl-01.jsonl.gz", 78, "not JSON"),
        ("crawl-02.jsonl.zst", 41, "not JSON"),
    }
    assert all(r["reason"] for r in rows)


def test_leaks_are_dropped_and_personal_data_is_masked(filtered, part_rows):
    results, _ = filtered
    decisions = {r["id"]: r for r in part_rows(results, "filter", "decisions")}
    leaks = [r for r in decisions.values() if r["step"] == "benchmarks"]
    assert len(leaks) == 4
    assert all(r["reason"].startswith("in benchmark benchmark: ") for r in leaks)
    assert decisions["doc-empty"]["reason"] == "empty"
    texts = [r["text"] for r in part_rows(results, "clean", "documents")]
    texts += [r["text"] for r in part_rows(results, "filter", "samples")]
    together = "\n".join(texts)
    for secret in ("@example.org", "4111 1111 1111 1111", "4111111111111111"):
        assert secret not in together
    for mask in ("<EMAIL>", "<PHONE>", "<IBAN>", "<CARD>"):
        assert mask in together
    asked = read_table(results.path("sample", "rows.parquet"))["text"].to_pylist()
    assert "@example.org" not in "\n".join(asked), "nor does the LLM get to see it"


def test_the_threshold_keeps_as_many_as_the_label_model(filtered, part_rows):
    results, _ = filtered
    threshold = results.facts("filter")["threshold"]
    for r in part_rows(results, "filter", "decisions"):
        if r["score"] is not None:
            assert r["keep"] == (r["score"] >= threshold)
    held = read_table(results.path("distill", "held_out.train.parquet"))
    labels = read_table(results.path("aggregate", "labels.train.parquet"))
    column = next(c for c in held.column_names if c.endswith("KEEP"))
    student = np.mean(held[column].to_numpy() >= threshold)
    assert student == pytest.approx(np.mean(labels[column].to_numpy() > 0.5), abs=0.02)
    measured = {r["key"]: r["accuracy"]["value"] for r in results.evaluation["test"]}
    assert measured["label_model"] > 0.9
    assert measured["student"] > 0.75


@pytest.mark.parametrize(
    "said",
    [
        "What became of the corpus",
        "documents read 435, with text 434, in the languages wanted 392",
        "What each step dropped",
        "By source",
        "By language",
        "39 others",
        "Duplicates</h2>",
        "39 clusters, 42 documents dropped (exact 13, near 29)",
        "Personal data and secrets found: email",
        "Set aside</h2>",
        "byte 0xe9 at position 35",
        "histogram of the student&#39;s probability of KEEP",
        "From rows to student",
        "gopher_quality.min_alphabetic_words",
        "How it was made",
    ],
)
def test_the_page_has_each_part(page, said):
    assert said in page


def test_the_page_links_to_what_there_is(page):
    for anchor in page.split('href="#')[1:]:
        assert f'id="{anchor.split(chr(34))[0]}"' in page
    assert "<script" not in page
    assert "src=" not in page.split("<body>")[0]
    assert "@example.org" not in page


def test_run_again_does_nothing(filtered):
    results, _ = filtered
    before = {p: p.stat().st_mtime_ns for p in results.folder.glob("steps/*/manifest.json")}
    done = llmlabel("run", RECIPE, "--out", results.folder, "--json")
    assert done.returncode == 0, done.stderr
    assert [line[0] for line in done.stderr.splitlines()[:11]] == ["="] * 11
    assert len(before) == 11
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert json.loads(done.stdout)["evaluation"]["test"]


def test_a_plan_of_a_fresh_corpus_tells_what_asking_costs(tmp_path):
    recipe = (RECIPE / "recipe.yaml").read_text()
    recorded = "client: {use: recorded, answers: data/answers.jsonl}"
    assert recorded in recipe
    file = tmp_path / "recipe.yaml"
    asks = "client: {use: openai, model: gpt-4o-mini}"
    file.write_text(
        recipe.replace(recorded, asks)
        .replace("corpus: documents", f"corpus: {RECIPE / 'documents'}")
        .replace("data/", f"{RECIPE}/data/")
    )
    done = llmlabel("plan", file, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    steps = {s["step"]: s for s in json.loads(done.stdout)["steps"]}
    cost = steps["ask-document-quality"]["cost"]
    assert not any(s["done"] for s in steps.values())
    assert cost["total"] == 415
    assert 0.01 < cost["usd"]["low"] < cost["usd"]["expected"] < cost["usd"]["high"] < 2
    assert not (tmp_path / "out").exists()


def test_commands_on_a_run(filtered, tmp_path):
    results, _ = filtered
    labeled = RECIPE / "data" / "labeled.jsonl"
    done = llmlabel("predict", results.folder, labeled, "--out", tmp_path / "p.parquet")
    assert done.returncode == 0, done.stderr
    found = pq.read_table(tmp_path / "p.parquet")
    assert found["given.label"].to_pylist() == [
        json.loads(line)["label"] for line in labeled.read_text().splitlines()
    ]
    assert set(found["label"].to_pylist()) == {"KEEP", "DROP"}
    with pytest.raises(ConfigError, match="it has no scikit-learn form"):
        export_run(results.folder, tmp_path / "model")
    assert build(results.folder) == (results.folder / "report.html").read_text()


def test_rules_are_analyzed_and_explained(filtered):
    results, _ = filtered
    covers = {r["name"]: r["Coverage"] for r in analyze_run(results, with_effects=False).rows()}
    assert 0 < covers["gopher_repetition"] < 1
    votes = results.votes("train")
    at = int(np.flatnonzero(votes.votes[:, votes.lf_names.index("fineweb")] >= 0)[0])
    told = explain_row(results.folder, results.rows("train")["id"][at].as_py())
    why = {v["lf"]: v["why"] for v in told["votes"]}
    assert any(word in why["fineweb"] for word in ("above", "below"))


def test_a_copy_of_ones_own_runs(tmp_path):
    made = llmlabel("init", "pretraining-filter", tmp_path / "mine", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert {p.name for p in (tmp_path / "mine" / "documents").iterdir()} == {
        p.name for p in (RECIPE / "documents").iterdir()
    }
    (tmp_path / "where.yaml").write_text("engine: {use: local, workers: 1}\n")
    done = llmlabel(
        "run", tmp_path / "mine", "--until", "label", "--config", tmp_path / "where.yaml",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Results.read(tmp_path / "out").facts("label")["covered"] == {"train": 300, "test": 115}
