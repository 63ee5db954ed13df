import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.corpus.segment import batches, segment
from llmlabel.errors import DataError

any_text = st.text(st.characters(), max_size=60)


def words(text: str) -> list[str]:
    found = segment([text])
    return [found.text(found.words, i) for i in range(len(found.words))]


@given(st.lists(any_text, max_size=6))
def test_documents_are_cut_as_alone(texts: list[str]) -> None:
    together = segment(texts)
    for name in ("words", "terms", "lines"):
        spans = getattr(together, name)
        for i, text in enumerate(texts):
            alone = segment([text])
            spans_alone = getattr(alone, name)
            mine = slice(*spans.offsets[i : i + 2])
            shift = together.offsets[i] - 1
            assert (spans.start[mine] - shift).tolist() == spans_alone.start.tolist()
            assert (spans.end[mine] - shift).tolist() == spans_alone.end.tolist()
            assert together.hash(spans)[mine].tolist() == alone.hash(spans_alone).tolist()


@given(st.lists(any_text, max_size=9))
def test_batches_cover_all_texts(texts: list[str]) -> None:
    assert [t for part in batches(texts, 50) for t in texts[part]] == texts


def test_words_as_spacy() -> None:
    assert words("Hello, world... (it's) don't") == [
        *("Hello", ",", "world", "...", "(", "it", "'s", ")", "do", "n't"),
    ]


def test_addresses_stay_whole() -> None:
    assert words("see http://a.example/b-c/d?e=f-g, or (www.x.org/and/or) and/or") == [
        *("see", "http://a.example/b-c/d?e=f-g", ",", "or", "(", "www.x.org/and/or", ")"),
        *("and", "/", "or"),
    ]
    # No address: no host, and letters alone do not stand before it.
    assert words("x://yes e-f") == ["x://yes", "e", "-", "f"]
    assert words("a-b://c.d e-f") == ["a", "-", "b://c.d", "e", "-", "f"]


def test_abbreviations_and_stops() -> None:
    assert words("Mr. Smith, e.g. in Jan. at 5 p.m. of the U.S.A. it ended.Then") == [
        *("Mr.", "Smith", ",", "e.g.", "in", "Jan.", "at", "5", "p.m.", "of", "the", "U.S.A."),
        *("it", "ended", ".", "Then"),
    ]
    assert words("x.. y... 10% $5 5$ +7 -8 a—b ©x!?") == [
        *("x", "..", "y", "...", "10", "%", "$", "5", "5", "$", "+7", "-8", "a", "—", "b"),
        *("©", "x", "!", "?"),
    ]


def test_terms_are_letters_and_digits_in_lower_case() -> None:
    one, two = segment(["Don't STOP, café 东京"]), segment(["don t stop CAFÉ 东京!"])
    terms = [one.text(one.terms, i) for i in range(len(one.terms))]
    assert terms == ["Don", "t", "STOP", "café", "东", "京"]
    assert one.term_hashes.tolist() == two.term_hashes.tolist()


def test_lines_and_pieces() -> None:
    text = "one two\r\n\r\nthree\u2028four\n"
    found = segment([text, "", "x"])
    lines = [found.text(found.lines, i) for i in range(len(found.lines))]
    assert lines == [*text.splitlines(), "x"]
    assert found.lines.counts.tolist() == [4, 0, 1]
    assert found.newline_lines.counts.tolist() == [4, 1, 1]
    pieces = [found.text(found.pieces, i) for i in range(len(found.pieces))]
    assert pieces == [*text.split(), "x"]


@given(st.lists(any_text, max_size=5))
def test_cuts_of_plain_python(texts: list[str]) -> None:
    found = segment(texts)
    for spans, cut in (
        (found.pieces, str.split),
        (found.lines, str.splitlines),
        (found.newline_lines, lambda text: text.split("\n")),
    ):
        wanted = [part for text in texts for part in cut(text)]
        assert [found.text(spans, i) for i in range(len(spans))] == wanted
        assert spans.counts.tolist() == [len(cut(text)) for text in texts]
    assert found.characters.tolist() == [len(text) for text in texts]


@given(any_text, any_text)
def test_equal_words_have_equal_hashes(left: str, right: str) -> None:
    found = segment([left, "x" * 5000 + " " + right])
    hashes: dict[int, str] = {}
    texts: dict[str, int] = {}
    for i, value in enumerate(found.word_hashes.tolist()):
        word = found.text(found.words, i)
        assert hashes.setdefault(value, word) == word
        assert texts.setdefault(word, value) == value


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(DataError, match="row 1: expected a text, got NoneType"):
        segment(["a", None])  # type: ignore[list-item]
