"""map_shards in this process: parts, keys, reuse, facts, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.engine import PartResult, add_facts, map_shards
from llmlabel.errors import ConfigError, LLMLabelError, ShardError, UnknownNameError


def run(fn, shards, out, key="k", **more):
    return map_shards(fn, shards, out=out, key=key, **{"workers": 1, **more})


@pytest.fixture
def fns():
    import shard_functions

    return shard_functions


def test_parts_come_in_order_with_files_rows_and_facts(tmp_path, make_shards, fns):
    shards = make_shards(4)
    seen = []
    result = run(fns.digests, shards, tmp_path / "out", on_done=lambda p: seen.append(p.name))
    assert seen == ["00000-s0", "00001-s1", "00002-s2", "00003-s3"]
    assert [p.shard for p in result.parts] == shards
    assert [p.rows for p in result.parts[1:3]] == [
        {"dropped": 1, "kept": 5},
        {"dropped": 3, "kept": 10},
    ]
    assert result.rows == {"dropped": 9, "kept": 30}
    assert result.facts["documents"] == 30
    assert result.reused == 0
    assert sum(pq.read_metadata(f).num_rows for f in result.files("kept")) == 30
    assert pq.read_table(result.files("kept")[0]).schema.names == ["id", "text"]  # without rows


def test_a_manifest_holds_the_hashes_and_no_time(tmp_path, make_shards, fns, tree):
    result = run(fns.digests, make_shards(2), tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifests/00001-s1.json").read_text())
    assert set(manifest) == {"part", "key", "facts", "tables"}
    file = result.parts[1].files["kept"]
    hashes = tree(tmp_path / "out")
    assert manifest["tables"]["kept"]["sha256"] == hashes["kept/00001-s1.parquet"]
    assert manifest["tables"]["kept"]["bytes"] == file.stat().st_size


def test_what_is_done_is_not_done_again(tmp_path, make_shards, fns, log, tree):
    run(fns.digests, make_shards(3), tmp_path / "out")
    before = tree(tmp_path / "out")
    seen = []
    again = run(fns.digests, make_shards(3), tmp_path / "out", on_done=seen.append)
    assert again.reused == 3
    assert [p.reused for p in seen] == [True] * 3
    assert len(fns.log_of(log)) == 3
    assert tree(tmp_path / "out") == before


def test_a_changed_key_or_shard_reuses_nothing_of_it(tmp_path, make_shards, fns, log):
    out = tmp_path / "out"
    run(fns.digests, make_shards(3), out)
    assert run(fns.digests, make_shards(3), out, key="other").reused == 0
    changed = make_shards(3)
    changed[1]["n"] = 7
    assert run(fns.digests, changed, out, key="other").reused == 2
    assert [name for name, _, _ in fns.log_of(log)][6:] == ["s1"]


def test_a_damaged_part_is_made_again(tmp_path, make_shards, fns, log):
    out = tmp_path / "out"
    result = run(fns.digests, make_shards(3), out)
    result.parts[0].files["kept"].unlink()
    result.parts[1].files["kept"].write_bytes(b"half")
    (out / "manifests/00002-s2.json").write_text('{"part": "0000')
    assert run(fns.digests, make_shards(3), out).reused == 0
    assert len(fns.log_of(log)) == 6


def test_stale_parts_go_and_other_files_stay(tmp_path, make_shards, fns, tree):
    out = tmp_path / "out"
    run(fns.digests, make_shards(4), out)
    (out / "kept" / ".12-ab.part.00001-s1.parquet").write_bytes(b"half")
    (out / "kept" / "notes.txt").write_text("mine")
    (out / "report.html").write_text("mine")

    def only_kept(shard):
        return PartResult({"kept": fns.digests(shard).tables["kept"]})

    run(only_kept, make_shards(2), out, key="new")
    assert set(tree(out)) == {
        "kept/00000-s0.parquet",
        "kept/00001-s1.parquet",
        "kept/notes.txt",
        "manifests/00000-s0.json",
        "manifests/00001-s1.json",
        "report.html",
    }


def test_pieces_are_written_one_below_the_other(tmp_path, make_shards, fns):
    whole = run(fns.digests, make_shards(5), tmp_path / "a")
    pieces = run(fns.pieces, make_shards(5), tmp_path / "b")
    for one, two in zip(whole.files("kept")[1:], pieces.files("kept"), strict=True):
        assert pq.read_table(one).equals(pq.read_table(two))
    assert pieces.facts == {"documents": 50}


@dataclass(frozen=True)
class Range:
    id: str
    stop: int


def test_dataclasses_are_shards_and_ids_are_made_safe(tmp_path):
    def numbers(shard):
        return PartResult({"x": pa.table({"x": list(range(shard.stop))})})

    result = run(numbers, [Range("a/b c.jsonl.gz", 2), Range("ü", 1)], tmp_path)
    assert [f.name for f in result.files("x")] == [
        "00000-a_b_c.jsonl.gz.parquet",
        "00001-_.parquet",
    ]


def test_failed_shards_are_named_after_the_others_are_done(tmp_path, make_shards, fns, log):
    with pytest.raises(ShardError) as caught:
        run(fns.crashes, make_shards(6), tmp_path)
    assert str(caught.value) == (
        "2 of 6 shards failed ('s2', 's4'), the others are done; 's2': a.parquet: is no corpus"
    )
    assert caught.value.failed == ("00002-s2", "00004-s4")
    assert len(fns.log_of(log)) == 6
    result = run(fns.digests, make_shards(6), tmp_path)
    assert result.reused == 4


def test_a_crash_says_where(tmp_path, make_shards, fns):
    with pytest.raises(ShardError, match="ZeroDivisionError: by nothing") as caught:
        run(fns.crashes, make_shards(5)[4:], tmp_path)
    assert "shard_functions.py:" in caught.value.hint


@pytest.mark.parametrize("workers", [1, 2])
def test_a_wrong_config_ends_the_run_at_once(tmp_path, make_shards, fns, log, workers):
    with pytest.raises(LLMLabelError, match="shard 's[01]': no such language 'xx'") as caught:
        run(fns.misconfigured, make_shards(50), tmp_path, workers=workers)
    assert caught.value.hint == "say en"
    assert len(fns.log_of(log)) <= 2 * workers


def test_what_is_refused(tmp_path, make_shards, fns):
    with pytest.raises(ConfigError, match="shard 1 has no id"):
        run(fns.digests, [{"id": "a"}, {"n": 1}], tmp_path)
    with pytest.raises(ConfigError, match="expected a shard as a frozen dataclass"):
        run(fns.digests, ["a.jsonl"], tmp_path)
    with pytest.raises(UnknownNameError, match="unknown engine 'rya', did you mean 'ray'"):
        run(fns.digests, make_shards(1), tmp_path, engine="rya")
    with pytest.raises(LLMLabelError, match="table is named 'manifests'"):
        run(lambda _: PartResult({"manifests": pa.table({"x": [1]})}), make_shards(1), tmp_path)
    with pytest.raises(LLMLabelError, match="expected a PartResult, got tuple"):
        run(lambda _: [(1, 2)], make_shards(1), tmp_path)
    with pytest.raises(ConfigError, match="the function cannot be sent to another process"):
        run(lambda _: None, make_shards(2), tmp_path, workers=2)


def test_no_shards_are_no_parts(tmp_path, fns):
    assert run(fns.digests, [], Path(tmp_path)).parts == ()


counts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))


@given(st.lists(st.fixed_dictionaries({"n": st.integers(), "why": counts, "ids": st.just([1])})))
def test_facts_add_up_in_any_grouping(facts):
    total = add_facts(facts)
    for cut in range(len(facts)):
        assert add_facts([add_facts(facts[:cut]), add_facts(facts[cut:])]) == total
    assert total.get("n", 0) == sum(f["n"] for f in facts)
    assert len(total.get("ids", [])) == len(facts)


def test_facts_that_do_not_add_up_are_named():
    assert add_facts([{"model": "a", "ok": True}, {"model": "a", "ok": True}]) == {
        "model": "a",
        "ok": True,
    }
    with pytest.raises(ConfigError, match="the fact 'model' cannot be added up: 'a' and 'b'"):
        add_facts([{"model": "a"}, {"model": "b"}])
    with pytest.raises(ConfigError, match="'n'"):
        add_facts([{"n": True}, {"n": False}])
