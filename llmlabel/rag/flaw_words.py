"""Words and patterns that flaws of English documents are found by; short on purpose.

Each list is of words that any site, wiki or handbook may have, none of one collection. All
patterns are of Rust's regex (polars), in lower case unless they say otherwise.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BIRTH",
    "CASE",
    "COPY",
    "DEFERRAL",
    "EXPIRED",
    "FEELING",
    "FREE_MAIL",
    "HANDLING",
    "LINK",
    "LIST_ITEM",
    "NAME",
    "NEGATION",
    "ORGANISATION_PHONE",
    "OUTDATED",
    "PERSON_ADDRESS",
    "PHONE",
    "PLACEHOLDER",
    "ROLE",
    "TEMPLATE",
]


def _any(*phrases: str) -> str:
    return r"(?i)\b(?:" + "|".join(phrases) + r")\b"


TEMPLATE: Final = (
    r"(?i)(?:"
    + "|".join(
        (
            r"skip to (?:main )?content",
            r"back to top",
            r"accept all",
            r"reject all",
            r"(?:manage|cookie) (?:settings|preferences|policy)",
            r"\bcookies?\b",
            r"all rights reserved",
            r"©",
            r"sign in\b",
            r"log in\b",
            r"create an? account",
            r"keep me (?:signed|logged) in",
            r"forgot(?:ten)? (?:your )?password\?",
            r"add to (?:basket|cart|wish ?list)",
            r"wish ?list",
            r"follow us",
            r"subscribe to our newsletter",
            r"newsletter",
            r"terms (?:of use|and conditions|·|\|)",
            r"privacy (?:policy|notice|·|\|)",
            r"sitemap",
            r"imprint",
            r"accessibility",
            r"powered by",
            r"enable javascript",
            r"javascript is disabled",
            r"loading(?:…|\.\.\.)",
            r"captcha",
            r"session has expired",
            r"something went wrong",
            r"fields marked",
            r"view all\b",
            r"show (?:details|more|all)\b",
            r"read more\b",
            r"you may also like",
            r"recently viewed",
            r"share (?:this|on)\b",
            r"was this (?:article|page) helpful",
            r"related articles",
            r"(?:choose|select) (?:your )?(?:country|language)",
            r"page not found",
            r"print this page",
            r"(?:send|e-?mail) (?:this )?to a friend",
            r"text size",
            r"(?:home|help|start) (?:>|\u203A|»|/) ",
            r"table of contents",
        )
    )
    + ")"
)
"""What pages have around their content: menus, consent, sign-in, footers."""

PLACEHOLDER: Final = (
    r"\{\{[^{}\n]*\}\}|\{%[^%\n]*%\}|<%[^%\n]*%>|\$\{[^{}\n]*\}|\[(?:TODO|TBD|INSERT[^\]\n]*)\]"
    r"|(?i:lorem ipsum)|\bundefined\b|\bNaN\b|>null<"
)
"""A template that was never filled in."""

LINK: Final = (
    r"!?\[[^\[\]\n]*\]\([^()\n]*\)|</?[A-Za-z!][^<>\n]*>|\{\{[^{}\n]*\}\}|\[[^\[\]\n]{1,40}\]"
    r"|https?://\S+"
)
"""Markdown and HTML links, tags, buttons, addresses."""

LIST_ITEM: Final = r"(?m)^\s*(?:[-*+•]|\d+[.)])\s"

DEFERRAL: Final = _any(
    r"it (?:all )?depends",
    r"coming soon",
    r"to be (?:added|announced|confirmed|continued|written)",
    r"tb[adc]",
    r"(?:please )?(?:just )?(?:ask|contact|call|e-?mail|write to|speak to|get in touch with) "
    r"(?:us|our|the|your|a member|customer|support)[^.!?\n]{0,40}",
    r"under construction",
    r"(?:more|further) (?:details|information) (?:soon|later|to follow|will follow)",
    r"see (?:above|below|the website|our website)",
    r"no (?:content|text|information) (?:yet|available)",
    r"work in progress",
)
"""Instead of an answer."""

FEELING: Final = _any(
    r"discover\w*",
    r"lov(?:e|ed|es|ing)",
    r"dream\w*",
    r"passion\w*",
    r"hearts?",
    r"joy\w*",
    r"stor(?:y|ies)",
    r"inspir\w+",
    r"adventur\w+",
    r"magic\w*",
    r"beaut\w+",
    r"perfect(?:ly|ion)?",
    r"amazing",
    r"incredible",
    r"exciting|excited",
    r"proud\w*",
    r"journeys?",
    r"believ\w+",
    r"feel(?:s|ing|ings)?",
    r"moments?",
    r"horizons?",
    r"unforgettable",
    r"unique",
    r"world[- ]class",
    r"wonder\w*",
    r"delight\w*",
    r"commit(?:ment|ted)",
    r"excellence",
    r"innovat\w+",
    r"vision",
    r"values",
    r"smiles?",
    r"soul",
    r"spirit",
    r"truly",
    r"imagine",
    r"matters?",
    r"more than (?:just )?",
    r"every(?:thing|one)?",
    r"always",
    r"never",
    r"best",
    r"great(?:er|est)?",
)
"""What promotion is written with; a text that explains has some too, but not so many."""

HANDLING: Final = _any(
    r"if",
    r"must",
    r"can(?:not)?",
    r"needs?",
    r"open",
    r"select",
    r"choose",
    r"click",
    r"enter",
    r"within",
    r"only",
    r"required?",
    r"please",
    r"use",
    r"up to",
    r"at least",
    r"when",
    r"how",
    r"before",
    r"after",
    r"otherwise",
    r"unless",
    r"should",
)
"""What instructions and rules are written with."""

OUTDATED: Final = (
    r"(?i)\b(?:this|the) (?:article|page|document|policy|version|guide|information|offer|price list"
    r"|scheme|programme|program) (?:is|was|has been|are) (?:now )?(?:outdated|out of date|archived"
    r"|obsolete|deprecated|superseded|replaced|withdrawn|discontinued|no longer \w+)"
    r"|\bsuperseded by\b|\bfor archive purposes\b|\barchived version\b|\bdeprecated since\b"
)
"""A document that says of itself that it is old."""

EXPIRED: Final = (
    r"(?i)\b(?:valid|available|effective|applies|apply|open|runs?|prices?)\b[^.\n]{0,30}"
    r"\b(?:until|till|through|to the end of|up to)\b[^.\n]{0,20}\b((?:19|20)\d\d)\b"
)
"""An end of validity, with its year."""

COPY: Final = (
    r"(?i)\bprint(?:ed|er|able|er-friendly)? (?:version|view|copy)|\b(?:export|mirror|backup|archive)\b"
    r"|\bcopy of\b|\bcopied from\b|\bhelp (?:centre )?article \d+|\bimported from\b|\bcached\b"
)
"""A title or first lines that say that this is somebody else's text."""

