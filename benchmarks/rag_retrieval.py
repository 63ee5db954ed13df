"""Retrieval: scifact by words, by vectors and by both; the help desk before it is curated.

    python -m benchmarks.rag_retrieval [--quick]

Functions that return dicts, for `benchmarks.rag` to join; by itself it prints them as one JSON
object. Everything is measured by trec_eval's nDCG@10, with the package's defaults. They were set
before these queries were looked at, but for two things that come from looking at them: that
vectors are those of chunks (whole abstracts are beside them), and the fusion by scores.
Embeddings come from the cache of embeddings where they are in it.

scifact_bm25, scifact_dense, scifact_hybrid
    nDCG@10 of the 809 train queries over 5,183 abstracts: BM25 of the abstracts with stop words
    and stemming; all-MiniLM-L6-v2 of their chunks, for it reads 256 tokens, of which an
    abstract's best counts; and the two fused by reciprocal ranks.
scifact_hybrid_by_scores
    The two fused by their scores.
scifact_bm25_unstemmed, scifact_hybrid_unstemmed
    The same with BM25 on words as they are, as most published figures have it.
scifact_dense_whole, scifact_hybrid_whole
    With the vectors of whole abstracts, cut off by the encoder (not with --quick).
scifact_..._over_bm25, ..._low, ..._p
    The difference of a hybrid from its BM25, the low end of its paired bootstrap interval of
    95 %, and the p-value.
scifact_seconds
    To cut, to index the words, to embed (or to read the cache), and to search by each way.
helpdesk_documents, helpdesk_chunks
    nDCG@10 of 150 questions with graded documents before curation, by each way; of whole
    documents, and of chunks of which a document's best counts.
chunks_per_second
    Chunks by structure of web documents, by MiniLM's tokenizer on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from benchmarks.shared import SHARED, read_jsonl, require_shared
from llmlabel.embed import load_encoder
from llmlabel.io import cache_dir
from llmlabel.rag.chunks import Chunking, chunk_documents, texts_with_headings
from llmlabel.rag.combined import ByDocument, Hybrid
from llmlabel.rag.documents import read_documents
from llmlabel.rag.metrics import Qrels, Quality, compare, measure
from llmlabel.rag.retrieval import BM25, Dense, Searcher
from llmlabel.rag.tokenizers import fast_tokenizer

DEPTH = 100


def scifact() -> tuple[pa.Table, dict[str, str], Qrels]:
    """Return the abstracts, the train queries, and their grades."""
    folder = SHARED / "scifact"
    corpus = read_jsonl(folder / "corpus.jsonl")
    queries = {row["_id"]: row["text"] for row in read_jsonl(folder / "queries.jsonl")}
    grades: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades.setdefault(query, {})[document] = int(grade)
    documents = {"id": "_id", "text": "text", "title": "title"}
    table = {ours: [row[theirs] for row in corpus] for ours, theirs in documents.items()}
    return pa.table(table), {query: queries[query] for query in grades}, grades


def scifact_figures(*, whole: bool = True) -> dict[str, Any]:
    """Measure each way to search scifact; `whole`: by vectors of whole abstracts as well."""
    documents, queries, qrels = scifact()
    seconds: dict[str, float] = {}
    encoder, cache = load_encoder(), cache_dir() / "embeddings"
    start = time.perf_counter()
    chunks = chunk_documents(documents, Chunking(size=200))
    seconds["cut"] = time.perf_counter() - start
    start = time.perf_counter()
    own, of = _columns(chunks, "id", "document")
    by_chunk = Dense.of(own, texts_with_headings(chunks), encoder, cache)
    dense = ByDocument(by_chunk, dict(zip(own, of, strict=True)))
    seconds["embed"] = time.perf_counter() - start
    start = time.perf_counter()
    ids, texts = documents["id"].to_pylist(), _titled(documents)
    bm25 = BM25(ids, texts)
    seconds["index_words"] = time.perf_counter() - start
    plain = BM25(ids, texts, language=None)
    ways: dict[str, Searcher] = {
        "bm25": bm25,
        "dense": dense,
        "hybrid": Hybrid([bm25, dense]),
        "hybrid_by_scores": Hybrid([bm25, dense], fusion="scores"),
        "bm25_unstemmed": plain,
        "hybrid_unstemmed": Hybrid([plain, dense]),
    }
    if whole:
        ways["dense_whole"] = Dense.of(ids, texts, encoder, cache)
        ways["hybrid_whole"] = Hybrid([bm25, ways["dense_whole"]])
    found = _measured(ways, queries, qrels, seconds)
    out: dict[str, Any] = {f"scifact_{way}": q.mean("ndcg@10") for way, q in found.items()}
    for way in (w for w in ways if w.startswith("hybrid")):
        base = "bm25_unstemmed" if way == "hybrid_unstemmed" else "bm25"
        one = compare(found[base], found[way])
        out[f"scifact_{way}_over_bm25"] = one.difference.value
        out[f"scifact_{way}_over_bm25_low"] = one.difference.low
        out[f"scifact_{way}_over_bm25_p"] = one.p_value
    return {**out, "scifact_chunk_count": chunks.num_rows, "scifact_seconds": seconds}


def helpdesk() -> tuple[pa.Table, dict[str, str], Qrels]:
    """Return the help desk's documents, its questions, and their grades."""
    documents = read_documents(SHARED / "helpdesk" / "documents.jsonl").documents
    rows = read_jsonl(SHARED / "helpdesk" / "questions.jsonl")
    return (
        documents,
        {row["id"]: row["question"] for row in rows},
        {row["id"]: row["relevant"] for row in rows},
    )


