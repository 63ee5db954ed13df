"""Where a text may be cut: headings, blocks, items, sentences; and what should stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

__all__ = ["Boundaries", "Level", "capped", "sentence_starts", "structure"]

_ABBREVIATIONS: Final = frozenset(
    [
        "al",
        "approx",
        "bzw",
        "ca",
        "cf",
        "co",
        "corp",
        "dept",
        "dr",
        "e.g",
        "eds",
        "est",
        "etc",
        "fig",
        "figs",
        "i.e",
        "inc",
        "jr",
        "ltd",
        "max",
        "min",
        "mr",
        "mrs",
        "ms",
        "mt",
        "no",
        "nos",
        "op",
        "pp",
        "prof",
        "resp",
        "sec",
        "sr",
        "st",
        "tel",
        "u.a",
        "u.s",
        "usw",
        "viz",
        "vol",
        "vs",
        "z.b",
    ]
)
# Where the ideographic stops end a sentence no space follows.
_WIDE_STOPS: Final = "\u3002\uff01\uff1f"
_CLOSERS: Final = "\"'\u201d\u2019\u00bb)\\]"
_WIDE_CLOSERS: Final = "\u300d\u300f\u201d\u2019\uff09"
_END: Final = re.compile(
    rf"[.!?\u2026]+[{_CLOSERS}]*\s+(?=\S)|[{_WIDE_STOPS}]+[{_WIDE_CLOSERS}]*\s*(?=\S)"
)
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM: Final = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+\S")
_DELIMITER: Final = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")


class Level(IntEnum):
    """How good a place for a cut is; from 13 to 18 headings, from the sixth level to the first."""

    WORD = 0
    AFTER_HEADING = 1
    SENTENCE = 2
    ITEM = 3
    BLOCK = 4
    HEADING = 12
    START = 20


@dataclass
class Boundaries:
    """The places for cuts in one text, in order.

    Parameters
    ----------
    places, levels
        Where something begins, and its `Level`.
    whole
        Tables and blocks of code, as (start, end).
    headings
        Where each heading begins, and the headings that it stands below, itself the last.
    """

    places: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    whole: list[tuple[int, int]] = field(default_factory=list)
    headings: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def add(self, place: int, level: int) -> None:
        """Add a place behind the others, or raise the last one's level."""
        if self.places and self.places[-1] == place:
            self.levels[-1] = max(self.levels[-1], int(level))
        else:
            self.places.append(place)
            self.levels.append(int(level))


def sentence_starts(text: str, start: int = 0, end: int | None = None) -> list[int]:
    """Return where sentences begin, but for the first.

    A full stop after a known abbreviation or a single letter ends none.

    Examples
    --------
    >>> text = "Dr. Hall came at 5.30. She left."
    >>> [text[i:] for i in sentence_starts(text)]
    ['She left.']
    """
    stop = len(text) if end is None else end
    found = []
    for match in _END.finditer(text, start, stop):
        at = match.start()
        if text[at] == "." and text[at : at + 2] != "..":
            word = text[max(start, at - 8) : at].rsplit(None, 1)
            last = word[-1].lstrip("(\"'“[").lower() if word else ""
            if last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha()):
                continue
        found.append(match.end())
    return found


def capped(found: Boundaries, level: Level, *, keep_whole: bool) -> Boundaries:
    r"""Return the same places, none of them stronger than a level.

    Examples
    --------
    >>> capped(structure("# A\n\nOne. Two."), Level.SENTENCE, keep_whole=False).levels
    [2, 1, 2]
    """
    levels = [min(one, int(level)) for one in found.levels]
    whole = found.whole if keep_whole else []
    return Boundaries(found.places, levels, whole, found.headings)


def structure(text: str) -> Boundaries:
    r"""Return the places for cuts in Markdown, or in plain text with blank lines.

    Headings are lines with ``#`` or underlined ones; tables are lines with ``|`` around a
    delimiter row, code is what stands between fences.

    Examples
    --------
    >>> found = structure("# A\n\nOne. Two.\n\n## B\n\n| x |\n|---|\n| 1 |\n")
    >>> [(place, Level(min(level, 12)).name) for place, level in zip(found.places, found.levels)]
    [(0, 'HEADING'), (5, 'AFTER_HEADING'), (10, 'SENTENCE'), (16, 'HEADING'), (22, 'AFTER_HEADING'), (28, 'ITEM'), (34, 'ITEM')]
    >>> found.whole, found.headings
    ([(22, 39)], [(0, ('A',)), (16, ('A', 'B'))])
    """
    found = Boundaries()
    path: list[tuple[int, str]] = []
    opens = int(Level.BLOCK)
    for kind, start, end in _blocks(text):
        if kind == "heading":
            depth, title = _title(text[start:end])
            path = [p for p in path if p[0] < depth]
            path.append((depth, title))
            found.add(start, Level.HEADING + 7 - depth)
            found.headings.append((start, tuple(p[1] for p in path)))
            opens = int(Level.AFTER_HEADING)
            continue
        found.add(start, opens)
        opens = int(Level.BLOCK)
        _inside(text, kind, start, end, found)
    return found


