"""The steps that work on a corpus: what each takes, and what each says where it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError
from llmlabel.recipe.steps.sample import draw_rows

for package in ("ftfy", "py3langid", "phonenumbers", "stdnum"):
    pytest.importorskip(package, reason=f"needs {package} (llmlabel[corpus])")

ALL = ("clean", "dedup", "sample", "label", "aggregate", "distill", "filter", "report")


def test_every_document_that_is_read_is_decided_on_once(small, texts, part_rows):
    rows = texts.rows(60)
    twice = {**rows[0], "id": "again"}
    small.shard("a.jsonl", [*rows[:30], {"id": "blank", "text": " "}])
    small.shard("b.parquet", [*rows[30:], twice])
    results = small.only(*ALL, clean={"drop": ["gopher_quality.min_stop_words"]}).run()
    decisions = part_rows(results, "filter", "decisions")
    kept = part_rows(results, "filter", "documents")
    assert Counter(r["id"] for r in decisions) == Counter(
        [*(r["id"] for r in rows), "blank", "again"]
    )
    for r in decisions:
        assert (r["keep"], bool(r["step"]), bool(r["reason"])) in {
            (True, False, False),
            (False, True, True),
        }
        assert (r["score"] is not None) == (r["step"] in ("", "filter"))
    assert {r["id"] for r in kept} == {r["id"] for r in decisions if r["keep"]}
    said = {r["id"]: (r["step"], r["reason"]) for r in decisions}
    assert said["blank"] == ("text", "empty")
    assert {said["d0"], said["again"]} - {("", "")} == {("dedup", "exact duplicate: of again")}
    facts = results.facts("filter")
    assert facts["documents"] == 62 == facts["kept"] + sum(facts["dropped"].values())
    assert facts["dropped"] == dict(Counter(r["step"] for r in decisions if not r["keep"]))
    assert facts["kept"] == len(kept) > 20
    assert sum(facts["reasons"].values()) == sum(facts["dropped"].values())
    assert sum(v["kept"] for v in facts["source"].values()) == len(kept)
    assert {r["id"] for r in kept if "Cheap" in r["text"]} == set()


def test_a_given_threshold_is_the_one(small, texts, part_rows):
    small.shard("a.jsonl", texts.rows(60))
    for threshold in (0.0, 0.8, 1.0):
        results = small.only(*ALL, filter={"threshold": threshold}).run()
        assert results.facts("filter")["threshold"] == threshold
        for r in part_rows(results, "filter", "decisions"):
            assert r["keep"] == (r["score"] >= threshold)
    results = small.only(*ALL, filter={"keep": "DROP", "threshold": 0.5}).run()
    kept = part_rows(results, "filter", "documents")
    assert kept
    assert all("Cheap" in r["text"] for r in kept)


def test_without_a_student_all_that_is_left_stays(small, texts, part_rows):
    small.shard("a.jsonl", [{**r, "score": 7} for r in texts.rows(9)])
    results = small.only("clean", "filter", "report").run()
    kept = part_rows(results, "filter", "documents")
    assert [r["score"] for r in kept] == [None] * 9
    assert [r["given.score"] for r in kept] == [7] * 9
    assert results.facts("filter")["scored"] is False
    assert "What became of the corpus" in (results.folder / "report.html").read_text()


# --- sample


GROUPS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=40)


@given(GROUPS, st.integers(1, 50), st.integers(0, 5), st.randoms())
def test_groups_are_drawn_equally_whatever_the_order(values, rows, seed, shuffler):
    ids = [f"i{n}" for n in range(len(values))]
    drawn = draw_rows(pl.DataFrame({"g": values}), ids, rows, seed)
    assert len(drawn) == len(set(drawn.tolist())) == min(rows, len(values))
    have, got = Counter(values), Counter(values[i] for i in drawn)
    most = max(got.values())
    assert all(got[g] >= most - 1 or got[g] == have[g] for g in have)
    order = list(range(len(values)))
    shuffler.shuffle(order)
    again = draw_rows(
        pl.DataFrame({"g": [values[i] for i in order]}), [ids[i] for i in order], rows, seed
    )
    assert {ids[order[i]] for i in again} == {ids[i] for i in drawn}


@given(st.integers(0, 30), st.integers(1, 40))
def test_without_groups_all_are_one(n, rows):
    drawn = draw_rows(pl.DataFrame(), [f"i{i}" for i in range(n)], rows, 0)
    assert len(drawn) == min(rows, n)


def sampled(results):
    return pq.read_table(results.path("sample", "rows.parquet")).to_pylist()


def test_a_sample_does_not_depend_on_shards_and_groups_have_nulls(small, texts):
    """A column that a shard lacks, or that is of another kind there, is one all the same."""
    rows = texts.rows(48)
    for i, row in enumerate(rows):
        row["year"] = 2000 + i % 2 if i < 24 else f"{2000 + i % 2}"
        if i % 8 == 0:
            row["year"] = None
        if i % 8 == 1:
            del row["year"]
    small.shard("a.jsonl", rows[:24])
    small.shard("b.jsonl", rows[24:])
    small.only("clean", "sample", sample={"rows": 12, "by": ["year"]})
    one = small.run("one")
    assert one.facts("sample")["groups"] == [["2000", 4], ["2001", 4], ["None", 4]]
    for name in ("a.jsonl", "b.jsonl"):
        (small.folder / "documents" / name).unlink()
    small.shard("z.jsonl", rows[24:])
    small.shard("zz.jsonl", rows[:24])
    two = small.run("two")
    assert {r["id"] for r in sampled(one)} == {r["id"] for r in sampled(two)}


def test_more_are_wanted_than_there_are(small, texts):
    small.shard("a.jsonl", texts.rows(7))
    results = small.only("clean", "sample", sample={"rows": 100, "by": ["source", "id"]}).run()
    assert {r["id"] for r in sampled(results)} == {f"d{i}" for i in range(7)}
    assert (results.facts("sample")["rows"], results.facts("sample")["of"]) == (7, 7)


def test_of_documents_with_one_id_one_can_be_drawn(small, texts, part_rows):
    """Labels are kept by id; the corpus may have an id twice, and both are decided on."""
    rows = texts.rows(12)
    small.shard("a.jsonl", rows)
    small.shard("b.jsonl", [{**r, "text": texts.prose(f"other {r['id']}")} for r in rows[:3]])
    results = small.only(*ALL).run()
    assert results.facts("sample")["repeated_ids"] == 3
    assert results.facts("load")["rows"] == {"train": 12}
    assert len(part_rows(results, "filter", "decisions")) == 15


# --- dedup


def near(texts):
    """Three documents that are alike; the second is the longest, the third the first by id."""
    text = texts.prose("one", 20)
    return [
        {"id": "m", "text": f"{text} End.", "date": "2024-01-01", "likes": 10},
        {"id": "n", "text": f"{text} And this is the end.", "date": "2022-01-01", "likes": 9},
        {"id": "a", "text": text, "date": "2023-01-01", "likes": None},
        {"id": "x", "text": texts.prose("two", 20), "date": "2020-01-01", "likes": 0},
    ]


@pytest.mark.parametrize(
    ("config", "stays"),
    [
        ({"keep": "longest"}, "n"),
        ({"keep": "first"}, "m"),
        ({"keep": "newest", "column": "date"}, "m"),
        ({"keep": "best", "column": "likes"}, "m"),
        ({"keep": "best", "column": "characters"}, "n"),
    ],
)
def test_one_of_a_cluster_stays_by_the_rule(small, texts, part_rows, config, stays):
    rows = near(texts)
    small.shard("a.jsonl", rows[:2])
    small.shard("b.jsonl", rows[2:])
    results = small.only("clean", "dedup", "filter", dedup=config).run()
    assert {r["id"] for r in part_rows(results, "filter", "documents")} == {stays, "x"}
    facts = results.facts("dedup")
    assert (facts["documents"], facts["left"], facts["dropped"], facts["clusters"]) == (4, 2, 2, 1)
    table = pq.read_table(results.path("dedup", "duplicates.parquet")).to_pylist()
    assert {(r["id"], r["kept"]) for r in table} == {(i, stays) for i in ("m", "n", "a")}
    reasons = {r["reason"] for r in part_rows(results, "filter", "decisions") if not r["keep"]}
    assert reasons == {f"near duplicate: of {stays}"}


def test_exact_duplicates_alone(small, texts, part_rows):
    rows = [*near(texts), {**near(texts)[0], "id": "copy"}]
    small.shard("a.jsonl", rows)
    results = small.only("clean", "dedup", "filter", dedup={"threshold": None}).run()
    assert len(part_rows(results, "filter", "documents")) == 4
    assert results.facts("dedup")["kinds"] == {"exact": 1}


def test_zero_duplicates(small, texts):
    small.shard("a.jsonl", texts.rows(12))
    results = small.only(*ALL).run()
    assert results.facts("dedup")["dropped"] == 0
    assert "0 clusters, 0 documents dropped" in (results.folder / "report.html").read_text()


@pytest.mark.parametrize("named", ["run", "sketches"])
def test_documents_that_an_earlier_corpus_has_go(small, texts, part_rows, named):
    rows = texts.rows(8)
    small.shard("a.jsonl", [*rows[:4], {**rows[0], "id": "again"}])
    first = small.only("clean", "dedup", "filter").run("first")
    assert first.facts("dedup")["left"] == 4
    small.shard("a.jsonl", [*rows[2:], {**rows[2], "id": "again"}])
    stored = "first" if named == "run" else str(first.path("dedup", "sketches"))
    second = small.only("clean", "dedup", "filter", dedup={"against": stored}).run("second")
    facts = second.facts("dedup")
    assert {r["id"] for r in part_rows(second, "filter", "documents")} == {"d4", "d5", "d6", "d7"}
    assert facts["kinds"] == {"exact": 1, "stored": 2}
    assert facts["dropped"] == sum(facts["kinds"].values()) == 3
    reasons = [r["reason"] for r in part_rows(second, "filter", "decisions") if r["reason"]]
    assert sum(r.startswith(f"stored duplicate: of {stored}#") for r in reasons) == 2


@pytest.mark.parametrize(
    ("config", "likes", "message"),
    [
        (
            {"keep": "best", "column": "liks"},
            (1, 2),
            "dedup keep: best: no document has a column 'liks', did you mean 'likes'?",
        ),
        (
            {"keep": "best", "column": "text"},
            (1, 2),
            "column 'text': .*expected numbers, got string",
        ),
        (
            {"keep": "newest", "column": "likes"},
            (1, "2"),
            "column 'likes': .*expected values of one kind, got int64 and string",
        ),
    ],
)
def test_what_dedup_cannot_order_is_an_error(small, texts, config, likes, message):
    for name, value in zip(("a.jsonl", "b.jsonl"), likes, strict=True):
        small.shard(name, [{"id": name, "text": texts.prose(name), "likes": value}])
    with pytest.raises(DataError, match=message):
        small.only("clean", "dedup", "filter", dedup=config).run()


# --- mix


def mixed(small, texts, targets, until=None, **more):
    small.shard("a.jsonl", texts.rows(60))
    small.shard("b.jsonl", [{"id": f"n{i}", "text": texts.prose(f"n{i}")} for i in range(9)])
    return small.only("clean", "filter", "mix", "report", mix={"targets": targets, **more}).run(
        until=until
    )


def test_shares_are_those_asked_for(small, texts, part_rows):
    """A shard without the column is one value of it."""
    results = mixed(small, texts, {"source": {"web": 0.5, "book": 0.3, "": 0.2}})
    facts = results.facts("mix")
    assert facts["wanted"]["source"] == pytest.approx(
        {"": 0.2, "book": 0.3, "forum": 0, "web": 0.5}
    )
    for value, share in facts["shares"]["source"].items():
        assert share == pytest.approx(facts["wanted"]["source"][value], abs=0.08)
    rows = part_rows(results, "mix", "documents")
    assert len(rows) == facts["documents"]
    assert {r.get("source") for r in rows} == {"web", "book", None}
    index = (results.path("mix", "index.json")).read_text()
    assert "parts/documents/00001-b.jsonl.parquet" in index
    assert "| source | web | 50.0 %" in (results.path("mix", "parts") / "README.md").read_text()
    assert "in the mix" in (results.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("targets", "more", "message"),
    [
        (
            {"sorce": "equal"},
            {},
            "mix targets: no document has a column 'sorce', did you mean 'source'",
        ),
        ({"source": {"wbe": 1.0}}, {}, "unknown value 'wbe', did you mean 'web'"),
        ({"source": {"book": 1.0}}, {"words": 1e6}, "at most .* tokens can be had"),
    ],
)
def test_a_mix_that_cannot_be_is_an_error(small, texts, targets, more, message):
    with pytest.raises((ConfigError, DataError), match=message):
        mixed(small, texts, targets, **more)


# --- what a recipe must not say, told before anything runs


def step(data, name):
    return next(s for s in data["steps"] if s["step"] == name)


def without(data, *names):
    data["steps"] = [s for s in data["steps"] if s["step"] not in names]


def add_mix(data, **config):
    data["steps"].insert(-1, {"step": "mix", **config})


WRONG = [
    (
        lambda d: d["data"].update(corpus=None, train="t.jsonl"),
        "the step 'clean' works on a corpus",
    ),
    (lambda d: without(d, "sample"), "the step 'label' needs a step 'sample' before it"),
    (lambda d: without(d, "clean"), "the step 'dedup' needs a step 'clean' before it"),
    (lambda d: d["task"].update(text=["title", "body"]), "a corpus has one column of texts"),
    (lambda d: d["data"].update(corpus="documnets"), "no such file, did you mean '.*documents'"),
    (
        lambda d: step(d, "clean").update(drop=["gopher_qualty"]),
        "unknown rule 'gopher_qualty', did you mean 'gopher_quality'",
    ),
    (
        lambda d: step(d, "clean").update(drop=["c4.min_sentence"]),
        "did you mean 'c4.min_sentences'",
    ),
    (
        lambda d: step(d, "clean").update(language={"keep": {"eng": 0.5}}),
        "py3langid: unknown language 'eng', did you mean 'en'",
    ),
    (
        lambda d: step(d, "clean").update(language={"keep": {"en": 1.5}}),
        "language.keep.en: input should be less than or equal to 1",
    ),
    (
        lambda d: step(d, "clean").update(personal={"kinds": ["emial"]}),
        "unknown kind 'emial', did you mean 'email'",
    ),
    (
        lambda d: step(d, "clean").update(personal={"regions": ["UK"]}),
        "unknown region 'UK'",
    ),
    (
        lambda d: step(d, "clean").update(benchmarks={"files": ["no.jsonl"]}),
        "benchmarks: .*no.jsonl: no such file",
    ),
    (
        lambda d: step(d, "dedup").update(keep="best"),
        "steps.1: keep: best needs column:",
    ),
    (
        lambda d: step(d, "dedup").update(against="before"),
        "against: .*before/sketches.json: no sketches: no such file",
    ),
    (lambda d: step(d, "dedup").update(column="date"), "keep: longest takes no column:"),
    (lambda d: step(d, "filter").update(keep="KEPT"), "unknown class 'KEPT', did you mean 'KEEP'"),
    (
        lambda d: (without(d, "distill"), step(d, "filter").update(threshold=0.5)),
        "has a threshold, but there is no student",
    ),
    (
        lambda d: step(d, "label")["lfs"].append(
            {"lf": "rule", "rule": "gofer_quality", "label": "DROP"}
        ),
        "unknown rule 'gofer_quality', did you mean 'gopher_quality'|unknown family",
    ),
    (
        lambda d: step(d, "label")["lfs"].append(
            {"lf": "rule", "rule": "c4.min_word", "label": "DROP"}
        ),
        "did you mean 'c4.min_",
    ),
    (
        lambda d: step(d, "label")["lfs"].append({"lf": "rule", "rule": "c4", "label": "DORP"}),
        "unknown class 'DORP', did you mean 'DROP'",
    ),
    (
        lambda d: step(d, "label")["lfs"].append(
            {"lf": "rule", "rule": "c4", "label": "DROP", "threshold": 3}
        ),
        "a family has several thresholds",
    ),
    (
        lambda d: add_mix(d, targets={"source": {"web": 0.7}}),
        "targets.source: .* sum to 1, got 0.7",
    ),
    (
        lambda d: add_mix(d, targets={"source": "equal"}, scores=[0.5]),
        "scores: gives edges, but targets names no 'score'",
    ),
    (lambda d: add_mix(d, targets={"score": "equal"}), "name the edges of its bins"),
    (
        lambda d: add_mix(d, targets={"score": "equal"}, scores=[0.9, 0.5]),
        "scores: expected rising edges",
    ),
    (
        lambda d: (without(d, "distill"), add_mix(d, targets={"score": "equal"}, scores=[0.5])),
        "there are no scores without a step 'distill'",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_recipe_is_one_line_before_anything_runs(small, texts, change, message):
    small.shard("a.jsonl", texts.rows(3))
    small.recipe(change)
    with pytest.raises(ConfigError, match=message) as caught:
        small.run()
    said = str(caught.value)
    assert said.startswith(f"{small.folder}/recipe.yaml:")
    assert "\n" not in said
    assert not (small.folder / "out").exists()


def test_the_line_of_a_wrong_step_is_told_by_the_command_line(small, texts):
    small.shard("a.jsonl", texts.rows(3))
    small.recipe(lambda d: step(d, "clean").update(drop=["gopher_qualty"]))
    command = [sys.executable, "-m", "llmlabel", "run", str(small.folder)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    first, *rest = refused.stderr.strip().splitlines()
    line = int(first.split("recipe.yaml:")[1].split(":")[0])
    assert "step: clean" in (small.folder / "recipe.yaml").read_text().splitlines()[line - 1]
    assert "did you mean 'gopher_quality'" in first
    assert not rest or rest[0].startswith("hint")


def test_sample_by_an_unknown_column(small, texts):
    small.shard("a.jsonl", texts.rows(3))
    with pytest.raises(
        DataError, match="sample by: no document has a column 'sorce', did you mean 'source'"
    ):
        small.only("clean", "sample", sample={"by": ["sorce"]}).run()
