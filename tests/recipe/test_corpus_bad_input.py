"""Whatever stands in the files of a corpus: it is named and set aside, and the run goes on."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmlabel.errors import DataError, LLMLabelError
from llmlabel.recipe import load_recipe, plan
from llmlabel.recipe.steps import clean

for package in ("ftfy", "py3langid", "phonenumbers", "stdnum"):
    pytest.importorskip(package, reason=f"needs {package} (llmlabel[corpus])")


def aside(results, part_rows):
    return {(r["file"], r["line"], r["what"]) for r in part_rows(results, "clean", "set_aside")}


def lines(rows):
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def test_damaged_files_cost_what_is_damaged(small, texts, part_rows):
    rows = texts.rows(40)
    folder = small.shard("a.jsonl", rows[:10]).parent
    broken = gzip.compress(lines(rows[10:20]))[:-40] + gzip.compress(lines(rows[20:25]))
    (folder / "b.jsonl.gz").write_bytes(broken)
    (folder / "c.jsonl").write_bytes(
        lines(rows[25:27]) + b'{"text": "\xff\xfe"}\n[1]\n{"text": null}\n'
    )
    (folder / "d.parquet").write_bytes(b"PAR1 no, it is not")
    (folder / "e.jsonl").touch()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "f.parquet")
    small.shard("g.jsonl", [{"id": "g", "txet": "no text column"}])
    small.shard("h.parquet", [{"id": "h", "txet": "no text column"}])
    small.shard("i.parquet", [{"id": 7, "text": texts.prose("seven")}, {"id": 8, "text": None}])
    small.shard("j.jsonl", [{"id": 9, "text": texts.prose("nine")}, {"text": texts.prose("none")}])
    (folder / "notes.csv").write_text("a,b\n")
    results = small.only(
        "clean", "dedup", "sample", "label", "aggregate", "distill", "filter", "report"
    ).run()
    found = aside(results, part_rows)
    assert {(file, what) for file, _, what in found} == {
        ("b.jsonl.gz", "broken compression"),
        ("c.jsonl", "not UTF-8"),
        ("c.jsonl", "no object"),
        ("c.jsonl", "no text"),
        ("d.parquet", "unreadable"),
        ("e.jsonl", "empty"),
        ("f.parquet", "empty"),
        ("g.jsonl", "missing column"),
        ("h.parquet", "missing column"),
        ("i.parquet", "no text"),
    }
    facts = results.facts("clean")
    assert facts["set_aside"] == Counter(what for *_, what in found)
    assert facts["files_not_read"] == ["notes.csv"]
    decided = {r["id"] for r in part_rows(results, "filter", "decisions")}
    assert {"d0", "d20", "d26", "7", "9", "j.jsonl:2"} <= decided
    page = (results.folder / "report.html").read_text()
    for said in ("did you mean &#39;txet&#39;", "broken compression", "notes.csv", "e.jsonl"):
        assert said in page


def test_a_very_long_line_takes_no_memory(small, texts):
    """100 MB in one line: set aside, with less memory than the line has bytes."""
    file = small.shard("a.jsonl", texts.rows(3))
    with file.open("ab") as handle:
        handle.write(b'{"id": "long", "text": "')
        for _ in range(100):
            handle.write(b"word " * 200_000)
        handle.write(b'"}\n')
        handle.write(lines(texts.rows(3, first=3)))
    small.only("clean", "filter")
    script = (
        "import resource, sys\n"
        "from llmlabel.recipe import load_recipe, run\n"
        "recipe = load_recipe(sys.argv[1], config=sys.argv[1] + '/here.yaml')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "run(recipe, sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    out = small.folder / "out"
    done = subprocess.run(
        [sys.executable, "-c", script, str(small.folder), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(next((out / "steps").glob("clean-*/manifest.json")).read_text())["facts"]
    assert (facts["read"], facts["set_aside"]) == (6, {"too long": 1})
    assert int(done.stdout) < 300_000, "kilobytes: arrays, models of languages, Parquet"


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        (
            [{"id": "a", "text": " "}, {"id": "b", "text": ""}],
            {},
            r"'clean' leaves none of 2 documents \(2 dropped for text\)",
        ),
        (
            [{"id": "a", "text": "Das ist ein deutscher Satz."}, {"id": "b"}],
            {"language": {"keep": {"en": 0.5}}},
            r"leaves none of 1 documents \(1 dropped for language, 1 set aside: missing column\)",
        ),
    ],
)
def test_a_corpus_of_which_nothing_is_left(small, rows, config, message):
    small.shard("a.jsonl", rows)
    with pytest.raises(DataError, match=message):
        small.only("clean", "dedup", "sample", "filter", clean=config).run()


def test_a_plan_of_a_corpus_without_text(small):
    def asks(data):
        client = {"use": "openai", "model": "gpt-4o-mini"}
        data["steps"].insert(3, {"step": "ask", "prompt": "document-quality", "client": client})

    small.shard("a.jsonl", [{"id": "a", "text": " "}])
    recipe = load_recipe(small.recipe(asks).folder)
    with pytest.raises(DataError, match="documents: no document with text can be read"):
        plan(recipe, small.folder / "out")


def test_the_filter_drops_everything(small, texts, part_rows):
    small.shard("a.jsonl", texts.rows(30))
    steps = ("clean", "sample", "label", "aggregate", "distill", "filter")
    results = small.only(*steps, "report", filter={"threshold": 1.0}).run()
    assert results.facts("filter")["kept"] == 0
    assert part_rows(results, "filter", "documents") == []
    assert "0.0 %" in (results.folder / "report.html").read_text()
    with pytest.raises(DataError, match="'mix' has nothing to mix: no document was kept"):
        small.only(
            *steps, "mix", filter={"threshold": 1.0}, mix={"targets": {"source": "equal"}}
        ).run()


def test_one_document(small, texts, part_rows):
    small.shard("a.jsonl", texts.rows(1))
    results = small.only("clean", "dedup", "filter", "report").run()
    assert [r["id"] for r in part_rows(results, "filter", "documents")] == ["d0"]
    with pytest.raises(DataError, match="'sample' has 1 documents to draw from and needs 2"):
        small.only("clean", "dedup", "sample", "filter").run()


def test_values_of_any_kind_in_columns_that_steps_read(small, texts, part_rows):
    """Lists and mappings are told by their JSON; a column of addresses does not fill the facts."""
    rows = texts.rows(3000)
    for i, row in enumerate(rows):
        row["source"] = {"name": f"s{i}"} if i % 2 else ["x"]
        row["text"] = f"Text number {i}."
    small.shard("a.jsonl", rows)
    results = small.only("clean", "sample", "filter", "report", sample={"by": ["source"]}).run()
    source = results.facts("filter")["source"]
    assert sum(v["documents"] for v in source.values()) == 3000
    assert set(source) == {'["x"]', "(others)"}


def test_a_shard_that_is_gone_when_it_is_read(small, texts, monkeypatch):
    """Between listing and reading: one line, and the others are done."""
    small.shard("a.jsonl", texts.rows(3))
    lost = small.shard("b.jsonl", texts.rows(3, first=3))
    small.only("clean", "filter")

    def listed(path, **more):
        found = clean_listing(path, **more)
        if not more:
            lost.unlink()
        return found

    clean_listing = clean.list_shards
    monkeypatch.setattr(clean, "list_shards", listed)
    with pytest.raises(LLMLabelError, match=r"1 of 2 shards failed \('b.jsonl'\).*no such file"):
        small.run()
