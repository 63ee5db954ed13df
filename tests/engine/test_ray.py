"""The Ray engine on a cluster of two nodes, one of which is taken away half-way."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmlabel.engine import map_shards
from llmlabel.errors import ConfigError, ShardError

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (llmlabel[ray])"),
    # Ray's own sockets and processes, left open in its start and end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(str(Path(__file__).parent))
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": 80 << 20}
        # A dead node is known after 2 s, by default after 15.
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        head = {**small, "include_dashboard": False, "_system_config": quick}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(**small)
        yield nodes
        nodes.shutdown()


@pytest.fixture
def fns():
    import shard_functions

    return shard_functions


@pytest.fixture
def ray_engine(cluster):
    return {"engine": "ray", "address": cluster.address}


def test_no_cluster_at_an_address_is_told(tmp_path, make_shards, fns):
    with pytest.raises(ConfigError, match="no Ray cluster at 127.0.0.1:1"):
        map_shards(
            fns.digests, make_shards(1), out=tmp_path, key="k", engine="ray", address="127.0.0.1:1"
        )


def test_ray_writes_the_bytes_of_the_local_engine(ray_engine, tmp_path, make_shards, fns, tree):
    shards = make_shards(8)
    map_shards(fns.pieces, shards, out=tmp_path / "ray", key="k", **ray_engine)
    map_shards(fns.pieces, shards, out=tmp_path / "local", key="k", workers=2)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert map_shards(fns.pieces, shards, out=tmp_path / "local", key="k", **ray_engine).reused == 8


def test_a_killed_task_is_run_again_and_a_crash_is_named(
    ray_engine, tmp_path, make_shards, fns, log
):
    shards = make_shards(4)
    shards[2]["dies"] = str(tmp_path / "died")
    map_shards(fns.dies_once, shards, out=tmp_path / "a", key="k", **ray_engine)
    assert Counter(name for name, _, _ in fns.log_of(log))["s2"] == 2
    shards[1]["dies"] = "yes"
    with pytest.raises(ShardError, match=r"2 of 4 shards failed .*'s1': Ray gave up after 1 tries"):
        map_shards(fns.always_dies, shards, out=tmp_path / "b", key="k", tries=1, **ray_engine)
    with pytest.raises(ShardError, match=r"ZeroDivisionError: by nothing"):
        map_shards(fns.crashes, make_shards(5)[4:], out=tmp_path / "c", key="k", **ray_engine)


def test_a_lost_node_loses_and_repeats_nothing_finished(
    cluster, ray_engine, tmp_path, make_shards, fns, tree, log
):
    shards = make_shards(16, seconds=0.15)
    done = []

    def remove_a_node(part):
        done.append(part.name)
        if len(done) == 6:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    out = tmp_path / "ray"
    result = map_shards(fns.digests, shards, out=out, key="k", on_done=remove_a_node, **ray_engine)
    parts_lost = len(shards) - len({part.name for part in result.parts})
    ended = {s["id"]: p.stat().st_mtime_ns for s, p in zip(shards, _manifests(out), strict=True)}
    parts_twice = sum(at > ended[name] for name, _, at in fns.log_of(log))
    assert (parts_lost, parts_twice) == (0, 0)
    assert sorted(done) == [part.name for part in result.parts]
    map_shards(fns.digests, shards, out=tmp_path / "local", key="k", workers=1)
    assert tree(out) == tree(tmp_path / "local")


def _manifests(out: Path) -> list[Path]:
    return sorted((out / "manifests").iterdir())
