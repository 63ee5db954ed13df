"""Rules on text as labeling functions: each votes where its document fails it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.families import FAMILIES
from llmlabel.corpus.rules import Rule, rules_of
from llmlabel.corpus.segment import batches, segment
from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.lf.core import LF, Batch, Feature
from llmlabel.schema import ABSTAIN

__all__ = ["MEASURES", "family", "measures", "measures_feature", "rule", "rules"]

MEASURES: Final = "corpus.measures"
_COUNTS: Final = {
    "words",
    "stop_words",
    "characters",
    "lines",
    "sentences",
    "lorem_ipsum",
    "curly_brackets",
}


def measures(texts: Sequence[str | None]) -> npt.NDArray[np.void]:
    """Return all families' measures of documents, on one segmentation.

    Parameters
    ----------
    texts
        n documents; None is an empty one.

    Returns
    -------
    A structured array of shape (n,), with a float64 field ``FAMILY.MEASURE`` per measure.

    Examples
    --------
    >>> measures(["Only four words here"])["gopher_quality.words"].tolist()
    [4.0]
    """
    rows = [text or "" for text in texts]
    parts = [_measured(rows[part]) for part in batches(rows)] or [_measured([])]
    return np.concatenate(parts)


def _measured(texts: list[str]) -> npt.NDArray[np.void]:
    segments = segment(texts)
    found = {
        f"{name}.{measure}": values
        for name, one in FAMILIES.items()
        for measure, values in one.measure(segments, one.thresholds()).items()
    }
    out = np.empty(len(texts), [(name, np.float64) for name in found])
    for name, values in found.items():
        out[name] = values
    return out


def measures_feature(column: str = "text") -> Feature:
    """Return the column of `measures` that all rules on a text column share."""
    name = MEASURES if column == "text" else f"{MEASURES}.{column}"
    return Feature(name, lambda batch: measures(list(batch[column])))


def rule(
    name: str,
    *,
    drop: str = "DROP",
    threshold: float | None = None,
    column: str = "text",
) -> LF:
    """Vote for a class where a document fails a rule.

    Parameters
    ----------
    name
        ``FAMILY.RULE``, for example ``gopher_quality.min_words``; also the LF's name.
    drop
        The class that it votes for.
    threshold
        By default the published one.
    column
        Where the text is.

    Raises
    ------
    UnknownNameError
        There is no such rule; says the nearest.

    Examples
    --------
    >>> short = rule("gopher_quality.min_words", threshold=5)
    >>> short({"text": ["Three words only", "Here there are five words"]})[0].tolist()
    [0, -1]
    """
    known = {f"{f}.{r.name}": r for f, one in FAMILIES.items() for r in rules_of(one.thresholds())}
    if name not in known:
        raise UnknownNameError("rule", name, known)
    published = known[name]
    limit = Rule(published.name, published.threshold if threshold is None else threshold)
    feature = measures_feature(column)
    measure = f"{name.split('.', 1)[0]}.{limit.measure}"

    def vote(batch: Batch) -> npt.NDArray[np.int16]:
        fails = limit.fails(np.asarray(batch[feature.name])[measure])
        return np.where(fails, 0, ABSTAIN).astype(np.int16)

    return LF(
        name,
        vote,
        labels=(drop,),
        kind="rule",
        columns=(column,),
        features=(feature,),
        why=partial(_why, feature.name, measure, limit),
        spec={"lf": "rule", "rule": name, "label": drop, "threshold": threshold, "column": column},
    )


def rules(
    name: str,
    *,
    drop: str = "DROP",
    keep: str | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    column: str = "text",
) -> list[LF]:
    """Return a family's rules as labeling functions.

    Parameters
    ----------
    name
        ``gopher_quality``, ``gopher_repetition``, ``c4`` or ``fineweb``.
    drop
        The class that each votes for where its document fails it.
    keep
        A class that one more LF votes for where a document passes them all.
    thresholds
        Other thresholds than the published ones, by rule (``min_words``); None leaves a rule
        out.
    column
        Where the text is.

    Raises
    ------
    UnknownNameError
        There is no such family or rule; says the nearest.

    Examples
    --------
    >>> [lf.name for lf in rules("c4", keep="KEEP", thresholds={"max_lorem_ipsum": None})]
    ['c4.max_curly_brackets', 'c4.min_sentences', 'c4']
    """
    limits = _limits(name, thresholds or {})
    out = [
        rule(f"{name}.{r.name}", drop=drop, threshold=r.threshold, column=column) for r in limits
    ]
    return (
        out
        if keep is None
        else [*out, family(name, keep=keep, thresholds=thresholds, column=column)]
    )


def family(
    name: str,
    *,
    drop: str | None = None,
    keep: str | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    column: str = "text",
) -> LF:
    """Vote on a document by a whole family of rules.

    Parameters
    ----------
    name, thresholds, column
        See `rules`.
    drop
        The class that it votes for where a document fails a rule of them.
    keep
        The class that it votes for where it passes them all. None abstains.

    Raises
    ------
    ConfigError
        Neither class.

    Examples
    --------
    >>> texts = ["A line that is long enough, and ends well.", "Menu"]
    >>> family("fineweb", drop="DROP")({"text": texts})[0].tolist()
    [-1, 0]
    """
    if drop is None and keep is None:
        raise ConfigError(f"the family {name!r}: name a class that it votes for, drop or keep")
    limits = _limits(name, thresholds or {})
    feature = measures_feature(column)
    labels = tuple(label for label in (drop, keep) if label is not None)
    failed, passed = (ABSTAIN if c is None else labels.index(c) for c in (drop, keep))

    def vote(batch: Batch) -> npt.NDArray[np.int16]:
        found = np.asarray(batch[feature.name])
        fails = np.zeros(len(found), np.bool_)
        for limit in limits:
            fails |= limit.fails(found[f"{name}.{limit.measure}"])
        return np.where(fails, failed, passed).astype(np.int16)

    def why(row: Mapping[str, Any]) -> str:
        for limit in limits:
            measure = f"{name}.{limit.measure}"
            if limit.fails(np.array([row[feature.name][measure]]))[0]:
                return _why(feature.name, measure, limit, row)
        return f"passes all {len(limits)} rules"

    return LF(
        name,
        vote,
        labels=labels,
        kind="rule",
        columns=(column,),
        features=(feature,),
        why=why,
        spec={"lf": "rule", "rule": name, "label": drop, "passes": keep, "column": column}
        if not thresholds
        else None,
    )


def _limits(name: str, thresholds: Mapping[str, float | None]) -> list[Rule]:
    if name not in FAMILIES:
        raise UnknownNameError("family of rules", name, FAMILIES)
    published = {r.name: r.threshold for r in rules_of(FAMILIES[name].thresholds())}
    for key in thresholds:
        if key not in published:
            raise UnknownNameError("rule", key, published, where=name)
    limits = [Rule(key, value) for key, value in {**published, **thresholds}.items()]
    return [limit for limit in limits if limit.threshold is not None]


def _why(feature: str, measure: str, limit: Rule, row: Mapping[str, Any]) -> str:
    value = float(row[feature][measure])
    what = limit.measure.replace("_", " ")
    said = f"{value:.0f} {what}" if limit.measure in _COUNTS else f"{what} {value:.3g}"
    return f"{said}, {'below' if limit.name.startswith('min_') else 'above'} {limit.threshold:g}"
