from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from llmlabel.errors import DataError, UnknownNameError
from llmlabel.rag.documents import read_documents

pypdf = pytest.importorskip("pypdf", reason="needs pypdf, which is not installed")


def _pdf(text: str | None, password: str | None = None, title: str | None = None) -> bytes:
    """Write a PDF with one line of text, drawn by its own operators."""
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(300, 300)
    if text is not None:
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode("latin-1"))
        page[NameObject("/Contents")] = writer._add_object(stream)
    if title is not None:
        writer.add_metadata({"/Title": title, "/CreationDate": "D:20260301120000Z"})
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


PAGE = (
    "<html><head><title>Tent care</title>"
    '<meta name="date" content="2026-02-01"></head><body><nav>Home Shop</nav><article>'
    "<h1>Tent care</h1><p>" + "Dry the tent before you pack it away. " * 8 + "</p><h2>Seams</h2>"
    "<p>" + "Seal the seams each spring with silicone. " * 8 + "</p></article></body></html>"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.md").write_text(
        "---\nid: care\ntitle: Care\ndate: 2026-03-01\ntags: [tent, care]\n---\n# Tents\n\nDry them."
    )
    (tmp_path / "b.md").write_text("\ufeff# Stoves #\n\nBurn gas.", encoding="utf-8")
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.pdf").write_bytes(_pdf("Pitch it on level ground.", title="Pitching"))
    rows = [
        {"id": "j1", "text": "One.", "title": "First", "url": "https://x.example/1", "n": 1},
        {"id": "j2", "text": "Two."},
        {"id": "j1", "text": "Again."},
        {"id": "j3", "text": "  \n"},
        {"id": "j4", "body": "no text"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(r) for r in rows) + "\n[]\n")
    table = pa.table({"id": [7], "text": ["Seven."], "date": [pa.scalar(0, pa.date32()).as_py()]})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    (tmp_path / ".hidden.md").write_text("no")
    return tmp_path


def test_every_format_becomes_rows_of_one_table(folder: Path) -> None:
    found = read_documents(folder)
    rows = {row["id"]: row for row in found.documents.to_pylist()}
    assert list(rows) == ["care", "b.md", "page.html", "j1", "j2", "sub/c.pdf", "7"]
    assert found.documents.column_names[:5] == ["id", "text", "title", "date", "source"]
    care = rows["care"]
    assert (care["title"], care["date"], care["source"]) == ("Care", "2026-03-01", "a.md")
    assert care["text"] == "# Tents\n\nDry them."
    assert care["tags"] == ["tent", "care"]
    assert (rows["b.md"]["title"], rows["b.md"]["text"][:2]) == ("Stoves", "# ")
    page = rows["page.html"]
    assert (page["title"], page["date"]) == ("Tent care", "2026-02-01")
    assert "## Seams" in page["text"]
    assert "Home Shop" not in page["text"]
    pdf = rows["sub/c.pdf"]
    assert pdf["text"] == "Pitch it on level ground."
    assert (pdf["title"], pdf["date"][:10], pdf["pages"]) == ("Pitching", "2026-03-01", 1)
    assert (rows["j1"]["source"], rows["j1"]["text"]) == ("https://x.example/1", "One.")
    assert (rows["j2"]["source"], rows["7"]["date"]) == ("rows.jsonl", "1970-01-01")


def test_what_of_jsonl_is_no_document_is_set_aside_with_its_place(folder: Path) -> None:
    aside = read_documents(folder).set_aside.to_pylist()
    assert [(r["file"], r["line"], r["what"]) for r in aside] == [
        ("rows.jsonl", 5, "missing column"),
        ("rows.jsonl", 6, "no object"),
        ("rows.jsonl", None, "id twice"),
        ("rows.jsonl", None, "empty"),
    ]
    assert read_documents(folder).counts()["read"] == 7


BAD: dict[str, tuple[bytes, str, str]] = {
    "empty.md": (b"", "empty", "the file has no bytes"),
    "blank.txt": (b" \n\n", "empty", "there is no text in it"),
    "binary.txt": (b"ab\x00\x01", "binary", "a zero byte at position 2"),
    "latin.md": ("Stra\xdfe".encode("latin-1"), "not UTF-8", "byte 0xdf at position 4"),
    "wide.txt": ("text".encode("utf-16"), "not UTF-8", "UTF-16"),
    "front.md": (b"---\na: [1\n---\nText", "front matter", "front.md"),
    "secret.pdf": (_pdf("hidden", password="x"), "encrypted", "a password is needed"),
    "cut.pdf": (_pdf("text")[:200], "unreadable", "cannot be read as PDF"),
    "noise.pdf": (b"no pdf at all", "unreadable", "cannot be read as PDF"),
    "scan.pdf": (_pdf(None), "no text", "are they pictures?"),
    "thin.html": (b"<html><body></body></html>", "no text", "no main text"),
    "image.png": (b"\x89PNG", "unknown format", "known: .md"),
    "long.txt": (b"a" * 2_000, "too long", "at most 1,000 are read"),
    "broken.parquet": (b"PAR1", "unreadable", "Parquet"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_set_aside_with_its_file_and_reason(name: str, tmp_path: Path) -> None:
    data, what, reason = BAD[name]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.txt").write_text("A good text.")
    found = read_documents(tmp_path, max_document_bytes=1_000 if name == "long.txt" else 10_000)
    assert found.documents["id"].to_pylist() == ["good.txt"]
    (row,) = found.set_aside.to_pylist()
    assert (row["file"], row["what"]) == (name, what)
    assert reason in row["reason"]


def test_a_pdf_that_opens_without_a_password_is_read(tmp_path: Path) -> None:
    (tmp_path / "open.pdf").write_bytes(_pdf("Anyone may read.", password=""))
    assert read_documents(tmp_path).documents["text"].to_pylist() == ["Anyone may read."]


def test_a_rule_above_a_text_is_no_front_matter(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nJust a line.\n---\n\nText")
    found = read_documents(tmp_path / "a.md").documents
    assert found["text"].to_pylist() == ["---\nJust a line.\n---\n\nText"]


def test_columns_have_the_names_that_are_given(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"key": 3, "body": "x", "name": "N", "day": "1 May", "title": "other"}\n')
    found = read_documents(file, text="body", id="key", title="name", date="day").documents
    assert found.select(["id", "text", "title", "date"]).to_pylist() == [
        {"id": "3", "text": "x", "title": "N", "date": "1 May"}
    ]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files in it"):
        read_documents(tmp_path)
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(UnknownNameError, match="unknown format '.docx'"):
        read_documents(tmp_path / "a.docx")
    with pytest.raises(DataError, match="did you mean"):
        read_documents(tmp_path / "b.docx")


def test_a_folder_of_bad_files_is_read_as_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    found = read_documents(tmp_path)
    assert found.counts() == {"read": 0, "empty": 1}
    assert found.documents.column_names == ["id", "text", "title", "date", "source"]
