"""What personal data looks like: an expression for each kind and a check of what it finds."""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["KINDS", "Rule", "findings", "rules"]

Check = Callable[[re.Match[str]], tuple[int, int] | None]
"""From a match the span that is personal data, or None."""

KINDS: Final = ("key", "email", "iban", "card", "ip", "phone")
"""In the order in which overlapping findings go first."""


@dataclass(frozen=True)
class Rule:
    """How one kind is found.

    Parameters
    ----------
    likely
        An expression for Rust's regex; documents without it are not looked at again.
    pattern
        What candidates look like.
    check
        Decides about a candidate.
    mask
        What takes its place.
    """

    likely: str
    pattern: re.Pattern[str]
    check: Check
    mask: str


def rules(*, private_ips: bool = False, regions: tuple[str, ...] = ("US",)) -> Mapping[str, Rule]:
    """Return the rule of each kind of `KINDS`.

    Parameters
    ----------
    private_ips
        Whether private, local and reserved addresses count.
    regions
        Countries (ISO 3166) whose phone numbers count when written without ``+``.
    """
    return {
        "key": Rule(_KEY_LIKELY, _KEY, _key, "<KEY>"),
        "email": Rule("@", _EMAIL, _email, "<EMAIL>"),
        "iban": Rule(r"[A-Z]{2}\d\d[ -]?[A-Z0-9]{4}", _IBAN, _iban, "<IBAN>"),
        "card": Rule(r"\d{4}[ -]?\d{4,6}[ -]?\d{4,5}", _CARD, _card, "<CARD>"),
        "ip": Rule(
            r"\d\.\d{1,3}\.\d{1,3}\.\d|[0-9A-Fa-f]{4}:[0-9A-Fa-f:]{2,}",
            _IP,
            functools.partial(_ip, private=private_ips),
            "<IP>",
        ),
        "phone": Rule(
            r"\+\d|\+\(\d|\d\d[-. )\x{a0}/]{1,2}\d{2}",
            _PHONE,
            functools.partial(_phone, regions=regions),
            "<PHONE>",
        ),
    }


_EMAIL: Final = re.compile(
    r"(?<![\w.+%/-])[A-Za-z0-9][\w.+%'-]{0,63}@(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,8}"
    r"([A-Za-z]{2,24})(?![\w@])",
    re.ASCII,
)
_FILES: Final = ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "json", "html", "mp4")


def _email(found: re.Match[str]) -> tuple[int, int] | None:
    # logo@2x.png is a picture for fine screens.
    return None if found[1].lower() in _FILES else found.span()


_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}", re.ASCII)


def _iban(found: re.Match[str]) -> tuple[int, int] | None:
    from stdnum import iban

    text = found[0]
    # Words in capitals may follow: the longest beginning that is valid.
    for end in range(len(text), 14, -1):
        whole = text[end - 1].isalnum() and not text[end : end + 1].isalnum()
        if whole and iban.is_valid(text[:end], check_country=False):
            return found.start(), found.start() + end
    return None


_CARD: Final = re.compile(
    r"(?<![\w.,+-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,4}|\d{4}([ -])\d{6}\2\d{4,5})"
    r"(?![\w]|[.,-]\d)",
    re.ASCII,
)
# Issuers by first digits and length: Visa, Mastercard, American Express, Discover, Diners
# Club, JCB, UnionPay.
_ISSUER: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|62\d{14,17}"
)


def _card(found: re.Match[str]) -> tuple[int, int] | None:
    from stdnum import luhn

    digits = re.sub("[ -]", "", found[0])
    known = _ISSUER.fullmatch(digits) is not None and len(set(digits)) > 1
    return found.span() if known and luhn.is_valid(digits) else None


_IP: Final = re.compile(
    r"(?:(?<=//)|(?<![\w.:/-]))"
    r"(?:(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)|[0-9A-Fa-f]{4}:[0-9A-Fa-f:]{2,39}(?![\w:]))",
    re.ASCII,
)
# Numbers of four parts that are none of the internet.
_NUMBERED: Final = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|build|firmware|driver|section|sections|chapter"
    r"|figure|table|rule|clause|paragraph|annex|update|patch|kernel|runtime|sdk)\.?|§)[\s:=]*$",
    re.IGNORECASE,
)


