"""Chunks as documents of LangChain and LlamaIndex: their own classes, or plain JSON Lines."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.io import atomic_write, plain_value

__all__ = ["Framework", "framework_documents", "write_framework_documents"]

Framework = Literal["langchain", "llama_index"]

_TEXT: Final = {"langchain": "page_content", "llama_index": "text"}
_ID: Final = {"langchain": "id", "llama_index": "id_"}


def framework_documents(chunks: pa.Table, framework: Framework) -> list[Any]:
    """Return chunks as the documents of a framework.

    Parameters
    ----------
    chunks
        Columns ``id`` and ``text``; the others become metadata, headings as one text with
        `` > `` between them, nulls not at all.
    framework : {"langchain", "llama_index"}

    Returns
    -------
    ``langchain_core.documents.Document`` or ``llama_index.core.Document`` where the package is
    installed; else dicts with the same fields: ``id``, ``page_content`` and ``metadata``, or
    ``id_``, ``text`` and ``metadata``.

    Raises
    ------
    UnknownNameError
        Another framework.
    DataError
        A column is missing.

    Examples
    --------
    >>> chunks = pa.table({"id": ["a#0"], "text": ["Sew it."], "headings": [["Tents", "Repair"]]})
    >>> found = framework_documents(chunks, "langchain")[0]
    >>> dict(found)["metadata"] if not isinstance(found, dict) else found["metadata"]
    {'headings': 'Tents > Repair'}
    """
    rows = list(_rows(chunks, framework))
    if framework == "langchain" and importlib.util.find_spec("langchain_core") is not None:
        from langchain_core.documents import Document as LangChainDocument

        return [LangChainDocument(**row) for row in rows]
    if framework == "llama_index" and _has_llama_index():
        from llama_index.core import Document as LlamaIndexDocument

        return [LlamaIndexDocument(**row) for row in rows]
    return rows


def write_framework_documents(chunks: pa.Table, framework: Framework, path: str | Path) -> None:
    """Write chunks as JSON Lines with the fields of a framework's documents.

    Parameters, errors and fields as in `framework_documents`; no package is needed. Read
    with ``Document(**json.loads(line))``.
    """
    rows = _rows(chunks, framework)
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=plain_value) + "\n")


def _rows(chunks: pa.Table, framework: str) -> Iterator[dict[str, Any]]:
    if framework not in _TEXT:
        raise UnknownNameError("framework", framework, _TEXT)
    missing = next((name for name in ("id", "text") if name not in chunks.column_names), None)
    if missing is not None:
        columns = ", ".join(chunks.column_names[:12])
        raise DataError(f"no such column (columns: {columns})", field=missing)
    return _each(chunks, _ID[framework], _TEXT[framework])


def _each(chunks: pa.Table, id_: str, text: str) -> Iterator[dict[str, Any]]:
    for row in chunks.to_pylist():
        own = {id_: str(row.pop("id")), text: row.pop("text")}
        if isinstance(row.get("headings"), list):
            row["headings"] = " > ".join(row["headings"]) or None
        # Dates and other values of Arrow's go as JSON has them.
        plain = json.loads(json.dumps(row, ensure_ascii=False, default=plain_value))
        yield {**own, "metadata": {name: v for name, v in plain.items() if v is not None}}


def _has_llama_index() -> bool:
    # Its parts share one name, so that the name alone may be there without this part.
    if importlib.util.find_spec("llama_index") is None:
        return False
    return importlib.util.find_spec("llama_index.core") is not None
