"""Personal data and secrets in documents: found, masked, or a reason to drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from llmlabel.corpus.personal_rules import KINDS, findings, rules
from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import DataError, UnknownNameError
from llmlabel.extras import need_packages

__all__ = ["KINDS", "Personal", "check_personal", "find_personal", "mask_personal"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Personal:
    """What was found in n documents, in order of documents and places.

    Parameters
    ----------
    document : int64 array, shape (s,)
    start, end : int64 arrays, shape (s,)
        In characters of the document.
    kind : object array, shape (s,)
        One of `KINDS`.
    masks
        What takes the place of each kind.
    documents
        How many were searched.
    """

    document: Ints
    start: Ints
    end: Ints
    kind: npt.NDArray[np.object_]
    masks: Mapping[str, str]
    documents: int

    def counts(self) -> dict[str, Ints]:
        """Return for each kind how many each document has, shape (n,)."""
        return {
            kind: np.bincount(self.document[self.kind == kind], minlength=self.documents)
            for kind in self.masks
        }

    def verdict(self, drop: Sequence[str] = (), *, max_findings: int | None = None) -> Verdict:
        """Return which documents are dropped.

        Parameters
        ----------
        drop
            Kinds of which one is enough.
        max_findings
            How many of all kinds together a document may have: more is a list of people.
        """
        counts = self.counts()
        total = np.sum(list(counts.values()), axis=0, dtype=np.int64)
        reason = np.full(self.documents, "", object)
        if max_findings is not None:
            reason[total > max_findings] = "personal data: too many findings"
        for kind in drop:
            if kind not in counts:
                raise UnknownNameError("kind", kind, counts, where="drop")
            reason[(counts[kind] > 0) & (reason == "")] = f"personal data: {kind}"
        return Verdict(reason, counts)


def find_personal(
    texts: Sequence[str],
    *,
    kinds: Sequence[str] = KINDS,
    private_ips: bool = False,
    regions: Sequence[str] = ("US",),
) -> Personal:
    """Find e-mail addresses, phone numbers, IP addresses, IBANs, payment cards and secrets.

    Candidates are checked: IBANs by their country's form and checksum (mod 97), cards by
    issuer and checksum (Luhn), phone numbers by their country's numbering plan
    (phonenumbers), JSON web tokens by their header. Names and postal addresses are not
    looked for.

    Parameters
    ----------
    texts
        n documents.
    kinds
        Some of `KINDS`: key (AWS, OpenAI, GitHub, Slack, Google, Stripe, Hugging Face,
        GitLab, private key blocks, JSON web tokens), email, iban, card, ip, phone.
    private_ips
        Whether private, local and reserved addresses count.
    regions
        Countries (ISO 3166, ``"US"``, ``"DE"``) whose phone numbers count when they are
        written without ``+``; with any of a world's, every third number is one somewhere.

    Raises
    ------
    MissingExtraError
        phonenumbers or python-stdnum is not installed (``llmlabel[corpus]``).

    Examples
    --------
    >>> texts = ["Write to a.b@example.org or +49 30 901820.", "Version 10.2.4.1"]
    >>> found = find_personal(texts)
    >>> mask_personal(texts, found)
    ['Write to <EMAIL> or <PHONE>.', 'Version 10.2.4.1']
    """
    check_personal(kinds, regions)
    known = rules(private_ips=private_ips, regions=tuple(regions))
    column = pl.Series(texts, dtype=pl.String)
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for kind in (kind for kind in KINDS if kind in kinds):
        rule = known[kind]
        for row in column.str.contains(rule.likely).arg_true().to_list():
            held = spans.setdefault(row, [])
            for start, end in findings(rule, texts[row]):
                if all(end <= other[0] or other[1] <= start for other in held):
                    held.append((start, end, kind))
    found = [(row, *span) for row in sorted(spans) for span in sorted(spans[row])]
    numbers = np.array([f[:3] for f in found], np.int64).reshape(-1, 3)
    kind_of = np.array([*(f[3] for f in found), None], object)[:-1]
    masks = {kind: known[kind].mask for kind in KINDS if kind in kinds}
    return Personal(numbers[:, 0], numbers[:, 1], numbers[:, 2], kind_of, masks, len(texts))


def check_personal(kinds: Sequence[str] = (), regions: Sequence[str] = ()) -> None:
    """Check that kinds of personal data and regions of phone numbers are known.

    Raises
    ------
    UnknownNameError
        One is not; says the nearest.
    MissingExtraError
        phonenumbers or python-stdnum is not installed (``llmlabel[corpus]``).
    """
    need_packages("finding personal data", "phonenumbers", "stdnum", extra="corpus")
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError("kind", kind, KINDS)
    import phonenumbers

    for region in regions:
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise UnknownNameError("region", region, sorted(phonenumbers.SUPPORTED_REGIONS))


def mask_personal(texts: Sequence[str], found: Personal) -> list[str]:
    """Return documents with ``<EMAIL>``, ``<PHONE>`` and so on in place of what was found."""
    if len(texts) != found.documents:
        raise DataError(f"{len(texts)} texts, but findings in {found.documents}")
    out = list(texts)
    bounds = np.searchsorted(found.document, np.arange(len(texts) + 1))
    for row in np.flatnonzero(np.diff(bounds)).tolist():
        parts, last = [], 0
        for i in range(int(bounds[row]), int(bounds[row + 1])):
            parts += [texts[row][last : found.start[i]], found.masks[found.kind[i]]]
            last = int(found.end[i])
        out[row] = "".join([*parts, texts[row][last:]])
    return out
