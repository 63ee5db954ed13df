"""Personal data as a flaw: who is named, how to reach them, what happened to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.corpus.personal import Personal, find_personal
from llmlabel.lf.core import LF, Batch, Feature
from llmlabel.rag import flaw_words as words
from llmlabel.schema import ABSTAIN

__all__ = ["PERSONAL", "mask_persons", "personal_counts", "personal_feature", "personal_lfs"]

PERSONAL: Final = "rag.personal"
_SURE: Final = ("iban", "card", "key")
_FIELDS: Final = ("email", "phone", "name", "address", "birth", "case", "secret")
_MASKS: Final = {"phone": "<PHONE>", "name": "<NAME>", "address": "<ADDRESS>"}
_PATTERNS: Final = {"name": words.NAME, "address": words.PERSON_ADDRESS, "phone": words.PHONE}


def personal_counts(texts: Sequence[str | None]) -> npt.NDArray[np.void]:
    """Count what points to single persons in documents.

    Parameters
    ----------
    texts
        n documents; None is an empty one.

    Returns
    -------
    A structured array of shape (n,) of int64 fields: ``email`` (addresses of persons: no role
    such as info@ or orders@), ``phone`` (numbers of 9 to 13 digits in groups, no freephone),
    ``name`` (names after Mr, Mrs, Dr ...), ``address`` (house number and street), ``birth``
    (dates of birth, ages), ``case`` (numbers of one order, customer or ticket; a transcript),
    ``secret`` (payment cards, IBANs, keys).

    Examples
    --------
    >>> found = personal_counts(["Mail info@a.org.", "Mrs Jo Ray, jo.ray@a.org, 07700 900123"])
    >>> [found[name].tolist() for name in ("email", "phone", "name")]
    [[0, 1], [0, 1], [0, 1]]
    """
    rows = [text or "" for text in texts]
    column = pl.Series(rows, dtype=pl.String)
    out = np.zeros(len(rows), [(name, np.int64) for name in _FIELDS])
    held = _held(rows)
    emails = held.document[(held.kind == "email") & ~_roles(rows, held)]
    out["email"] = np.bincount(emails, minlength=len(rows))
    out["secret"] = np.bincount(held.document[np.isin(held.kind, _SURE)], minlength=len(rows))
    for name, pattern in (
        ("name", words.NAME),
        ("address", words.PERSON_ADDRESS),
        ("birth", words.BIRTH),
        ("case", words.CASE),
    ):
        out[name] = column.str.count_matches(pattern).to_numpy()
    for row in column.str.contains(words.PHONE).arg_true().to_list():
        out["phone"][row] = sum(_is_phone(found) for found in _PHONE.finditer(rows[row]))
    return out


def personal_feature(column: str = "text") -> Feature:
    """Return the column of `personal_counts` that the LFs on persons share."""
    name = PERSONAL if column == "text" else f"{PERSONAL}.{column}"
    return Feature(name, lambda batch: personal_counts(list(batch[column])))


def personal_lfs(column: str = "text") -> list[LF]:
    """Return LFs for documents with data of single persons.

    One each for mail addresses, phone numbers, names after a title, street addresses, birth,
    the numbers of cases, and secrets. `personal.nobody` says GOOD: no mail address, title,
    birth or secret.

    Examples
    --------
    >>> text = {"text": ["Mrs Jo Ray, jo.ray@example.org, rang about order 4411223."]}
    >>> [lf.name for lf in personal_lfs() if lf(text)[0][0] == 0]
    ['personal.email', 'personal.name', 'personal.case']
    """
    said = {
        "email": "mail addresses of persons",
        "phone": "phone numbers",
        "name": "names after a title",
        "address": "street addresses",
        "birth": "ages or dates of birth",
        "case": "numbers of one order, customer or ticket",
        "secret": "payment cards, accounts or keys",
    }
    feature = personal_feature(column)

    def lf(name: str, label: str, test: Callable[[Any], Any], say: Callable[[Any], str]) -> LF:
        def vote(batch: Batch) -> npt.NDArray[np.int16]:
            return np.where(test(np.asarray(batch[feature.name])), 0, ABSTAIN).astype(np.int16)

        def why(row: Mapping[str, Any]) -> str:
            return say(row[feature.name])

        return LF(
            f"personal.{name}",
            vote,
            labels=(label,),
            kind="personal",
            columns=(column,),
            features=(feature,),
            why=why,
        )

    def counted(kind: str) -> LF:
        return lf(
            kind, "PERSONAL", lambda m: m[kind] > 0, lambda m: f"{said[kind]}: {int(m[kind])}"
        )

    strong = ("email", "name", "birth", "secret")
    nobody = lf(
        "nobody",
        "GOOD",
        lambda m: np.sum([m[kind] for kind in strong], axis=0) == 0,
        lambda _: "no mail address, title, birth or secret of a person",
    )
    return [*(counted(kind) for kind in said), nobody]


def mask_persons(texts: Sequence[str]) -> list[str]:
    """Return texts with masks in place of persons' data that has a form.

    Mail addresses that are no role's, cards, accounts, keys, phone numbers, names after a
    title and street addresses. Bare names stay: they have no form to find them by.

    Examples
    --------
    >>> mask_persons(["Mrs Jo Ray (jo.ray@example.org, 07700 900123); else info@example.org."])
    ['<NAME> (<EMAIL>, <PHONE>); else info@example.org.']
    """
    rows = list(texts)
    held = _held(rows)
    role = _roles(rows, held)
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for i in np.flatnonzero(~role).tolist():
        span = (int(held.start[i]), int(held.end[i]), held.masks[held.kind[i]])
        spans.setdefault(int(held.document[i]), []).append(span)
    for kind, pattern in _PATTERNS.items():
        compiled = re.compile(pattern)
        for row in pl.Series(rows, dtype=pl.String).str.contains(pattern).arg_true().to_list():
            own = spans.setdefault(row, [])
            for found in compiled.finditer(rows[row]):
                free = all(found.end() <= s or e <= found.start() for s, e, _ in own)
                if free and (kind != "phone" or _is_phone(found)):
                    own.append((*found.span(), _MASKS[kind]))
    for row, own in spans.items():
        text = rows[row]
        for start, end, mask in sorted(own, reverse=True):
            text = text[:start] + mask + text[end:]
        rows[row] = text
    return rows


def _held(texts: Sequence[str]) -> Personal:
    return find_personal(texts, kinds=("email", *_SURE))


_PHONE: Final = re.compile(rf"(?<![\w£$€.-]){words.PHONE}(?![\w%])")
_FREE: Final = re.compile(words.ORGANISATION_PHONE)
_ROLE: Final = re.compile(words.ROLE)


def _is_phone(found: re.Match[str]) -> bool:
    digits = sum(c.isdigit() for c in found[0])
    return 9 <= digits <= 13 and found[0].lstrip("(")[0] in "+0123456789" and _free(found[0])


def _free(number: str) -> bool:
    return _FREE.match(number) is None and re.match(r"\d{4}-\d\d-\d\d", number) is None


def _roles(texts: Sequence[str], held: Personal) -> npt.NDArray[np.bool_]:
    """Return which findings are addresses of an organisation.

    A role of any domain; and one plain word at a domain that is not free for all and has a
    role somewhere in these texts.
    """
    role = np.zeros(len(held.document), np.bool_)
    parts: dict[int, tuple[str, str]] = {}
    for i in np.flatnonzero(held.kind == "email").tolist():
        local, _, domain = texts[held.document[i]][held.start[i] : held.end[i]].partition("@")
        parts[i] = (local, domain.lower())
    own = {domain for local, domain in parts.values() if _ROLE.match(local)} - words.FREE_MAIL
    for i, (local, domain) in parts.items():
        role[i] = _ROLE.match(local) is not None or (domain in own and local.isalpha())
    return role
