"""One pass over documents: who drops them first, and why; what is noted, masked and sketched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.cleaning import Cleaning, clean_batch, read_sketches, sketch_columns
from llmlabel.corpus.decontaminate import benchmark_index
from llmlabel.corpus.families import FAMILIES
from llmlabel.corpus.sketches import joined_sketches, sketch

for package in ("ftfy", "py3langid", "phonenumbers", "stdnum"):
    pytest.importorskip(package, reason=f"needs {package} (llmlabel[corpus])")

PROSE = (
    "The museum opens at nine in the morning, and the first visitors are let in by the side door. "
    "They walk through the old hall, where the paintings of the founders hang, and then to the "
    "garden that was laid out by the same people who built the house for their own children."
)
GERMAN = (
    "Das Museum öffnet um neun Uhr, und die ersten Besucher gehen durch die alte Halle, in der die "
    "Bilder der Gründer hängen, und danach in den Garten hinter dem Haus."
)
QUESTION = "which river runs through the largest city of the smallest country of the far north"
LEAKS = benchmark_index({"quiz": [QUESTION]}, n=8)
BARE = Cleaning(normalize=False, identifier=None, sketched=False)


def table(*texts: str, **columns: list[object]) -> pa.Table:
    ids = [f"d{i}" for i in range(len(texts))]
    return pa.table({"id": ids, "text": pa.array(texts, pa.string()), **columns})


def why(cleaned) -> dict[str, tuple[str, str]]:
    return {r["id"]: (r["step"], r["reason"]) for r in cleaned.dropped.to_pylist()}


def test_each_step_drops_with_its_reason():
    found = clean_batch(
        table(
            PROSE,
            " \n\t ",
            GERMAN,
            "Too short, yet it is English and nothing else is wrong with it.",
            f"{PROSE} {QUESTION}?",
            f"{PROSE} Write to jane.doe@example.org about it.",
        ),
        Cleaning(
            languages={"en": 0.5},
            drop=("gopher_quality.min_words",),
            leaks=LEAKS,
            personal="drop",
        ),
    )
    said = why(found)
    assert found.documents["id"].to_pylist() == ["d0"]
    assert said["d1"] == ("text", "empty")
    assert said["d2"] == ("language", "language.de")
    assert said["d3"] == ("gopher_quality", "gopher_quality.min_words")
    assert said["d4"] == ("benchmarks", f"in benchmark quiz: {QUESTION}")
    assert said["d5"] == ("personal", "personal data: email")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_drops_only_where_it_is_asked_to(family):
    """What fails a family is noted in its column; `drop` makes it go, by a rule or as a whole."""
    texts = table(PROSE, "menu\nmenu\nmenu\nmenu\nlorem ipsum {", "one two")
    noted = clean_batch(texts, BARE)
    reasons = noted.documents[family].to_pylist()
    assert noted.dropped.num_rows == 0
    assert any(reasons), "the family has something to say of the second or third text"
    whole = clean_batch(texts, replace(BARE, drop=(family,)))
    assert why(whole) == {f"d{i}": (family, r) for i, r in enumerate(reasons) if r}
    first = next(r for r in reasons if r)
    one = clean_batch(texts, replace(BARE, drop=(first,)))
    assert why(one) == {f"d{i}": (family, r) for i, r in enumerate(reasons) if r == first}


def test_the_first_step_counts():
    """Language before rules before benchmarks before personal data."""
    both = f"Kurz. {QUESTION} a@example.org"
    everything = Cleaning(
        languages={"de": 0.0}, drop=("gopher_quality",), leaks=LEAKS, personal="drop"
    )
    order = ["language", "gopher_quality", "benchmarks", "personal"]
    for at, step in enumerate(order):
        how = everything
        if at > 0:
            how = replace(how, languages=None)
        if at > 1:
            how = replace(how, drop=())
        if at > 2:
            how = replace(how, leaks=None)
        assert why(clean_batch(table(both), how))["d0"][0] == step


def test_unsure_and_unknown_languages():
    found = clean_batch(table(PROSE, "12 34 56"), replace(BARE, identifier="py3langid"))
    codes = dict(
        zip(
            found.documents["language"].to_pylist(),
            found.documents["language_confidence"].to_pylist(),
            strict=True,
        )
    )
    assert codes["en"] > 0.9
    strict = replace(BARE, identifier="py3langid", languages={"en": 1.0})
    reasons = [reason for _, reason in why(clean_batch(table(PROSE, GERMAN), strict)).values()]
    assert reasons[-1] == "language.de"
    assert set(reasons[:-1]) <= {"language.unsure"}


def test_columns_of_the_input_are_kept_beside_ours():
    texts = table(PROSE, "", score=[3, 4], language=["xx", "yy"], step=["s", "t"], words=[1, 2])
    found = clean_batch(texts, replace(BARE, identifier="py3langid"))
    kept, gone = found.documents.to_pylist()[0], found.dropped.to_pylist()[0]
    assert (kept["score"], kept["step"]) == (3, "s")
    assert (kept["language"], kept["given.language"]) == ("en", "xx")
    assert kept["words"] > 50
    assert kept["given.words"] == 1
    assert (gone["step"], gone["given.step"], gone["reason"]) == ("text", "t", "empty")
    assert len(set(found.documents.column_names)) == found.documents.num_columns


def test_dropped_documents_show_how_they_begin():
    found = clean_batch(table("x" * 5_000), replace(BARE, drop=("gopher_quality",)))
    assert found.dropped["text"].to_pylist() == ["x" * 400]


def test_masks_take_the_place_of_what_was_found():
    texts = table(
        f"{PROSE} Mail a.b@example.org, IP 8.8.8.8.", f"{QUESTION}.", f"{PROSE} {QUESTION}"
    )
    how = replace(BARE, personal="mask", leaks=LEAKS, on_leak="mask")
    found = clean_batch(texts, how)
    kept = dict(
        zip(found.documents["id"].to_pylist(), found.documents["text"].to_pylist(), strict=True)
    )
    assert kept["d0"].endswith("Mail <EMAIL>, IP <IP>.")
    assert kept["d2"] == f"{PROSE} "
    assert "river" not in "".join(kept.values())
    assert (found.counts["personal_email"], found.counts["personal_ip"], found.counts["leaks"]) == (
        1,
        1,
        2,
    )


def test_a_document_that_is_nothing_but_a_leak_is_dropped_when_masked():
    found = clean_batch(table(QUESTION, PROSE), replace(BARE, leaks=LEAKS, on_leak="mask"))
    assert why(found) == {"d0": ("benchmarks", f"in benchmark quiz: {QUESTION}")}
    assert found.documents["text"].to_pylist() == [PROSE]


def test_personal_data_of_dropped_documents_is_not_shown():
    """The report shows how they begin."""
    for action in ("mask", "drop"):
        found = clean_batch(table("Write to a.b@example.org."), replace(BARE, personal=action))
        shown = found.dropped if action == "drop" else found.documents
        assert shown["text"].to_pylist() == ["Write to <EMAIL>."]


def test_kinds_and_regions_are_those_asked_for():
    text = f"{PROSE} a.b@example.org, 8.8.8.8, 030 9018 2000"
    only = replace(BARE, personal="mask", kinds=("ip", "phone"), regions=("DE",))
    found = clean_batch(table(text), only)
    assert found.documents["text"][0].as_py().endswith("a.b@example.org, <IP>, <PHONE>")
    assert {name for name in found.counts if name.startswith("personal_")} == {
        "personal_ip",
        "personal_phone",
    }


def test_texts_are_normalised_before_anything_looks_at_them():
    found = clean_batch(
        table("  Itâ€™s   fine.\r\n\r\n\r\n\r\nYes.  "), replace(BARE, normalize=True)
    )
    text = found.documents["text"][0].as_py()
    assert "It's" in text or "It’s" in text
    assert "\r" not in text
    assert found.counts["normalized"] == 1
    assert clean_batch(table("Plain."), replace(BARE, normalize=True)).counts["normalized"] == 0


def test_sketches_are_made_where_they_are_asked_for_of_what_stays(tmp_path):
    texts = table(PROSE, "", GERMAN)
    assert clean_batch(texts, BARE).sketches is None
    found = clean_batch(texts, replace(BARE, sketched=True))
    pq.write_table(found.sketches, tmp_path / "s.parquet", row_group_size=1)
    read, made = read_sketches(tmp_path / "s.parquet"), sketch([PROSE, GERMAN])
    assert np.array_equal(read.exact, made.exact)
    assert np.array_equal(read.minhash, made.minhash)
    pq.write_table(sketch_columns([]), tmp_path / "none.parquet")
    assert len(joined_sketches([read, read_sketches(tmp_path / "none.parquet")])) == 2


def test_no_documents():
    found = clean_batch(table(), Cleaning(languages={"en": 0.5}, leaks=LEAKS, personal="mask"))
    assert (found.documents.num_rows, found.dropped.num_rows) == (0, 0)
    assert len(found.sketches) == 0


WORDS = st.sampled_from(
    [PROSE, GERMAN, QUESTION, "a.b@example.org", "+49 30 901820", "menu\n", "", "É", "🙂"]
)
TEXTS = st.lists(st.lists(WORDS, max_size=4).map(" ".join), min_size=1, max_size=6)


@settings(max_examples=25)
@given(TEXTS, st.integers(1, 3))
def test_a_document_depends_on_its_own_text_alone(texts, size):
    """Batches of any size give the same documents, decisions and sketches."""
    how = Cleaning(
        languages={"en": 0.4, "de": 0.4},
        drop=("fineweb", "gopher_quality.min_stop_words"),
        leaks=LEAKS,
        on_leak="mask",
        personal="mask",
    )
    rows = table(*texts)
    whole = clean_batch(rows, how)
    parts = [clean_batch(rows.slice(i, size), how) for i in range(0, len(texts), size)]
    for name in ("documents", "dropped", "sketches"):
        together = pa.concat_tables([getattr(p, name) for p in parts]).to_pylist()
        assert together == getattr(whole, name).to_pylist()
    for key, count in whole.counts.items():
        assert sum(p.counts[key] for p in parts) == count
    assert whole.documents.num_rows + whole.dropped.num_rows == len(texts)
    assert all(r["step"] and r["reason"] for r in whole.dropped.to_pylist())


def test_personal_data_at_the_cut_of_a_dropped_document_is_masked():
    text = "Das ist ein Satz auf Deutsch. " * 13 + "Schreib an jemand.anders@example.org bitte."
    rows = pa.table({"id": ["a"], "text": [text]})
    found = clean_batch(rows, Cleaning(languages={"en": 0.5}, personal="mask"))
    (shown,) = found.dropped["text"].to_pylist()
    assert found.dropped["step"].to_pylist() == ["language"]
    assert "jemand" not in shown
