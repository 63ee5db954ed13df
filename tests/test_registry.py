from __future__ import annotations

import importlib.metadata

import pytest

from llmlabel import registry
from llmlabel.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize("group", registry.GROUPS)
def test_every_built_in_name_loads(group):
    for name in registry.GROUPS[group]:
        assert callable(registry.load(name, group))


def test_module_and_object_strings():
    from llmlabel.schema import Task

    assert registry.load("llmlabel.schema:Task", "lfs") is Task
    with pytest.raises(ConfigError, match="cannot import 'no_such_module:x'"):
        registry.load("no_such_module:x", "lfs")
    with pytest.raises(UnknownNameError, match="unknown object 'Tusk', did you mean 'Task'"):
        registry.load("llmlabel.schema:Tusk", "lfs")


def test_unknown_names_say_the_nearest():
    with pytest.raises(
        UnknownNameError, match="unknown label model 'dawid_skeen', did you mean 'dawid_skene'"
    ):
        registry.load("dawid_skeen", "label_models")
    with pytest.raises(UnknownNameError, match="registry group"):
        registry.names("models")


def test_entry_points_are_known_by_name(monkeypatch):
    entry = importlib.metadata.EntryPoint("mine", "llmlabel.schema:Task", "llmlabel.lfs")
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [entry] if group == "llmlabel.lfs" else []
    )
    assert "mine" in registry.names("lfs")
    assert registry.load("mine", "lfs").__name__ == "Task"