def _inside(text: str, kind: str, start: int, end: int, found: Boundaries) -> None:
    if kind in ("code", "table"):
        found.whole.append((start, end))
        for place in _line_starts(text, start, end):
            found.add(place, Level.ITEM)
        return
    marks = [(place, Level.SENTENCE) for place in sentence_starts(text, start, end)]
    marks += [
        (place, Level.ITEM) for place in _line_starts(text, start, end) if _ITEM.match(text, place)
    ]
    for place, level in sorted(marks):
        found.add(place, level)


def _line_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where the lines of a block begin, but for the first; blank ones are passed over."""
    at = text.find("\n", start, end) + 1
    while at:
        stop = text.find("\n", at, end)
        line = text[at : stop if stop >= 0 else end]
        if line.strip():
            yield at + len(line) - len(line.lstrip())
        at = stop + 1


def _title(block: str) -> tuple[int, str]:
    first, _, rest = block.partition("\n")
    match = _HEADING.match(first.rstrip("\r"))
    if match is not None:
        return len(match[1]), (match[2] or "").strip(" \t*_`")
    return (1 if rest.strip().startswith("=") else 2), first.strip(" \t\r*_`")


def _blocks(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of headings, code, tables and other blocks of lines.

    A block begins at its first character that is no white space.
    """
    lines = _lines(text)
    at = 0
    while at < len(lines):
        start, end = lines[at]
        line = text[start:end].rstrip("\r")
        if not line.strip():
            at += 1
            continue
        kind, stop = _block(text, lines, at, line)
        first = start + len(line) - len(line.lstrip())
        yield kind, first, lines[stop - 1][1]
        at = stop


def _lines(text: str) -> list[tuple[int, int]]:
    ends = [m.start() for m in re.finditer("\n", text)]
    return list(zip([0, *(e + 1 for e in ends)], [*ends, len(text)], strict=True))


def _block(text: str, lines: list[tuple[int, int]], at: int, line: str) -> tuple[str, int]:
    """Return the kind of the block that begins at a line, and the line after it."""
    if "#" in line and _HEADING.match(line):
        return "heading", at + 1
    fence = _FENCE.match(line)
    if fence is not None:
        return "code", _closing(text, lines, at, fence[1])
    stop = at + 1
    table = False
    while stop < len(lines):
        following = text[lines[stop][0] : lines[stop][1]].rstrip("\r")
        if not following.strip():
            break
        if stop == at + 1 and _UNDERLINE.match(following) and "|" not in line:
            return "heading", stop + 1
        if stop == at + 1 and "|" in line and "-" in following and _DELIMITER.match(following):
            table = True
        elif (table and "|" not in following) or _opens_other(text, lines, stop, following):
            break
        stop += 1
    return ("table" if table else "text"), stop


def _opens_other(text: str, lines: list[tuple[int, int]], at: int, line: str) -> bool:
    """Whether a heading, a fence or a table begins at a line within a paragraph."""
    if ("#" in line and _HEADING.match(line)) or _FENCE.match(line):
        return True
    if "|" not in line or at + 1 >= len(lines):
        return False
    following = text[lines[at + 1][0] : lines[at + 1][1]].rstrip("\r")
    before = text[lines[at - 1][0] : lines[at - 1][1]]
    return "|" not in before and "-" in following and _DELIMITER.match(following) is not None


def _closing(text: str, lines: list[tuple[int, int]], at: int, fence: str) -> int:
    """Return the line after a block of code; one that nothing closes goes to the end."""
    for number in range(at + 1, len(lines)):
        line = text[lines[number][0] : lines[number][1]].strip()
        if line.startswith(fence) and not line.strip(fence[0]):
            return number + 1
    return len(lines)
