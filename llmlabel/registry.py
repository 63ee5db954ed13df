"""Names to objects: built-ins, ``module:object`` strings and entry points.

A plug-in package declares an entry point in one of the groups below and is then
known by its name wherever a built-in is::

    [project.entry-points."llmlabel.label_models"]
    my-model = "my_package:MyLabelModel"
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Final

from llmlabel.errors import ConfigError, UnknownNameError

__all__ = ["GROUPS", "load", "names"]

# Strings, not imports: the registry stands below what it names, and naming a
# thing must not load it.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "lfs": {
            "keyword": "llmlabel.lf:keyword",
            "regex": "llmlabel.lf:regex",
            "nearest": "llmlabel.lf:nearest",
            "prompt": "llmlabel.lf:prompt",
            "column": "llmlabel.lf:column",
        },
        "label_models": {
            "majority_vote": "llmlabel.labelmodel:MajorityVote",
            "dawid_skene": "llmlabel.labelmodel:DawidSkene",
            "two_rate": "llmlabel.labelmodel:TwoRateModel",
            "weighted_vote": "llmlabel.labelmodel:WeightedVote",
            "snorkel_style": "llmlabel.labelmodel:SnorkelStyleModel",
            "triplet": "llmlabel.labelmodel:TripletModel",
            "mace": "llmlabel.labelmodel:MACE",
            "glad": "llmlabel.labelmodel:GLAD",
        },
        "clients": {
            "openai": "llmlabel.llm:OpenAIClient",
            "recorded": "llmlabel.llm:RecordedClient",
        },
    }
)


def names(group: str) -> tuple[str, ...]:
    """Return every name known in a group: built-ins first, then plug-ins.

    Examples
    --------
    >>> names("label_models")[:2]
    ('majority_vote', 'dawid_skene')
    """
    builtin = _builtin(group)
    plugins = sorted({e.name for e in entry_points(group=f"llmlabel.{group}")} - set(builtin))
    return (*builtin, *plugins)


def load(name: str, group: str) -> Any:
    """Return the object of a name, or of a ``module:object`` string.

    Parameters
    ----------
    name
        A name of `group`, or where to import the object from.
    group
        One of `GROUPS`.

    Raises
    ------
    UnknownNameError
        No such name; says the nearest one.
    ConfigError
        A ``module:object`` that cannot be imported.
    """
    if ":" in name:
        return _import(name)
    builtin = _builtin(group)
    if name in builtin:
        return _import(builtin[name])
    for entry in entry_points(group=f"llmlabel.{group}"):
        if entry.name == name:
            return entry.load()
    raise UnknownNameError(group.rstrip("s").replace("_", " "), name, names(group))


def _builtin(group: str) -> Mapping[str, str]:
    try:
        return GROUPS[group]
    except KeyError:
        raise UnknownNameError("registry group", group, GROUPS) from None


def _import(spec: str) -> Any:
    module_name, _, attribute = spec.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"cannot import {spec!r}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise UnknownNameError(
                "object", attribute, dir(target), where=f"module {module_name!r}"
            )
        target = getattr(target, part)
    return target
