"""What is labeled: the classes with their descriptions, and the text they are given to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from llmlabel.errors import ConfigError, UnknownNameError

__all__ = ["ABSTAIN", "LabelClass", "Task"]

ABSTAIN: Final = -1
"""The vote of a labeling function that has nothing to say about a row."""

_MAX_CLASSES: Final = 32_767  # votes are int16


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class: its name and what it means, in words that a person or an LLM can follow."""

    name: str
    description: str = ""


def _as_classes(
    classes: Mapping[str, str] | Iterable[str | LabelClass],
) -> tuple[LabelClass, ...]:
    if isinstance(classes, Mapping):
        return tuple(LabelClass(name, text or "") for name, text in classes.items())
    if isinstance(classes, str):
        raise ConfigError(f"classes: expected several names, got the one string {classes!r}")
    return tuple(c if isinstance(c, LabelClass) else LabelClass(c) for c in classes)


@dataclass(frozen=True)
class Task:
    """A labeling task.

    Parameters
    ----------
    name
        A short name, used in files and reports.
    classes
        Class names with descriptions: a mapping ``{name: description}``, names
        alone, or `LabelClass` values. Their order is the order of vote integers
        and probability columns everywhere.
    text
        The columns that hold a row's text; several are joined by a blank line.
    multi_label
        Whether a row may have several classes at once. Kept in the type so that
        nothing has to assume otherwise; the label models here are single-label.
    description
        What is asked, in one sentence.

    Raises
    ------
    ConfigError
        Fewer than two classes, an empty or repeated name, no text column.

    Examples
    --------
    >>> task = Task("spam", {"HAM": "a real remark", "SPAM": "promotion"})
    >>> task.index("SPAM"), task.names
    (1, ('HAM', 'SPAM'))
    """

    name: str
    classes: tuple[LabelClass, ...] = field(default=())
    text: tuple[str, ...] = ("text",)
    multi_label: bool = False
    description: str = ""

    def __init__(
        self,
        name: str,
        classes: Mapping[str, str] | Iterable[str | LabelClass],
        text: str | Iterable[str] = "text",
        *,
        multi_label: bool = False,
        description: str = "",
    ) -> None:
        found = _as_classes(classes)
        columns = (text,) if isinstance(text, str) else tuple(text)
        _check(name, found, columns)
        for key, value in {
            "name": name,
            "classes": found,
            "text": columns,
            "multi_label": multi_label,
            "description": description,
        }.items():
            object.__setattr__(self, key, value)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names in vote order."""
        return tuple(c.name for c in self.classes)

    @property
    def n_classes(self) -> int:
        """The number of classes, k."""
        return len(self.classes)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def index(self, name: str, *, where: str = "") -> int:
        """Return the vote integer of a class name.

        Raises
        ------
        UnknownNameError
            With the nearest class name, and `where` in front.
        """
        try:
            return self._positions[name]
        except (KeyError, TypeError):
            raise UnknownNameError("class", str(name), self.names, where=where) from None

    def as_dict(self) -> dict[str, object]:
        """Return plain data from which the same task can be made (and fingerprinted)."""
        return {
            "name": self.name,
            "classes": {c.name: c.description for c in self.classes},
            "text": list(self.text),
            "multi_label": self.multi_label,
            "description": self.description,
        }


def _check(name: str, classes: tuple[LabelClass, ...], text: tuple[str, ...]) -> None:
    if not name:
        raise ConfigError("task: the name is empty")
    if len(classes) < 2:
        raise ConfigError(f"task {name!r}: expected at least two classes, got {len(classes)}")
    if len(classes) > _MAX_CLASSES:
        raise ConfigError(f"task {name!r}: at most {_MAX_CLASSES} classes, got {len(classes)}")
    seen: set[str] = set()
    for c in classes:
        if not isinstance(c.name, str) or not c.name.strip():
            raise ConfigError(
                f"task {name!r}: class names must be non-empty strings, got {c.name!r}"
            )
        if c.name in seen:
            raise ConfigError(f"task {name!r}: the class {c.name!r} is named twice")
        seen.add(c.name)
    if not text or not all(text):
        raise ConfigError(f"task {name!r}: name at least one text column")
