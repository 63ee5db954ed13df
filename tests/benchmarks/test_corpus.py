"""The benchmark of a corpus: the names of its figures."""

from __future__ import annotations

import json

from benchmarks import corpus
from benchmarks.peers.environments import Unavailable


def test_figures_by_family_have_names_of_their_own():
    found = corpus.flat(
        {
            "filters_over_datatrove": 40.0,
            "filters_over_datatrove_by_family": {"gopher_quality": 50.0},
            "filters_docs_per_second": {"c4": 7000.0, "all": 2500.0},
            "same_reasons": {"c4": 1.0},
        }
    )
    assert found == {
        "filters_over_datatrove": 40.0,
        "filters_over_datatrove_gopher_quality": 50.0,
        "filters_docs_per_second_c4": 7000.0,
        "filters_docs_per_second": 2500.0,
        "same_reasons": {"c4": 1.0},
    }


def test_peers_that_are_missing_are_named_and_null(monkeypatch, capsys):
    def missing(*_, **__):
        raise Unavailable("datatrove: no network")

    def without_rensa(_):
        return {"dedup_docs_per_second": 1.0, "rensa_unavailable": "rensa: no network"}

    monkeypatch.setattr("benchmarks.corpus_filters.documents", lambda count: ["a text"])
    monkeypatch.setattr("benchmarks.corpus_filters.filters", missing)
    monkeypatch.setattr("benchmarks.corpus_filters.languages", lambda _: {})
    monkeypatch.setattr("benchmarks.corpus_duplicates.duplicates", without_rensa)
    assert corpus.filters(quick=True)["filters_over_datatrove"] is None
    assert corpus.duplicates(quick=True)["dedup_over_rensa"] is None
    said = capsys.readouterr().err
    assert "skipped datatrove's filters: datatrove: no network" in said
    assert "skipped rensa's duplicates: rensa: no network" in said


def test_json_is_one_object_and_save_writes_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(corpus, "PARTS", (_part,))
    monkeypatch.setattr(corpus, "RESULTS", tmp_path / "corpus.json")
    monkeypatch.setattr(corpus, "require_shared", lambda: None)
    corpus.main(["--quick", "--json", "--save"])
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["quick"] is True
    assert found == json.loads((tmp_path / "corpus.json").read_text())
    assert "_part: 0 s" in said.err


def _part(quick):
    return {"quick": quick, "recall": {"0": 1.0}}
