"""What a document looks like, in numbers: words, links, sentences, facts, template phrases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.corpus.ngrams import ranges
from llmlabel.corpus.passages import passages, repeated
from llmlabel.lf.core import LF, Batch, Feature
from llmlabel.rag import flaw_words as words
from llmlabel.rag.facts import facts_of
from llmlabel.schema import ABSTAIN

__all__ = ["SURFACE", "surface", "surface_feature", "surface_lf"]

SURFACE: Final = "rag.surface"

_COUNTED: Final = {
    "template": words.TEMPLATE,
    "placeholders": words.PLACEHOLDER,
    "list_items": words.LIST_ITEM,
    "deferrals": words.DEFERRAL,
    "feeling": words.FEELING,
    "handling": words.HANDLING,
    "digits": r"\d+",
}
# A line of at least six words that ends as sentences do, without a link in it.
_SENTENCE: Final = r"(?:[^\s]+\s+){5,}[^\s]*[.!?:;…][\"'*_)\x{201D}\x{2019}]*\s*$"
_WORD: Final = r"[\p{L}\p{N}]+"
_FIELDS: Final = ("words", "links", "sentences", "facts", "repeated", *_COUNTED)


def surface(texts: Sequence[str | None], *, min_documents: int = 4) -> npt.NDArray[np.void]:
    """Measure documents.

    Parameters
    ----------
    texts
        n documents; None is an empty one.
    min_documents
        In how many of these a line of five words and more stands to be a repeated one.

    Returns
    -------
    A structured array of shape (n,) of float64 fields: ``words`` (letters and digits in a
    row); ``links``, ``sentences`` and ``repeated``, shares of the characters that are in
    links, tags and buttons, of the words that are in sentences, and of the characters that
    are in repeated lines; ``facts`` (different numbers with units); counts of ``template``
    phrases, ``placeholders``, ``list_items``, ``deferrals``, words of ``feeling`` and of
    ``handling`` (see `flaw_words`) and ``digits``.

    Examples
    --------
    >>> found = surface(["[Home](/) [Sale](/sale)", "You can send it back within 30 days."])
    >>> found["links"].round(1).tolist(), found["facts"].tolist()
    ([1.0, 0.0], [0.0, 1.0])
    """
    rows = [text or "" for text in texts]
    column = pl.Series("text", rows, dtype=pl.String)
    out = np.zeros(len(rows), [(name, np.float64) for name in _FIELDS])
    text = pl.col("text")
    found = pl.DataFrame({"text": column}).select(
        words=text.str.count_matches(_WORD),
        characters=text.str.len_chars(),
        linked=text.str.extract_all(words.LINK).list.eval(pl.element().str.len_chars()).list.sum(),
        **{name: text.str.count_matches(pattern) for name, pattern in _COUNTED.items()},
    )
    for name in ("words", *_COUNTED):
        out[name] = found[name].to_numpy()
    out["links"] = found["linked"].to_numpy() / np.maximum(found["characters"].to_numpy(), 1)
    out["sentences"] = _in_sentences(column, len(rows)) / np.maximum(out["words"], 1)
    out["facts"] = facts_of(rows).counts
    out["repeated"] = _repeated(rows, min_documents)
    return out


def surface_feature(column: str = "text") -> Feature:
    """Return the column of `surface` that the LFs on looks share.

    Repeated lines are those of the batch: `curate` measures the whole collection at once.
    """
    name = SURFACE if column == "text" else f"{SURFACE}.{column}"
    return Feature(name, lambda batch: surface(list(batch[column])))


def surface_lf(
    name: str,
    label: str,
    test: Callable[[npt.NDArray[np.void]], npt.NDArray[np.bool_]],
    say: Callable[[Mapping[str, float]], str],
    *,
    column: str = "text",
) -> LF:
    """Make an LF that votes for a class where a test of the measures holds.

    Parameters
    ----------
    name, label
        Of the LF, and the class voted for.
    test
        From measures of shape (n,) to bools.
    say
        From one row's measures to the evidence.
    column
        Where the text is.
    """
    feature = surface_feature(column)

    def vote(batch: Batch) -> npt.NDArray[np.int16]:
        return np.where(test(np.asarray(batch[feature.name])), 0, ABSTAIN).astype(np.int16)

    def why(row: Mapping[str, Any]) -> str:
        return say({field: float(row[feature.name][field]) for field in _FIELDS})

    return LF(
        name,
        vote,
        labels=(label,),
        kind="surface",
        columns=(column,),
        features=(feature,),
        why=why,
    )


def _in_sentences(texts: pl.Series, n: int) -> npt.NDArray[np.float64]:
    """Return how many words of each text stand in lines that are sentences."""
    lines = (
        pl.DataFrame({"text": texts})
        .with_row_index("row")
        .select("row", line=pl.col("text").str.split("\n"))
        .explode("line")
        .filter(pl.col("line").str.contains(_SENTENCE) & ~pl.col("line").str.contains(words.LINK))
        .select("row", words=pl.col("line").str.count_matches(_WORD))
    )
    weights = lines["words"].to_numpy().astype(np.float64)
    found = np.bincount(lines["row"].to_numpy(), weights=weights, minlength=n)
    return np.asarray(found, np.float64)


def _repeated(documents: list[str], min_documents: int) -> npt.NDArray[np.float64]:
    # Equal documents are duplicates of one, of which nothing is boilerplate.
    texts, one = np.unique(np.array([*documents, ""], object), return_inverse=True)
    share = _repeated_lines(texts.tolist(), min_documents)
    return np.asarray(share[one[:-1]], np.float64)


def _repeated_lines(texts: list[str], min_documents: int) -> npt.NDArray[np.float64]:
    found = passages(texts, "line")
    often = repeated(found, max_documents=max(min_documents - 1, 1), keep_first=False)
    if not often.any():
        return np.zeros(len(texts))
    counts = np.diff(found.offsets)
    rows = np.flatnonzero(np.bincount(np.repeat(np.arange(len(texts)), counts)[often]))
    pieces = pl.Series([texts[row] for row in rows.tolist()]).str.extract_all(r"[^\n]*\n|[^\n]+")
    lengths = pieces.explode().str.len_chars().to_numpy().astype(np.float64)
    at = ranges(found.offsets[rows], counts[rows])
    owner = np.repeat(np.arange(len(rows)), counts[rows])
    lost = np.bincount(owner, weights=lengths * often[at], minlength=len(rows))
    out = np.zeros(len(texts))
    out[rows] = lost / np.maximum(np.bincount(owner, weights=lengths, minlength=len(rows)), 1)
    return out
