from __future__ import annotations

import datetime
import importlib.util
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.rag.exports import framework_documents, write_framework_documents
from llmlabel.rag.retrieval import Dense
from llmlabel.rag.store import LanceStore, Store, StoreSearcher

CHUNKS = pa.table(
    {
        "id": [f"d{i // 4}#{i % 4}" for i in range(40)],
        "text": [f"text {i}" for i in range(40)],
        "headings": [["A", "B"] if i % 2 else [] for i in range(40)],
        "document": [f"d{i // 4}" for i in range(40)],
        "kind": ["it's" if i % 3 else "x" for i in range(40)],
        "nothing": pa.nulls(40),
        "day": [datetime.date(2026, 3, 1)] * 40,
    }
)
VECTORS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def _lance(folder: Path) -> Store:
    pytest.importorskip("lancedb", reason="needs lancedb, which is not installed (llmlabel[rag])")
    return LanceStore(folder / "db")


def _qdrant_folder(folder: Path) -> Store:
    pytest.importorskip(
        "qdrant_client", reason="needs qdrant-client, which is not installed (llmlabel[qdrant])"
    )
    from llmlabel.rag.qdrant import QdrantStore

    return QdrantStore(folder / "qdrant")


@pytest.mark.parametrize("make", [_lance, _qdrant_folder])
def test_a_store_finds_what_exact_search_finds(
    make: Callable[[Path], Store], tmp_path: Path
) -> None:
    store = make(tmp_path)
    with pytest.raises(DataError, match=r"no (chunks|collection) called 'chunks'"):
        store.search(VECTORS[:1], 1)
    store.write(CHUNKS.slice(0, 5), VECTORS[:5])
    store.write(CHUNKS, VECTORS)
    assert len(store) == 40
    exact = Dense(CHUNKS["id"].to_pylist(), VECTORS, lambda q: VECTORS[: len(q)])
    wanted = exact.search(["a", "b", "c"], 6)
    for count in (1, 3):
        found = store.search(VECTORS[:count], 6)
        assert found.ids.tolist() == wanted.ids[:count].tolist()
        assert found.scores == pytest.approx(wanted.scores[:count], abs=1e-5)
    searcher = StoreSearcher(store, lambda q: VECTORS[: len(q)], {"document": "d2"})
    assert set(searcher.search(["a"], 6).ids[0]) == {*(f"d2#{i}" for i in range(4)), ""}
    assert set(store.search(VECTORS[:1], 40, {"kind": "it's"}).ids[0]) == {
        i for i, k in zip(*(CHUNKS[c].to_pylist() for c in ("id", "kind")), strict=True) if k != "x"
    } | {""}
    rows = store.rows(["d3#1", "d0#0", "d3#1"])
    assert [row["text"] for row in rows] == ["text 13", "text 0", "text 13"]
    assert rows[0]["headings"] == ["A", "B"]
    assert searcher.search([], 2).ids.shape == (0, 2)
    with pytest.raises(DataError, match="row 'd9#9': no such chunk"):
        store.rows(["d9#9"])


def test_lance_is_read_by_lancedb_itself_and_by_another_process_later(tmp_path: Path) -> None:
    store = _lance(tmp_path)
    store.write(CHUNKS, VECTORS)
    import lancedb

    table = lancedb.connect(str(tmp_path / "db")).open_table("chunks")
    assert table.schema.names == [*CHUNKS.column_names, "vector"]
    assert len(LanceStore(tmp_path / "db")) == 40
    with pytest.raises(DataError, match="holds vectors of 8 numbers"):
        store.search(np.eye(3), 1)
    with pytest.raises(UnknownNameError, match="did you mean 'document'"):
        store.search(VECTORS[:1], 1, {"documen": "d2"})


def test_chunks_that_no_store_takes_are_named(tmp_path: Path) -> None:
    store = _lance(tmp_path)
    twice = CHUNKS.set_column(0, "id", pa.array(["a"] * 40))
    for chunks, vectors, message in [
        (CHUNKS, VECTORS[:3], "expected a vector for each"),
        (CHUNKS.slice(0, 0), VECTORS[:0], "expected a vector for each"),
        (CHUNKS.drop_columns(["id"]), VECTORS, "column 'id'"),
        (twice, VECTORS, "an id of its own"),
        (CHUNKS, np.where(np.arange(40)[:, None] == 7, np.nan, VECTORS), "row 'd1#3'"),
        (CHUNKS.append_column("vector", CHUNKS["id"]), VECTORS, "rename"),
    ]:
        with pytest.raises(DataError, match=message):
            store.write(chunks, vectors)


@pytest.mark.parametrize(
    ("framework", "text", "id_"),
    [("langchain", "page_content", "id"), ("llama_index", "text", "id_")],
)
def test_documents_of_frameworks(framework: str, text: str, id_: str, tmp_path: Path) -> None:
    write_framework_documents(CHUNKS, framework, tmp_path / "out.jsonl")  # type: ignore[arg-type]
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert rows[1] == {
        id_: "d0#1",
        text: "text 1",
        "metadata": {"headings": "A > B", "document": "d0", "kind": "it's", "day": "2026-03-01"},
    }
    found = framework_documents(CHUNKS, framework)[1]  # type: ignore[arg-type]
    if isinstance(found, dict):
        assert found == rows[1]
    else:
        assert (getattr(found, text), found.metadata) == (rows[1][text], rows[1]["metadata"])


@pytest.mark.skipif(
    importlib.util.find_spec("langchain_core") is None,
    reason="needs langchain-core, which is not installed",
)
def test_langchain_documents_are_its_own() -> None:
    from langchain_core.documents import Document

    logging.getLogger("langchain").setLevel(logging.ERROR)
    found = framework_documents(CHUNKS, "langchain")
    assert isinstance(found[0], Document)
    assert found[0].id == "d0#0"


def test_an_unknown_framework_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'langchain'"):
        framework_documents(CHUNKS, "langchan")  # type: ignore[arg-type]
