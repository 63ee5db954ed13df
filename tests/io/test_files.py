from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError
from llmlabel.io import atomic_write, fingerprint, fingerprint_path, parse_yaml, read_yaml

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(plain, plain)
def test_fingerprints_are_equal_where_data_is(a, b):
    import json

    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (fingerprint(a) == fingerprint(b)) is same


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_kill_9_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    script = (
        "import sys, time\nfrom llmlabel.io import atomic_write\n"
        "with atomic_write(sys.argv[1]) as part:\n"
        "    part.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert target.read_text() == "old"


def test_folder_fingerprint_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = fingerprint_path(tmp_path)
    time.sleep(0.01)
    (tmp_path / "a").write_text("1")
    assert fingerprint_path(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint_path(tmp_path) != first
    with pytest.raises(DataError, match="no such file"):
        fingerprint_path(tmp_path / "none")


def test_yaml_is_1_2_and_knows_its_lines():
    data, positions = parse_yaml("a: yes\nb:\n  - c: no\n    d: 1.5\n", file="r.yaml")
    assert data == {"a": "yes", "b": [{"c": "no", "d": 1.5}]}
    assert [type(v) for v in data["b"][0].values()] == [str, float]
    assert positions.line(["b", 0, "d"]) == 4
    assert positions.line(["b", 0, "nothing"]) == 3


def test_yaml_errors_have_file_and_line(tmp_path):
    with pytest.raises(ConfigError, match='r.yaml:12: not valid YAML: found duplicate key "a"'):
        parse_yaml("a: 1\na: 2\n", file="r.yaml", first_line=11)
    with pytest.raises(ConfigError, match=r"r.yaml:3: not valid YAML: expected"):
        parse_yaml("a:\n  - b\n c: [", file="r.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "x.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "bad.yaml")
