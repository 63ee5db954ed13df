"""The flaws that harm retrieval, as a multi-label task, and the LFs that vote on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmlabel.lf.core import LF
from llmlabel.rag.flaws_pairs import Versions, near_duplicate_lfs, outdated_lfs
from llmlabel.rag.flaws_personal import personal_lfs
from llmlabel.rag.flaws_text import boilerplate_lfs, metadata_lf, promotional_lfs, thin_lfs
from llmlabel.schema import Task

__all__ = ["FLAWS", "absent_of", "flaw_task", "pair_lfs", "text_lfs"]

FLAWS: Final = {
    "BOILERPLATE": "a menu, form, consent text, footer or a template that was never filled in",
    "NEAR_DUPLICATE": "nearly the same text and the same facts as another document",
    "OUTDATED": "an earlier version: a newer document has other facts on the same topic",
    "THIN": "too little to answer anything",
    "PROMOTIONAL": "praise without anything one could act on",
    "PERSONAL": "data of single persons",
    "CONTRADICTION": "says something else than another document on the same question",
    "METADATA_MISSING": "no title, no date or another empty column that is needed",
    "UNANSWERABLE": "answers no question that a reader would ask",
}
"""What can be wrong with a document, each with its meaning. It may be several at once."""

_SPEAKS_OF: Final = {
    "boilerplate": "BOILERPLATE",
    "near_duplicate": "NEAR_DUPLICATE",
    "outdated": "OUTDATED",
    "thin": "THIN",
    "promotional": "PROMOTIONAL",
    "personal": "PERSONAL",
    "contradiction": "CONTRADICTION",
    "metadata": "METADATA_MISSING",
    "answerability": "UNANSWERABLE",
}


def flaw_task(column: str = "text") -> Task:
    """Return the multi-label task: all of `FLAWS`, and GOOD, which speaks against some.

    Examples
    --------
    >>> flaw_task().names[:2]
    ('GOOD', 'BOILERPLATE')
    """
    classes: dict[str, str] = {"GOOD": "nothing is wrong with it", **FLAWS}
    return Task(
        "flaws",
        classes,
        text=column,
        multi_label=True,
        description="What is wrong with a document for answering questions from it?",
    )


def text_lfs(
    column: str = "text", *, min_words: int = 30, required: Sequence[str] = ()
) -> list[LF]:
    """Return the LFs that look at each document alone.

    Parameters
    ----------
    column
        Where the text is.
    min_words
        Of a document that is not thin.
    required
        Columns that must not be empty.

    Examples
    --------
    >>> sorted({lf.name.split(".")[0] for lf in text_lfs(required=["title"])})
    ['boilerplate', 'metadata', 'personal', 'promotional', 'thin']
    """
    return [
        *boilerplate_lfs(column),
        *thin_lfs(column, min_words=min_words),
        *promotional_lfs(column),
        *personal_lfs(column),
        *([metadata_lf(required)] if required else []),
    ]


def pair_lfs(column: str = "text", versions: Versions | None = None) -> list[LF]:
    """Return the LFs that look at documents beside each other (`flaws_pairs`)."""
    return [*near_duplicate_lfs(versions), *outdated_lfs(column, versions)]


def absent_of(lfs: Sequence[LF]) -> dict[str, list[str]]:
    """Return for `apply_per_class` which flaw each LF that votes GOOD speaks against.

    It is the one of its name's first part: ``thin.long`` says that a document is not THIN.

    Examples
    --------
    >>> absent_of(text_lfs())["thin.long"]
    ['THIN']
    """
    return {
        lf.name: [_SPEAKS_OF[lf.name.split(".", 1)[0]]]
        for lf in lfs
        if lf.labels is not None and "GOOD" in lf.labels and lf.name.split(".", 1)[0] in _SPEAKS_OF
    }
