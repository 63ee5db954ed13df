"""Filter documents with datatrove: run by path, in the environment of its project.

    python datatrove_worker.py TEXTS.jsonl OUT.json

TEXTS holds one JSON string per line. OUT gets, of the families gopher_quality,
gopher_repetition, c4 and fineweb, ``reasons`` (per document, "" where it is kept), ``seconds``
of CPU time for each family alone and for all of them document by document (``all``: so the
words of a document are split once), and ``cleaned``, the texts that C4 left, null where it
dropped the document.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def families() -> dict[str, Any]:
    """Return datatrove's filters with their defaults."""
    filters = import_module("datatrove.pipeline.filters")
    return {
        "gopher_quality": filters.GopherQualityFilter(),
        "gopher_repetition": filters.GopherRepetitionFilter(),
        "c4": filters.C4QualityFilter(),
        "fineweb": filters.FineWebQualityFilter(),
    }


def main(source: Path, target: Path) -> None:
    """Filter, and say how long it took."""
    with source.open() as lines:
        texts = [json.loads(line) for line in lines]
    made, document = families(), import_module("datatrove.data").Document
    forget = import_module("datatrove.utils.text").split_into_parts.cache_clear
    for one in made.values():  # what is loaded once is loaded here
        one.filter(document(text="A first sentence. And one more.", id="0"))
    reasons: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}
    cleaned: list[str | None] = []
    for name, one in made.items():
        forget()
        started = time.process_time()
        rows = [document(text=text, id="0") for text in texts]
        found = [_reason(one, row) for row in rows]
        seconds[name] = time.process_time() - started
        reasons[name] = found
        if name == "c4":
            cleaned = [None if why else row.text for why, row in zip(found, rows, strict=True)]
    forget()
    started = time.process_time()
    for text in texts:
        for one in made.values():
            _reason(one, document(text=text, id="0"))
    seconds["all"] = time.process_time() - started
    out = {"reasons": reasons, "seconds": seconds, "cleaned": cleaned}
    target.write_text(json.dumps(out))


def _reason(one: Any, row: Any) -> str:
    """Return why a filter drops a document; it crashes on some that have no words."""
    try:
        found = one.filter(row)
    except ZeroDivisionError:
        return "crashed"
    if found is True:
        return ""
    return str(found[1]) if isinstance(found, tuple) else "dropped"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
