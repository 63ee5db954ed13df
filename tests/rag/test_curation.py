"""What is done with documents: which stays of several, where they lead, what is said."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmlabel.embed import load_encoder
from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.labelmodel import TwoRateModel
from llmlabel.lf import labeling_function
from llmlabel.rag.curation import BY_WORDS, Curated, Curation, curate
from llmlabel.rag.flaws_pairs import Versions
from llmlabel.rag.related import related

OLD = """You can send an item back within 30 days of delivery. Return postage costs £4.50 for each
parcel. The refund takes 14 working days after the parcel has arrived at our warehouse."""
NEW = """You can send an item back within 45 days of delivery. Return postage costs £2.95 for each
parcel. The refund takes 5 working days after the parcel has arrived at our warehouse."""
SAME = """You can send an item back within 45 days of delivery. The return postage costs £2.95 for
each parcel. Refunds take 5 working days after the parcel has arrived at our warehouse."""
OTHER = """Gas stoves need screw-on canisters with a thread. Clean the jet with a needle after five
trips, never use diesel, and check the rubber seal each time before you light the stove."""


def collection(**columns: list[Any]) -> dict[str, list[Any]]:
    n = len(columns["text"])
    return {"id": [f"d{i}" for i in range(n)], **columns}


def vectors(*angles: float) -> np.ndarray:
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def test_a_newer_version_with_other_numbers_takes_the_place_of_an_older_one() -> None:
    table = collection(text=[NEW, OLD, OTHER], updated=["2025-01-01", "2022-01-01", "2021-01-01"])
    done = curate(table, vectors=vectors(0, 20, 90))
    assert done.actions["action"].to_pylist() == ["keep", "drop", "keep"]
    row = done.actions.slice(1, 1).to_pylist()[0]
    assert (row["flaw"], row["into"], row["text"]) == ("OUTDATED", "d0", None)
    assert "1096 days newer" in row["reason"]
    assert "45 days of delivery" in row["reason"]
    assert done.kept.tolist() == [True, False, True]


def test_without_dates_it_is_a_candidate_for_a_contradiction_alone() -> None:
    done = curate(collection(text=[NEW, OLD, OTHER]), vectors=vectors(0, 20, 90))
    assert done.actions["action"].to_pylist() == ["keep", "keep", "keep"]
    assert done.candidates["id"].to_pylist() == ["d0|d1"]
    assert "£4.50" in done.candidates["reason"][0].as_py()


@pytest.mark.parametrize("swap", [False, True])
def test_of_near_duplicates_the_newer_one_stays(swap: bool) -> None:
    texts = [SAME, NEW] if swap else [NEW, SAME]
    table = collection(text=[*texts, OTHER], updated=["2024-01-01", "2025-01-01", None])
    done = curate(table, vectors=vectors(0, 10, 90))
    assert done.actions["action"].to_pylist()[:2] == ["merge", "keep"]
    assert done.actions["into"].to_pylist() == ["d1", None, None]
    assert "like d1" in done.actions["reason"][0].as_py()


def test_a_copy_gives_way_though_it_is_newer() -> None:
    table = collection(
        text=[NEW, SAME],
        title=["Returns", "Returns (printed version)"],
        updated=["2024-01-01", "2024-01-02"],
    )
    done = curate(table, vectors=vectors(0, 10))
    assert done.actions["into"].to_pylist() == [None, "d0"]


def test_where_documents_lead_is_kept_itself() -> None:
    # The duplicate's original is outdated: both lead to the newest.
    table = collection(
        text=[OLD, OLD + " Thank you.", NEW],
        updated=["2021-01-01", "2021-06-01", "2025-01-01"],
    )
    done = curate(table, vectors=vectors(0, 1, 20))
    assert done.kept.tolist() == [False, False, True]
    assert done.actions["into"].to_pylist() == ["d2", "d2", None]


def test_a_duplicate_never_leads_to_boilerplate() -> None:
    menu = "[Home](/) [News](/news) [Shop](/shop) [Jobs](/jobs) Skip to content. Sitemap. Sign in."
    done = curate(collection(text=[menu, menu, OTHER]), vectors=vectors(0, 0, 90))
    assert done.actions["flaw"].to_pylist() == ["BOILERPLATE", "BOILERPLATE", ""]
    assert done.actions["into"].to_pylist() == [None, None, None]


def test_metadata_that_names_the_successor_decides() -> None:
    table = collection(text=[OTHER, NEW], updated=["2020-01-01", "2025-01-01"])
    table["replaces"] = [None, "d0"]
    done = curate(table, vectors=vectors(0, 90), supersedes_column="replaces")
    assert done.actions["flaw"].to_pylist() == ["OUTDATED", ""]
    assert done.actions["reason"][0].as_py() == "d1 says that it supersedes it"


def test_a_little_personal_data_is_masked_and_much_is_dropped() -> None:
    little = f"{OTHER} Ask Mrs Agnes Thornbury."
    much = f"{OTHER} Mrs Agnes Thornbury, agnes.t@example.org, 07700 900123, 12 Mill Lane."
    done = curate(collection(text=[little, much]))
    assert done.actions["action"].to_pylist() == ["mask", "drop"]
    assert done.actions["text"][0].as_py() == f"{OTHER} Ask <NAME>."
    kept = curate(collection(text=[much]), how=Curation(max_findings=9))
    assert "agnes" not in kept.actions["text"][0].as_py()


def test_actions_can_be_chosen_and_flaws_are_all_named() -> None:
    table = collection(text=["It depends. Please ask our team.", OTHER], title=["", "Stoves"])
    done = curate(table, how=Curation(actions={"THIN": "tag"}))
    row = done.actions.to_pylist()[0]
    assert (row["action"], row["flaw"]) == ("tag", "THIN")
    assert row["flaws"] == ["THIN", "METADATA_MISSING"]
    assert row["text"] == table["text"][0]
    assert done.counts() == {"tag": {row["flaw"]: 1}, "keep": {"": 1}}


def test_ones_own_lf_and_label_model_take_part() -> None:
    @labeling_function(labels=["PROMOTIONAL"])
    def shouts(row: Any) -> str | None:
        return "PROMOTIONAL" if "!!!" in row["text"] else None

    texts = [OTHER, "Buy it now!!! " + " ".join(["Lamps shine."] * 30)] * 10
    texts = [f"{text} {i}" for i, text in enumerate(texts)]
    done = curate(collection(text=texts), lfs=[shouts])
    assert {"shouts"} <= set(done.votes["PROMOTIONAL"].lf_names)
    tuned = curate(collection(text=texts), lfs=[shouts], model=TwoRateModel())
    assert tuned.probabilities.shape == done.probabilities.shape


def test_verdicts_on_pairs_are_tags() -> None:
    table = collection(text=[NEW, OLD, OTHER])
    asked = curate(table, vectors=vectors(0, 20, 90)).candidates
    verdicts = asked
    for name, value in (
        ("verdict", "contradict"),
        ("current", "left"),
        ("difference", "45 days or 30"),
    ):
        verdicts = verdicts.append_column(name, pa.array([value] * len(asked)))
    done = curate(table, vectors=vectors(0, 20, 90), verdicts=verdicts)
    assert done.actions["action"].to_pylist() == ["keep", "tag", "keep"]
    assert done.actions["reason"][1].as_py() == "against d0: 45 days or 30"


def test_dates_may_be_dates_timestamps_or_text() -> None:
    text = pa.array(["2025-01-01T10:00:00", "2022-01-01", "soon"])
    days = pa.array([datetime.date(2025, 1, 1), datetime.date(2022, 1, 1), None])
    for updated in (text, days, days.cast(pa.timestamp("us", "UTC"))):
        table = pa.table({"id": ["a", "b", "c"], "text": [NEW, OLD, OTHER], "updated": updated})
        done = curate(table, vectors=vectors(0, 20, 90))
        assert done.actions["flaw"].to_pylist() == ["", "OUTDATED", "METADATA_MISSING"]


def test_an_empty_collection_is_curated() -> None:
    done = curate({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    assert done.actions.num_rows == 0
    assert done.candidates.num_rows == 0


def test_wrong_input_is_named() -> None:
    with pytest.raises(DataError, match="no column 'text', did you mean 'texts'"):
        curate({"id": ["a"], "texts": ["b"]})
    with pytest.raises(DataError, match="the id 'a' stands in rows 0 and 1"):
        curate({"id": ["a", "a"], "text": ["b", "c"]})
    with pytest.raises(DataError, match="1 documents, but 2 vectors"):
        curate(collection(text=[NEW]), vectors=vectors(0, 1))
    with pytest.raises(UnknownNameError, match="OUTDATED"):
        Curation(actions={"OUTDATE": "drop"})
    with pytest.raises(ConfigError, match="merge goes with NEAR_DUPLICATE and OUTDATED"):
        Curation(actions={"THIN": "merge"})
    with pytest.raises(UnknownNameError, match="required"):
        curate(collection(text=[NEW]), how=Curation(required=("owner",)))


def test_the_index_finds_the_pairs_that_blocks_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 16))
    points = np.repeat(centres, 4, axis=0) + 0.1 * rng.standard_normal((80, 16))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    texts = [f"text {i}" for i in range(80)]
    exact = related(texts, points, least=0.8, neighbours=3)
    monkeypatch.setattr("llmlabel.rag.related.EXACT_TO", 10)
    asked = related(texts, points, least=0.8, neighbours=3)
    pairs = [set(zip(p.left.tolist(), p.right.tolist(), strict=True)) for p in (exact, asked)]
    assert len(pairs[0] & pairs[1]) >= 0.98 * len(pairs[0] | pairs[1])


def test_the_order_of_rows_does_not_matter() -> None:
    texts = [NEW, OLD, SAME, OTHER]
    updated = ["2025-01-01", "2022-01-01", "2025-01-01", "2024-01-01"]
    turned = vectors(0, 20, 8, 90)
    done = curate(collection(text=texts, updated=updated), vectors=turned)
    order = [2, 3, 0, 1]
    table = {
        "id": [f"d{i}" for i in order],
        "text": [texts[i] for i in order],
        "updated": [updated[i] for i in order],
    }
    again = curate(table, vectors=turned[order])
    expected = done.actions.take(pa.array(order)).to_pylist()
    assert [r["action"] for r in expected] == again.actions["action"].to_pylist()
    assert [r["into"] for r in expected] == again.actions["into"].to_pylist()


COLUMNS = ("id", "title", "text", "updated", "section")


def help_centre(shared_data: Path) -> tuple[dict[str, list[str]], np.ndarray]:
    lines = (shared_data / "helpdesk" / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    return {k: [d[k] for d in documents] for k in COLUMNS}, np.array([d["flaw"] for d in documents])


def check_left_out(done: Curated, flaw: np.ndarray, least: float) -> None:
    """Goals of the recipe; of 8 outdated documents one is 12 %."""
    for name in ("outdated", "boilerplate", "near_duplicate"):
        assert (~done.kept)[flaw == name].mean() >= least, name
    assert (~done.kept)[flaw == "none"].mean() <= 0.02
    assert all(done.actions.filter(pa.array(~done.kept))["reason"].to_pylist())


def test_known_flaws_are_found_by_words_alone(shared_data: Path) -> None:
    columns, flaw = help_centre(shared_data)
    encoder = load_encoder("tfidf-svd", columns["text"])
    done = curate(columns, vectors=np.asarray(encoder.encode(columns["text"])), how=BY_WORDS)
    check_left_out(done, flaw, 0.85)


def test_thresholds_of_versions_are_values() -> None:
    strict = Curation(versions=Versions(topic=0.99, sure_topic=0.99))
    table = collection(text=[NEW, OLD, OTHER], updated=["2025-01-01", "2022-01-01", "2021-01-01"])
    done = curate(table, vectors=vectors(0, 20, 90), how=strict)
    assert done.actions["action"].to_pylist() == ["keep", "keep", "keep"]