def helpdesk_figures() -> dict[str, Any]:
    """Measure each way to search the help desk before it is curated."""
    documents, questions, qrels = helpdesk()
    out: dict[str, Any] = {}
    encoder, cache = load_encoder(), cache_dir() / "embeddings"
    ids, titles = documents["id"].to_pylist(), _titled(documents)
    bm25, dense = BM25(ids, titles), Dense.of(ids, titles, encoder, cache)
    whole: dict[str, Searcher] = {"bm25": bm25, "dense": dense, "hybrid": Hybrid([bm25, dense])}
    out["helpdesk_documents"] = _means(_measured(whole, questions, qrels, {}))
    chunks = chunk_documents(documents, Chunking(size=200))
    texts = texts_with_headings(chunks)
    own, document = _columns(chunks, "id", "document")
    of = dict(zip(own, document, strict=True))
    words = ByDocument(BM25(own, texts), of)
    vectors = ByDocument(Dense.of(own, texts, encoder, cache), of)
    cut: dict[str, Searcher] = {
        "bm25": words,
        "dense": vectors,
        "hybrid": Hybrid([words, vectors]),
    }
    out["helpdesk_chunks"] = _means(_measured(cut, questions, qrels, {}))
    return {**out, "helpdesk_chunk_count": chunks.num_rows}


def chunk_figures(documents: int = 4_000) -> dict[str, Any]:
    """Measure how fast web documents are cut, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = pa.parquet.read_table(SHARED / "web" / "web.parquet", columns=["text"])["text"]
    texts = [t for t in texts.to_pylist() if t][:documents]
    table = pa.table({"id": [str(i) for i in range(len(texts))], "text": texts})
    tokenizer = fast_tokenizer()
    start = time.process_time()
    chunks = chunk_documents(table, Chunking(size=128), tokenizer=tokenizer)
    seconds = time.process_time() - start
    return {"chunks_per_second": chunks.num_rows / seconds, "chunks_cut": chunks.num_rows}


def _titled(documents: pa.Table) -> list[str]:
    pairs = zip(*_columns(documents, "title", "text"), strict=True)
    return [f"{title}\n{text}".strip() for title, text in pairs]


def _columns(table: pa.Table, *names: str) -> list[list[str]]:
    return [table[name].to_pylist() for name in names]


def _measured(
    ways: Mapping[str, Searcher],
    queries: Mapping[str, str],
    qrels: Qrels,
    seconds: dict[str, float],
) -> dict[str, Quality]:
    found = {}
    for way, searcher in ways.items():
        start = time.perf_counter()
        hits = searcher.search(list(queries.values()), DEPTH)
        seconds[way] = time.perf_counter() - start
        found[way] = measure(hits.ids, list(queries), qrels, ks=(10, 100))
    return found


def _means(found: Mapping[str, Quality]) -> dict[str, float]:
    return {way: quality.mean("ndcg@10") for way, quality in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less, within five minutes")
    options = parser.parse_args(arguments)
    require_shared()
    figures = {
        **helpdesk_figures(),
        **scifact_figures(whole=not options.quick),
        **chunk_figures(1_000 if options.quick else 4_000),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
