"""Flaws that a document shows by itself: boilerplate, thin, promotional, metadata missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.lf.core import LF, Batch
from llmlabel.lf.texts import texts_of
from llmlabel.rag.flaw_words import PLACEHOLDER
from llmlabel.rag.surface import surface_lf
from llmlabel.schema import ABSTAIN

__all__ = ["boilerplate_lfs", "metadata_lf", "promotional_lfs", "thin_lfs"]

Bools = npt.NDArray[np.bool_]
Row = Mapping[str, Any]

GOOD: Final = "GOOD"


def _rate(found: Any, field: str) -> Any:
    """Return the count of a field per 100 words."""
    return 100.0 * found[field] / np.maximum(found["words"], 1.0)


def boilerplate_lfs(column: str = "text") -> list[LF]:
    """Return LFs for pages that are menu, form, consent, footer or template.

    `boilerplate.links`: at least 40 % of the characters are links, tags and buttons;
    `boilerplate.phrases`: three template phrases and four per 100 words;
    `boilerplate.placeholders`: a template not filled in, two of them or one in 50 words;
    `boilerplate.repeated`: at least half stands in lines of many documents;
    `boilerplate.no_sentences`: 40 words and more, at most 15 % of them in sentences, with
    links or template phrases. `boilerplate.prose` says GOOD: at least half is in sentences,
    hardly a link, not many phrases.

    Examples
    --------
    >>> menu = {"text": ["[Home](/) [Sale](/s) [Help](/h) Skip to content. Sitemap. Follow us"]}
    >>> [lf.name for lf in boilerplate_lfs() if lf(menu)[0][0] == 0]
    ['boilerplate.links', 'boilerplate.phrases']
    """
    flaw = "BOILERPLATE"
    return [
        surface_lf(
            "boilerplate.links",
            flaw,
            lambda m: m["links"] >= 0.4,
            lambda m: f"{m['links']:.0%} of it is links, tags and buttons",
            column=column,
        ),
        surface_lf(
            "boilerplate.phrases",
            flaw,
            lambda m: (m["template"] >= 3) & (_rate(m, "template") >= 4.0),
            lambda m: f"{m['template']:.0f} phrases of menus, forms and footers",
            column=column,
        ),
        surface_lf(
            "boilerplate.placeholders",
            flaw,
            lambda m: (m["placeholders"] >= 2) | (m["placeholders"] > m["words"] / 50),
            lambda m: f"{m['placeholders']:.0f} placeholders that were never filled in",
            column=column,
        ),
        surface_lf(
            "boilerplate.repeated",
            flaw,
            lambda m: m["repeated"] >= 0.5,
            lambda m: f"{m['repeated']:.0%} of it stands in several other documents",
            column=column,
        ),
        surface_lf(
            "boilerplate.no_sentences",
            flaw,
            lambda m: (
                (m["words"] >= 40)
                & (m["sentences"] <= 0.15)
                & ((m["links"] >= 0.2) | (_rate(m, "template") >= 1.0))
            ),
            lambda m: f"{m['sentences']:.0%} of its words stand in sentences",
            column=column,
        ),
        surface_lf(
            "boilerplate.prose",
            GOOD,
            lambda m: (
                (m["sentences"] >= 0.5)
                & (m["links"] < 0.1)
                & (_rate(m, "template") < 4.0)
                & (m["placeholders"] == 0)
            ),
            lambda m: f"{m['sentences']:.0%} of its words stand in sentences",
            column=column,
        ),
    ]


def thin_lfs(column: str = "text", *, min_words: int = 30) -> list[LF]:
    """Return LFs for documents without substance.

    `thin.words`: fewer words than the least; `thin.deferral`: fewer than 80, and "it
    depends", "please ask" or "coming soon" instead of an answer. `thin.long` says GOOD: at
    least 80 words.

    Examples
    --------
    >>> text = {"text": ["It depends. Please ask our team."]}
    >>> [lf.name for lf in thin_lfs() if lf(text)[0][0] == 0]
    ['thin.words', 'thin.deferral']
    """
    return [
        surface_lf(
            "thin.words",
            "THIN",
            lambda m: m["words"] < min_words,
            lambda m: f"{m['words']:.0f} words, fewer than {min_words}",
            column=column,
        ),
        surface_lf(
            "thin.deferral",
            "THIN",
            lambda m: (m["words"] < 80) & (m["deferrals"] > 0) & (m["facts"] < 2),
            lambda m: f"{m['words']:.0f} words that put the reader off",
            column=column,
        ),
        surface_lf(
            "thin.long",
            GOOD,
            lambda m: m["words"] >= 80,
            lambda m: f"{m['words']:.0f} words",
            column=column,
        ),
    ]


def promotional_lfs(column: str = "text") -> list[LF]:
    """Return LFs for documents that praise and say nothing one could act on.

    `promotional.feeling`: 3 words of feeling per 100 and more of them than of handling;
    `promotional.no_facts`: 60 words and more without a number with a unit or a list, hardly a
    word of handling. `promotional.facts` says GOOD: two facts, or many words of handling.

    Examples
    --------
    >>> text = {"text": ["Discover the joy. A love letter to the morning, with all our heart."]}
    >>> [lf.name for lf in promotional_lfs() if lf(text)[0][0] == 0]
    ['promotional.feeling']
    """
    flaw = "PROMOTIONAL"
    return [
        surface_lf(
            "promotional.feeling",
            flaw,
            lambda m: (_rate(m, "feeling") >= 3.0) & (m["feeling"] > m["handling"]),
            lambda m: (
                f"{m['feeling']:.0f} words of feeling in {m['words']:.0f}, "
                f"{m['handling']:.0f} of handling"
            ),
            column=column,
        ),
        surface_lf(
            "promotional.no_facts",
            flaw,
            lambda m: (
                (m["words"] >= 60)
                & (m["facts"] == 0)
                & (m["list_items"] == 0)
                & (_rate(m, "handling") < 3.0)
                & (_rate(m, "feeling") >= 1.0)
            ),
            lambda m: f"no fact, list or instruction in {m['words']:.0f} words",
            column=column,
        ),
        surface_lf(
            "promotional.facts",
            GOOD,
            lambda m: (m["facts"] >= 2) | (_rate(m, "handling") >= 5.0),
            lambda m: f"{m['facts']:.0f} facts, {m['handling']:.0f} words of handling",
            column=column,
        ),
    ]


def metadata_lf(required: Sequence[str]) -> LF:
    """Return the LF that votes METADATA_MISSING where a required column is empty.

    Parameters
    ----------
    required
        Columns of text or dates; a placeholder in one ("{{title}}") is no value.

    Examples
    --------
    >>> lf = metadata_lf(["title", "updated"])
    >>> lf({"title": ["A", "{{title}}"], "updated": ["2025-01-02", None]})[0].tolist()
    [-1, 0]
    >>> lf.why({"title": "{{title}}", "updated": None})
    'no title, updated'
    """
    columns = tuple(required)

    def empty(column: Any) -> Bools:
        texts = [None if v is None else str(v) for v in column]
        return np.array([_is_empty(t) for t in texts], np.bool_)

    def vote(batch: Batch) -> npt.NDArray[np.int16]:
        found = np.any([empty(batch[name]) for name in columns], axis=0)
        return np.where(found, 0, ABSTAIN).astype(np.int16)

    def why(row: Row) -> str:
        lost = [c for c in columns if _is_empty(None if row[c] is None else str(row[c]))]
        return f"no {', '.join(lost)}"

    return LF(
        "metadata.missing",
        vote,
        labels=("METADATA_MISSING",),
        kind="metadata",
        columns=columns,
        why=why,
    )


_UNFILLED: Final = re.compile(PLACEHOLDER.replace("(?i:", "(?:"))


def _is_empty(text: str | None) -> bool:
    bare = (text or "").strip()
    return bare in {"", "NaT", "nan", "None"} or _UNFILLED.search(bare) is not None


def texts_list(column: Any) -> list[str]:
    """Return a column of texts as a list, None as an empty one."""
    return [text or "" for text in texts_of(column).arrow.to_pylist()]
