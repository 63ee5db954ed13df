from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel import errors
from llmlabel.errors import (
    DataError,
    LLMLabelError,
    MissingExtraError,
    UnknownNameError,
    nearest_name,
)


def test_every_exported_error_is_in_the_tree_of_the_docstring():
    assert errors.__doc__ is not None
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type):
            assert issubclass(value, LLMLabelError)
            assert name in errors.__doc__


def test_data_error_puts_the_place_first():
    error = DataError("is empty", file="a.csv", line=3, row="x1", field="text")
    assert str(error) == "a.csv:3, row 'x1', column 'text': is empty"
    assert str(DataError("is empty")) == "is empty"
    assert str(DataError("bad", line=7)) == "line 7: bad"


def test_unknown_name_says_nearest_and_known():
    error = UnknownNameError("class", "REFUN", ["REFUND", "OTHER"], where="LF 'a'")
    assert (
        str(error) == "LF 'a': unknown class 'REFUN', did you mean 'REFUND'? (known: REFUND, OTHER)"
    )
    assert "did you mean" not in str(UnknownNameError("class", "qqq", ["REFUND"]))


def test_long_lists_of_known_names_are_cut():
    assert str(UnknownNameError("x", "zz", [f"name{i}" for i in range(50)])).endswith(
        "name11, ...)"
    )


@pytest.mark.parametrize(
    ("typo", "right"), [("keywrod", "keyword"), ("REGEX", "regex"), ("promt", "prompt")]
)
def test_nearest_name_forgives(typo, right):
    assert nearest_name(typo, ["keyword", "regex", "prompt"]) == right


@given(st.lists(st.text(min_size=1), unique=True, min_size=1))
def test_a_known_name_is_nearest_to_itself(names):
    folded = {n.casefold() for n in names}
    if len(folded) == len(names):
        assert nearest_name(names[0], names) == names[0]


def test_missing_extra_says_what_to_install():
    error = MissingExtraError("torch", "local", need="the encoder")
    assert str(error) == "the encoder needs the package 'torch', which is not installed"
    assert error.hint == "pip install 'llmlabel[local]'"
