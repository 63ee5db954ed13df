from __future__ import annotations

import pytest

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.schema import LabelClass, Task


def test_classes_from_mapping_names_and_values_are_the_same_task():
    a = Task("t", {"X": "one", "Y": ""})
    b = Task("t", [LabelClass("X", "one"), "Y"])
    assert a == b
    assert a.names == ("X", "Y")
    assert a.n_classes == 2
    assert hash(a) == hash(b)


def test_as_dict_makes_the_same_task_again():
    task = Task("t", {"X": "one", "Y": "two"}, ["title", "body"], description="what is it")
    assert Task(**task.as_dict()) == task


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", ["a", "b"]), "the name is empty"),
        (("t", ["a"]), "at least two classes, got 1"),
        (("t", ["a", "a"]), "'a' is named twice"),
        (("t", ["a", " "]), "non-empty"),
        (("t", "ab"), "several names"),
        (("t", ["a", "b"], ()), "at least one text column"),
    ],
)
def test_a_wrong_task_says_what_is_wrong(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Task(*arguments)


def test_unknown_class_names_the_nearest():
    with pytest.raises(UnknownNameError, match="LF 'k': unknown class 'SPAN', did you mean 'SPAM'"):
        Task("t", ["HAM", "SPAM"]).index("SPAN", where="LF 'k'")


def test_a_task_cannot_be_changed():
    with pytest.raises(AttributeError):
        Task("t", ["a", "b"]).name = "u"  # type: ignore[misc]
