"""A recipe on documents: read, curated, cut, asked about, searched, exported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from llmlabel.errors import ConfigError, DataError
from llmlabel.io.runs import read_json
from llmlabel.recipe import load_recipe, plan, run
from llmlabel.report import Results

pytest.importorskip("bm25s", reason="bm25s is not installed (llmlabel[rag])")
pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed (llmlabel[rag])")
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "rag-curation"


@pytest.fixture
def small(tmp_path):
    """A folder of a few documents of several formats, and a recipe."""
    folder = tmp_path / "docs"
    (folder / "pages").mkdir(parents=True)
    long = "You can send it back within 30 days if it is dry and clean. " * 6
    (folder / "pages" / "returns.md").write_text(
        f"# Returns\n\n## How long do I have?\n\n{long}\n\n## Who pays?\n\nWe pay in the country."
        + " The label is in the box, and the parcel shop takes it without a form." * 4
    )
    (folder / "pages" / "gas.md").write_text(
        "# Gas\n\n## Can it fly?\n\n" + "Canisters go by road and take five days to arrive. " * 8
    )
    (folder / "pages" / "copy.md").write_text(
        f"# Returns\n\n## How long do I have?\n\n{long}\n\n## Who pays?\n\nWe pay in the country."
        + " The label is in the box, and the parcel shop takes it without any form." * 4
    )
    (folder / "pages" / "broken.pdf").write_bytes(b"%PDF-1.4 no")
    steps = [
        {"step": "curate", "encoder": "tfidf-svd"},
        {"step": "chunk", "size": 60, "tokenizer": "words"},
        {"step": "questions"},
        {"step": "retrieve", "by": ["bm25"], "k": 5},
        {"step": "export", "to": ["parquet", "langchain", "llama_index"]},
        {"step": "report"},
    ]

    def make(change=lambda recipe: None):
        recipe = {"name": "docs", "data": {"documents": "pages"}, "steps": steps}
        change(recipe)
        with (folder / "recipe.yaml").open("w") as handle:
            YAML().dump(recipe, handle)
        return folder

    return make


def test_documents_of_several_formats_become_passages_and_questions(small, tmp_path):
    folder = small()
    out = run(load_recipe(folder), tmp_path / "out")
    results = Results.read(out)
    assert results.facts("documents")["read"] == 3
    assert "broken.pdf" in (out / "report.html").read_text()
    actions = pq.read_table(results.path("curate", "actions.parquet")).to_pylist()
    merged = [a for a in actions if a["action"] == "merge"]
    assert len(merged) == 1
    assert {merged[0]["id"], merged[0]["into"]} == {"copy.md", "returns.md"}
    passages = pq.read_table(results.path("chunk", "passages.parquet")).to_pylist()
    assert max(p["tokens"] for p in passages) <= 60
    asked = pq.read_table(results.path("questions", "questions.parquet")).to_pylist()
    assert {q["by"] for q in asked} == {"heading"}
    assert "Gas: Can it fly?" in [q["question"] for q in asked]
    found = read_json(results.path("retrieve", "retrieval.json"))["methods"]["bm25"]
    assert found["after"]["ndcg@5"] >= found["before"]["ndcg@5"] > 0
    lines = (results.path("export", "langchain.jsonl")).read_text().splitlines()
    assert len(lines) == len(passages)
    page = (out / "report.html").read_text()
    assert "made of headings, which favour keyword search" in page
    again = run(load_recipe(folder), tmp_path / "out")
    assert Results.read(again).steps.keys() == results.steps.keys()


def test_an_llm_writes_questions_that_are_filtered(small, tmp_path):
    """Recorded answers: one good question, one whose quote is in no passage."""
    from llmlabel.llm import load_prompt, write_recorded
    from llmlabel.rag.questions import question_rows

    folder = small()
    first = run(load_recipe(folder), tmp_path / "first", until="chunk")
    passages = pq.read_table(Results.read(first).path("chunk", "passages.parquet"))
    rows = question_rows(passages, per_passage=1, seed=0).to_pylist()
    prompt, task = load_prompt("passage-question"), load_recipe(folder).task
    said = {
        r["id"]: {
            "answerable": "yes",
            "question": f"What is said of {r['headings'].split(' > ')[-1]} in place {i}?",
            "answer": "This.",
            "quote": r["text"].split(". ")[0][:40] if i else "not in it",
            "difficulty": "easy",
        }
        for i, r in enumerate(rows)
    }
    write_recorded(folder / "answers.jsonl", said, prompt, task, rows, model="m", created=1)

    def ask(recipe):
        recipe["steps"][2] |= {
            "client": {"use": "recorded", "answers": "answers.jsonl"},
            "per_passage": 1,
        }

    recipe = load_recipe(small(ask))
    fresh = {s.name: s for s in plan(recipe, tmp_path / "out")}["questions"]
    assert fresh.free == "recorded"
    assert fresh.cost.calls > len(rows), "those of the copy, too, which is gone before it asks"
    run(recipe, tmp_path / "out", until="chunk")
    known = {s.name: s for s in plan(recipe, tmp_path / "out")}["questions"]
    assert known.cost.calls == len(rows)
    out = run(recipe, tmp_path / "out", until="questions")
    facts = Results.read(out).facts("questions")
    assert facts["from"] == "llm"
    assert facts["made"] == len(rows)
    assert facts["dropped"]["no quote"] == 1
    assert facts["questions"] == len(rows) - sum(facts["dropped"].values())


def test_an_llm_judges_what_may_contradict(small, tmp_path):
    """The second page says 45 days; a recorded judge finds the first one out of date."""
    from llmlabel.llm import load_prompt, write_recorded
    from llmlabel.rag.contradictions import VERDICTS
    from llmlabel.schema import Task

    folder = small()
    for name, days, fee in (("copy", 45, 6), ("returns", 30, 4)):
        (folder / "pages" / f"{name}.md").write_text(
            "# Returning a tent\n\nA tent that was not pitched can be sent back to the shop in "
            f"Leeds. You have {days} days from the day that the parcel arrived at your door. "
            f"The label for the way back costs {fee} pounds and is in your account. Please dry "
            "the fabric, count the pegs and poles, and put all of it into the bag it came in."
        )
    first = run(load_recipe(folder), tmp_path / "first", until="curate")
    results = Results.read(first)
    assert results.facts("curate")["contradiction_candidates"] == 1
    pairs = pq.read_table(results.path("curate", "contradictions.parquet")).to_pylist()
    task = Task("contradiction", VERDICTS, text=("left_text", "right_text"))
    current = "left" if pairs[0]["left"] == "copy.md" else "right"
    said = {"verdict": "contradict", "current": current, "question": "How long?"}
    answers = {pairs[0]["id"]: {**said, "difference": "30 or 45 days"}}
    prompt = load_prompt("contradiction")
    write_recorded(folder / "judged.jsonl", answers, prompt, task, pairs, model="m", created=1)
    client = {"use": "recorded", "answers": "judged.jsonl"}
    recipe = load_recipe(small(lambda r: r["steps"][0].update(client=client)))
    out = Results.read(run(recipe, tmp_path / "out", until="curate"))
    actions = {a["id"]: a for a in pq.read_table(out.path("curate", "actions.parquet")).to_pylist()}
    assert actions["returns.md"]["flaw"] == "CONTRADICTION"
    assert actions["returns.md"]["action"] == "tag"
    assert "30 or 45 days" in actions["returns.md"]["reason"]
    assert "CONTRADICTION" not in actions["copy.md"]["flaws"]


def cross_encoder(folder: Path) -> None:
    """A random cross-encoder of one layer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "gas", "returns", "days"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), intermediate_size=16, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_meaning_cuts_a_cross_encoder_orders_and_stores_are_filled(small, tmp_path):
    pytest.importorskip("lancedb", reason="lancedb is not installed (llmlabel[rag])")
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    from llmlabel.rag.qdrant import QdrantStore
    from llmlabel.rag.store import LanceStore

    def change(recipe):
        words = {"encoder": "tfidf-svd"}
        recipe["steps"][1] |= {"by": "semantic", **words}
        recipe["steps"][3] |= {"by": ["dense", "hybrid"], "rerank": "judge", **words}
        recipe["steps"][4] |= {"to": ["lancedb", "qdrant"], **words}

    folder = small(change)
    cross_encoder(folder / "judge")
    results = Results.read(run(load_recipe(folder), tmp_path / "out"))
    passages = pq.read_table(results.path("chunk", "passages.parquet"))
    assert results.facts("chunk")["longest"] <= 60
    found = read_json(results.path("retrieve", "retrieval.json"))["methods"]
    # The first five of so few passages are all of them: one judge gives one order.
    assert found["dense"]["after"] == found["hybrid"]["after"]
    assert len(LanceStore(results.path("export", "lancedb"))) == passages.num_rows
    store = QdrantStore(results.path("export", "qdrant"))
    assert len(store) == passages.num_rows
    store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["steps"][0].update(actions={"OUTDATE": "tag"}), "did you mean 'OUTDATED'"),
        (lambda r: r["steps"][1].update(overlap=60), "overlap: expected less than size 60"),
        (lambda r: r["steps"].insert(0, {"step": "embed"}), "works on rows; data: names documents"),
        (lambda r: r["steps"].pop(1), "needs a step 'chunk' before it"),
        (lambda r: r["data"].update(train="x.csv"), "one of them, got train and documents"),
        (lambda r: r["steps"][2].update(client={"use": "openai", "endpoint": "no"}), "no"),
    ],
)
def test_mistakes_are_told_before_anything_runs(small, tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        run(load_recipe(small(change)), tmp_path / "out")
    assert not (tmp_path / "out" / "steps").exists()


def test_questions_of_a_file_need_their_columns(small, tmp_path):
    folder = small(lambda r: r["steps"][2].update(file="q.jsonl"))
    (folder / "q.jsonl").write_text('{"id": "1", "question": "x?", "relevent": {"gas.md": 2}}\n')
    with pytest.raises(
        DataError, match="'relevant': the column is missing, did you mean 'relevent'"
    ):
        run(load_recipe(folder), tmp_path / "out")
    assert next(iter(plan(load_recipe(folder)))).name == "documents"


def test_the_help_centre_is_found_better_after_curation(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "llmlabel", "run", str(RECIPE), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = Results.read(tmp_path / "out")
    measured = read_json(results.path("curate", "measured.json"))
    assert measured["good_left_out"] <= 1
    handled = {f["flaw"]: f["handled"] / f["known"] for f in measured["flaws"]}
    assert min(handled[f] for f in ("OUTDATED", "BOILERPLATE", "NEAR_DUPLICATE")) >= 0.9
    found = read_json(results.path("retrieve", "retrieval.json"))
    assert found["questions"] == 150
    hybrid = found["methods"]["hybrid"]
    assert hybrid["before"]["ndcg@10"] == pytest.approx(0.767, abs=0.01), "as README says"
    assert hybrid["after"]["ndcg@10"] == pytest.approx(0.801, abs=0.01)
    assert hybrid["p_value"] < 0.05
    triplets = [
        json.loads(line)
        for line in results.path("negatives", "triplets.jsonl").read_text().splitlines()
    ]
    assert len(triplets) == 600
    assert all(t["positive"] != t["negative"] for t in triplets)