def _ip(found: re.Match[str], *, private: bool) -> tuple[int, int] | None:
    text = found[0].rstrip(":") if not found[0].endswith("::") else found[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if not private and not address.is_global:
        return None
    if address.version == 4 and _is_numbering(found):
        return None
    return found.start(), found.start() + len(text)


def _is_numbering(found: re.Match[str]) -> bool:
    """Return whether four numbers are more likely a version or a section."""
    before = found.string[max(0, found.start() - 24) : found.start()]
    digits = found[0].split(".")
    single = all(len(part) == 1 for part in digits) and len(set(digits)) > 1
    return single or _NUMBERED.search(before) is not None


_PHONE: Final = re.compile(
    r"(?<![\w.,/=&#+-])(?:(?:\(\+\d{1,3}\)|\+ ?\(?\d{1,3}\)?)(?:[ .\u00a0/-]{0,2}\(?\d{1,5}\)?){1,6}"
    r"|\(\d{2,5}\)[ \u00a0-]?\d{2,5}(?:[ .\u00a0-]\d{2,5}){0,4}"
    r"|\d{2,5}(?:([ .\u00a0/-])\d{2,5})(?:\1?[ .\u00a0-]\d{2,5}){0,4})(?!\w|[-./:,]\d)",
    re.ASCII,
)
_DATE: Final = re.compile(
    r"(?:19|20)\d\d[-./ ]\d\d?[-./ ]\d\d?|\d\d?[-./ ]\d\d?[-./ ](?:19|20)\d\d"
    r"|(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d"
)
_ISBN: Final = re.compile(r"97[89][- ]?\d")
_NAMED: Final = re.compile(
    r"(?:isbn|issn|doi|orcid|ean|rfc|iso)[-: ]*(?:1[03])?[: ]*$", re.IGNORECASE
)


def _phone(found: re.Match[str], *, regions: tuple[str, ...]) -> tuple[int, int] | None:
    text = found[0]
    if _DATE.match(text) or _ISBN.match(text):
        return None
    if _NAMED.search(found.string[max(0, found.start() - 12) : found.start()]):
        return None
    end = found.end()
    if text.endswith(")") and text.count("(") < text.count(")"):
        text, end = text[:-1], end - 1
    if text.lstrip("(").startswith("+"):
        number = _parsed(text, None)
        return (found.start(), end) if number is not None else None
    if any(_grouped(text, region) for region in regions):
        return found.start(), end
    return None


def _parsed(text: str, region: str | None) -> object:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None


def _grouped(text: str, region: str) -> bool:
    """Return whether a national number is valid and cut up as its country does it."""
    import phonenumbers

    # Without an area code it is any number.
    if len(re.sub(r"\D", "", text)) < 9 or _parsed(text, region) is None:
        return False
    strict = phonenumbers.Leniency.STRICT_GROUPING
    return phonenumbers.PhoneNumberMatcher(text, region, leniency=strict).has_next()


_KEY_LIKELY: Final = (
    r"A[KS]IA[0-9A-Z]{16}|sk-[\w-]{20}|gh[pousr]_|github_pat_|xox[abprs]-|AIza"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|eyJ[\w-]{10,}\.eyJ|[sr]k_live_|hf_[A-Za-z]{30}|glpat-"
)
_KEY: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"  # AWS
    r"|sk-(?:[a-z]+[0-9]*-){0,3}[A-Za-z0-9_-]{20,200}"  # OpenAI, Anthropic
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"  # GitHub
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}"  # Google
    r"|[sr]k_live_[0-9A-Za-z]{20,}"  # Stripe
    r"|hf_[A-Za-z]{34}|glpat-[0-9A-Za-z_-]{20}"  # Hugging Face, GitLab
    r"|(?P<jwt>eyJ[A-Za-z0-9_-]{10,})\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{10,}"
    r")|-----BEGIN (?P<block>[A-Z ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]{10,}?-----END (?P=block)-----",
    re.ASCII,
)


def _key(found: re.Match[str]) -> tuple[int, int] | None:
    text = found[0]
    if found["jwt"] and not _is_jwt_header(found["jwt"]):
        return None
    if text.startswith("sk-") and not (re.search(r"\d", text) and re.search("[A-Z]", text)):
        return None  # words with hyphens
    return found.span()


def _is_jwt_header(text: str) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and "alg" in header


def findings(rule: Rule, text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of a text that a rule takes for personal data."""
    for found in rule.pattern.finditer(text):
        span = rule.check(found)
        if span is not None:
            yield span
