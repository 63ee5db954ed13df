from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from llmlabel.io import ReadOptions, list_shards, read_shard

PAGE = b"<html><body><nav>Home</nav><p>" + b"A good long sentence. " * 20 + b"</p></body></html>"


def record(
    number: int,
    body: bytes = PAGE,
    *,
    kind: bytes = b"response",
    status: bytes = b"200 OK",
    headers: bytes = b"Content-Type: text/html; charset=utf-8\r\n",
    content_type: bytes = b"application/http; msgtype=response",
) -> bytes:
    block = body
    if kind == b"response":
        block = b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n" + body
    return (
        b"WARC/1.0\r\nWARC-Type: %b\r\nWARC-Record-ID: <urn:uuid:%d>\r\n"
        b"WARC-Target-URI: http://a.example/%d\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n"
        b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n"
        % (kind, number, number, content_type, len(block), block)
    )


def read(path: Path, **options):
    batches = [b for s in list_shards(path).shards for b in read_shard(s, ReadOptions(**options))]
    bad = [row for b in batches for row in b.set_aside.to_pylist()]
    return [d for b in batches for d in b.documents.to_pylist()], bad


@pytest.mark.parametrize("suffix", [".warc", ".warc.gz"])
def test_pages_become_texts_and_other_records_are_no_documents(tmp_path, suffix):
    parts = [
        record(1, b"software: x\r\n", kind=b"warcinfo", content_type=b"application/warc-fields"),
        record(2, b"GET / HTTP/1.1\r\n\r\n", kind=b"request"),
        record(3),
        record(4, b"plain words", headers=b"Content-Type: text/plain\r\n"),
        record(
            5,
            "à la carte".encode("latin-1"),
            headers=b"Content-Type: text/plain; charset=latin-1\r\n",
        ),
        record(6, b"extracted words", kind=b"conversion", content_type=b"text/plain"),
    ]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"".join(gzip.compress(p) if suffix.endswith("gz") else p for p in parts))
    documents, bad = read(path)
    assert bad == []
    assert documents[0]["text"].startswith("A good long sentence.")
    assert "Home" not in documents[0]["text"]
    assert [d["text"] for d in documents[1:]] == ["plain words", "à la carte", "extracted words"]
    assert documents[0] | {"text": ""} == {
        "id": "<urn:uuid:3>",
        "text": "",
        "url": "http://a.example/3",
        "date": "2026-01-02T03:04:05Z",
        "content_type": "text/html",
    }
    assert read(path, html="keep")[0][0]["text"] == PAGE.decode()


def test_http_bodies_are_unpacked(tmp_path):
    body = gzip.compress(b"packed words")
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    headers = (
        b"Content-Type: text/plain\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
    )
    path = tmp_path / "a.warc"
    path.write_bytes(record(1, chunked, headers=headers))
    assert [d["text"] for d in read(path)[0]] == ["packed words"]


def test_what_is_no_document_is_set_aside_with_its_reason(tmp_path):
    broken = record(5).replace(b"Content-Length: ", b"Content-Lengte: ")
    parts = [
        record(1, status=b"404 Not Found"),
        record(2, b"\x89PNG", headers=b"Content-Type: image/png\r\n"),
        record(3, b"<html></html>"),
        record(4, b"caf\xe9", headers=b"Content-Type: text/plain\r\n"),
        broken,
        record(6, b"x" * 3_000),
        b"no record at all\r\n",
        record(7),
        record(8, kind=b"answer"),
        record(9)[:200],
        record(10)[:-100],
    ]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(parts))
    documents, bad = read(path, max_document_bytes=2_000)
    assert [d["id"] for d in documents] == ["<urn:uuid:7>"]
    assert [(b["what"], b["line"]) for b in bad] == [
        ("no text", 1),
        ("no text", 2),
        ("no text", 3),
        ("not UTF-8", 4),
        ("broken record", 5),
        ("broken record", 6),
        ("too long", 6),
        ("broken record", 7),
        ("broken record", 8),
        ("broken record", 9),
        ("broken record", 9),
    ]
    assert [bad[i]["reason"] for i in (0, 1, 4)] == [
        "HTTP status 404",
        "content type image/png",
        "no Content-Length in its headers",
    ]


def test_a_broken_gzip_member_costs_its_record(tmp_path):
    members = [gzip.compress(record(i)) for i in range(3)]
    damaged = bytearray(members[1])
    damaged[20:40] = b"\xff" * 20
    path = tmp_path / "a.warc.gz"
    path.write_bytes(members[0] + bytes(damaged) + members[2] + members[0][:-50])
    documents, bad = read(path)
    assert [d["id"] for d in documents] == ["<urn:uuid:0>", "<urn:uuid:2>"]
    assert [b["what"] for b in bad] == ["broken compression"] * 2
    assert bad[0]["offset"] == len(members[0])
    with pytest.raises(zlib.error):
        zlib.decompress(bytes(damaged), wbits=31)
