"""HTML to text: the main text of a page, by trafilatura."""

from __future__ import annotations

import logging

from llmlabel.extras import need_packages

__all__ = ["html_to_text"]


def html_to_text(html: bytes | str) -> str | None:
    """Return the main text of a page without navigation and boilerplate, or None.

    Bytes are decoded by what the page says of itself, or by what they look like.

    Raises
    ------
    MissingExtraError
        trafilatura is not installed (``llmlabel[corpus]``).

    Notes
    -----
    A. Barbaresi (2021), Trafilatura: a web scraping library and command-line tool for text
    discovery and extraction.

    Examples
    --------
    >>> page = "<html><body><nav>Home</nav><article><p>" + "A long text. " * 20 + "</p></article>"
    >>> html_to_text(page)[:12]
    'A long text.'
    """
    need_packages("HTML to text", "trafilatura", extra="corpus")
    from trafilatura import extract

    # It warns of each page without text; whoever calls says so by name.
    logging.getLogger("trafilatura").setLevel(logging.ERROR)
    return extract(html, include_comments=False, deduplicate=False) or None
