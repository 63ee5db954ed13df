"""The families of rules by name, and the rules of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, Final

from llmlabel.corpus.c4 import C4_FAMILY
from llmlabel.corpus.fineweb import FINEWEB
from llmlabel.corpus.gopher import QUALITY, REPETITION
from llmlabel.corpus.rules import Family, judge, rules_of
from llmlabel.corpus.segment import Segments
from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import UnknownNameError

__all__ = ["FAMILIES", "check_rules", "family_of", "family_verdict", "rule_names"]

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {family.name: family for family in (QUALITY, REPETITION, C4_FAMILY, FINEWEB)}
)


def rule_names() -> list[str]:
    """Return all rules' names: ``gopher_quality.min_words``, ...

    Examples
    --------
    >>> rule_names()[0]
    'gopher_quality.min_words'
    """
    return [f"{name}.{r.name}" for name, f in FAMILIES.items() for r in rules_of(f.thresholds())]


def check_rules(names: Sequence[str]) -> None:
    """Check that each name is one of a family or a rule.

    Raises
    ------
    UnknownNameError
        One is not; says the nearest.
    """
    known = [*FAMILIES, *rule_names()]
    for name in names:
        if name not in known:
            raise UnknownNameError("rule", name, known)


def family_of(name: str) -> Family:
    """Return a family by its name, or by that of one of its rules."""
    check_rules([name])
    return FAMILIES[name.split(".", 1)[0]]


def family_verdict(name: str, documents: Segments, **thresholds: Any) -> Verdict:
    """Return a family's verdict, with some thresholds other than the published ones.

    Examples
    --------
    >>> from llmlabel.corpus.segment import segment
    >>> few = segment(["Only five words are here."])
    >>> family_verdict("gopher_quality", few, min_words=5, min_stop_words=0).keep.tolist()
    [True]
    """
    family = family_of(name)
    limits = family.thresholds()
    known = [f.name for f in fields(limits)]
    for key in thresholds:
        if key not in known:
            raise UnknownNameError("threshold", key, known, where=name)
    return judge(family, documents, replace(limits, **thresholds))
