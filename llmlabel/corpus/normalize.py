"""Texts in one form: mojibake repaired, NFC, no control characters, white space in order."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.characters import Kind
from llmlabel.corpus.segment import Segments, batches, segment
from llmlabel.extras import need_packages

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

__all__ = ["normalize"]

Ints = npt.NDArray[np.int64]

_ODD: Final = 1  # a line with one of these is repaired
_PAIR: Final = 2  # so is one where this stands beside another that is no ASCII
_BLANK: Final = 3  # white space that is replaced or taken out
_REPLACED: Final = {
    **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000", " "),
    **dict.fromkeys(map(chr, range(0x2000, 0x200B)), " "),
    **dict.fromkeys("\u00ad\u200b\u2060", ""),  # soft hyphen, zero-width space, word joiner
    **dict.fromkeys("\v\f", "\n"),
}
_MANY: Final = re.compile("\n{3,}")
_ENTITY: Final = re.compile(r"&#?[0-9A-Za-z]{1,24};")


def normalize(texts: Sequence[str]) -> list[str]:
    r"""Return texts in one form; one that needs nothing is returned as it is.

    ftfy repairs what was decoded wrongly, unescapes HTML entities where there are no tags,
    takes out control characters and terminal escapes, and writes ligatures out; curly quotes
    and wide characters stay. Then NFC; odd spaces become plain ones, white space at the ends
    of lines and texts and invisible characters (soft hyphens, zero-width spaces) go, and at
    most one empty line stands between others.

    ftfy alone takes some 400 ns per code point. So lines that it could change are found by a
    look at all code points first, and only those are given to it: the result is the same.

    Parameters
    ----------
    texts
        n texts.

    Returns
    -------
    n texts; the same objects where nothing changed.

    Raises
    ------
    MissingExtraError
        ftfy is not installed (``llmlabel[corpus]``).

    Examples
    --------
    >>> normalize(["sÃ³lo  una lÃ­nea \r\n\n\n\nmÃ¡s", "nothing to do"])
    ['sólo  una línea\n\nmás', 'nothing to do']
    """
    need_packages("normalising texts", "ftfy", extra="corpus")
    out: list[str] = []
    for part in batches(texts):
        out += _normalize_batch(texts[part])
    return out


def _normalize_batch(given: Sequence[str]) -> list[str]:
    texts = [text.replace("\r\n", "\n") for text in given]
    segments = segment(texts)
    repaired, blank = _found(segments)
    out, lines = list(texts), segments.newline_lines
    for document, rows in _by_document(lines.document, repaired):
        out[document] = _spaced(_repair(texts[document], rows - lines.offsets[document]))
    for document in blank.tolist():
        out[document] = _spaced(out[document])
    wide = segments.count(np.flatnonzero(segments.codes > 127))
    for document in np.flatnonzero(wide).tolist():
        if not unicodedata.is_normalized("NFC", out[document]):
            out[document] = unicodedata.normalize("NFC", out[document])
    return [old if new == old else new for new, old in zip(out, given, strict=True)]


def _by_document(documents: Ints, rows: Ints) -> list[tuple[int, Ints]]:
    """Return the rows of each document that has some."""
    if not len(rows):
        return []
    of = documents[rows]
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    return [
        (int(of[begin]), part)
        for begin, part in zip(begins, np.split(rows, begins[1:]), strict=True)
    ]


def _found(segments: Segments) -> tuple[Ints, Ints]:
    """Return the lines that ftfy may change, and the documents whose white space may."""
    codes, kinds = segments.codes, segments.kinds
    flags = _suspects().take(codes)
    pairs = np.flatnonzero(flags == _PAIR)
    beside = (codes.take(pairs - 1) > 127) | (codes.take(pairs + 1) > 127)
    places = np.concatenate([np.flatnonzero(flags == _ODD), pairs.compress(beside)])
    lines = segments.newline_lines
    repaired = np.unique(np.searchsorted(lines.start, places, side="right") - 1)
    newline, space = kinds == Kind.NEWLINE, kinds <= Kind.SPACE
    ends = np.zeros(len(codes), np.bool_)
    ends[segments.offsets - 1] = True
    odd = flags == _BLANK
    odd[:-1] |= newline[1:] & space[:-1] & ~newline[:-1]  # at the end of a line
    odd[:-1] |= ends[1:] & space[:-1]  # at the end of a text, and at its beginning
    odd[1:] |= ends[:-1] & space[1:]
    odd[:-2] |= newline[:-2] & newline[1:-1] & newline[2:]
    at = np.searchsorted(segments.offsets, np.flatnonzero(odd), side="right") - 1
    return repaired, np.unique(at.compress((at >= 0) & (at < len(segments))))


def _repair(text: str, rows: Ints) -> str:
    """Return a text with some of its lines repaired, as `ftfy.fix_text` would all of them."""
    from ftfy import fix_text

    lines = text.split("\n")
    ends = list(accumulate(len(line) + 1 for line in lines))
    tag = text.find("<")
    for row in rows.tolist():
        last = row == len(lines) - 1
        line = lines[row] + ("" if last else "\n")
        if _may_change(line):
            # ftfy stops to unescape at the first tag of a text.
            late = 0 <= tag < ends[row]
            how = _config()._replace(unescape_html=False) if late else _config()
            fixed = fix_text(line, how)
            lines[row] = fixed if last else fixed.removesuffix("\n")
    return "\n".join(lines)


def _may_change(line: str) -> bool:
    from ftfy.badness import is_bad

    return bool(_characters().search(line) or _ENTITY.search(line) or is_bad(line))


def _spaced(text: str) -> str:
    for old, new in _REPLACED.items():
        text = text.replace(old, new)
    text = "\n".join([line.rstrip() for line in text.split("\n")])
    if "\n\n\n" in text:
        text = _MANY.sub("\n\n", text)
    return text.strip()


@functools.cache
def _config() -> TextFixerConfig:
    from ftfy import TextFixerConfig

    return TextFixerConfig(uncurl_quotes=False, fix_character_width=False, explain=False)


def _odd() -> str:
    """Return the characters that ftfy changes wherever they stand."""
    from ftfy.chardata import CONTROL_CHARS, LIGATURES

    line_ends = "\r\x85\u2028\u2029"
    rest = [chr(code) for code in (*range(0x80, 0xA0), *range(0xD800, 0xE000))]
    return "".join(
        dict.fromkeys([*map(chr, CONTROL_CHARS), *map(chr, LIGATURES), *line_ends, *rest])
    )


@functools.cache
def _characters() -> re.Pattern[str]:
    return re.compile(f"[{re.escape(_odd())}]")


@functools.cache
def _suspects() -> npt.NDArray[np.uint8]:
    """Return which code points may be part of something that is changed.

    ftfy's pattern of mojibake (`ftfy.badness`) needs two characters side by side that are no
    ASCII, one of them of the categories named here, or else one of "ŒœÃÂ".
    """
    from ftfy.badness import MOJIBAKE_CATEGORIES

    table = np.zeros(sys.maxunicode + 1, np.uint8)
    parts = "bad law currency start_punctuation end_punctuation numeric box"
    accented = " upper_accented lower_accented"
    wanted = "".join(MOJIBAKE_CATEGORIES[name] for name in (parts + accented).split())
    some = re.compile(f"[{wanted}ÙЂ°]")
    for code in range(128, 1 << 16):
        if some.match(chr(code)):
            table[code] = _PAIR
    table[list(map(ord, _REPLACED))] = _BLANK
    table[[ord(character) for character in _odd() + "ŒœÃÂ&"]] = _ODD
    return table
