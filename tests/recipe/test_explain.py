from __future__ import annotations

import math

import pytest

from llmlabel.errors import ConfigError, DataError
from llmlabel.recipe import explain_row, load_recipe, run
from llmlabel.report import Results


@pytest.fixture
def finished(make_recipe, tmp_path):
    folder = make_recipe()
    return folder, run(load_recipe(folder), tmp_path / "out", until="distill")


def test_weights_add_up_to_the_log_odds_of_the_label(finished):
    _, out = finished
    ids = Results.read(out).rows("train")["id"].to_pylist()
    for row_id in ids[:12]:
        found = explain_row(out, row_id)
        p = found["probabilities"]
        expected = math.log(p[found["label"]] / p[found["against"]])
        total = found["prior"] + found["silence"] + sum(v["weight"] for v in found["votes"])
        assert total == pytest.approx(found["log_odds"])
        assert found["log_odds"] == pytest.approx(expected, abs=1e-6)


def test_it_says_who_voted_and_why(finished):
    _, out = finished
    found = explain_row(out, "a0-SPAM-0")
    assert found["text"] == "please subscribe to my channel 0"
    assert [(v["lf"], v["vote"], v["why"]) for v in found["votes"]] == [
        ("ask", "SPAM", 'contains "subscribe"')
    ]
    assert found["student"] == "SPAM"


def test_a_row_without_votes_has_no_label(make_recipe, tmp_path):
    folder = make_recipe()
    with (folder / "train.jsonl").open("a") as handle:
        handle.write('{"id": "quiet", "text": "hm", "label": "HAM"}\n')
    found = explain_row(run(load_recipe(folder), tmp_path / "out", until="aggregate"), "quiet")
    assert found["label"] is None
    assert found["votes"] == []


def test_unknown_rows_and_changed_recipes_are_said(finished):
    folder, out = finished
    with pytest.raises(
        DataError, match="row 'a0-SPAM-9': no such row in train, test, did you mean 'a0-SPAM-"
    ):
        explain_row(out, "a0-SPAM-9")
    file = folder / "recipe.yaml"
    file.write_text(file.read_text().replace("tiny", "other"))
    with pytest.raises(ConfigError, match="has changed since this run was made"):
        explain_row(out, "a0-SPAM-0")