NEGATION: Final = r"(?i)\b(?:not|no|never|cannot|can't|don't|doesn't|won't|isn't|aren't|without)\b"

PHONE: Final = r"(?:\+\d{1,3}[ -]?)?\(?\d{2,5}\)?(?:[ -]\d{2,8}){1,4}"
"""Nine to thirteen digits in groups; the number of digits is checked."""

ORGANISATION_PHONE: Final = (
    r"(?:\+44 ?|0)(?:800|808|3\d\d|84\d|87\d)|(?:\+?1[ -]?)?\(?8(?:00|88|77|66|55)\b"
)
"""Freephone and national-rate numbers are never a person's."""

NAME: Final = (
    r"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Mme)\.? [A-Z][\w'\u2019-]+(?: [A-Z][\w'\u2019-]+)*"
)

BIRTH: Final = (
    r"(?i)\b(?:(?:born (?:on|in)|date of birth|d\.?o\.?b\.?)[^\n.]{0,12}\d|(?:i|he|she) (?:am|is|was) "
    r"\d{1,3} (?:years old|and)\b|aged? \d{1,3}(?:[),.;]|$)|passport (?:no|number)\W{0,3}\w*\d"
    r"|(?:social security|national insurance) n\w*\W{0,3}\w*\d)"
)
"""A date of birth, an age, a number that a state gave; with its digits."""

PERSON_ADDRESS: Final = (
    r"\b\d{1,4}[A-Za-z]?,? [A-Z][\w'\u2019]+(?: [A-Z][\w'\u2019]+){0,2} (?:Street|St|Road|Rd|Lane|Ln|Avenue|Ave"
    r"|Drive|Dr|Row|Close|Court|Way|Yard|Steps|Place|Terrace|Crescent|Gardens|Square|Hill|Mews"
    r"|Boulevard|Blvd)\b"
)

CASE: Final = (
    r"(?i)\b(?:order|ticket|case|customer|account|claim|invoice|card)(?: (?:no\.?|number|ending))?"
    r"[ :#]*(?:in )?(?:[a-z]{1,4}-)?\d{4,}"
    r"|(?m)^\W*(?:customer|client|patient|caller|agent)\b[^:\n]{0,30}:"
)
"""The number of one order or customer; a transcript."""

ROLE: Final = (
    r"(?i)^(?:info|help|helpdesk|support|service|sales|contact|office|hello|team|press|media|jobs|careers"
    r"|privacy|groups?|orders?|returns?|repairs?|warranty|billing|accounts?|admin|webmaster|postmaster"
    r"|no-?reply|feedback|enquiries|enquiry|customer\w*|legal|security|hr|it|events?|bookings?|shop"
    r"|marketing|partners?|dpo|data\w*)$"
)
"""Local parts of addresses that are an organisation's."""

FREE_MAIL: Final = frozenset(
    {
        "aol.com",
        "gmail.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hotmail.com",
        "icloud.com",
        "live.com",
        "mail.ru",
        "outlook.com",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "web.de",
        "yahoo.com",
    }
)
"""Domains at which anybody may have an address."""
