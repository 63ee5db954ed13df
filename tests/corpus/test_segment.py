from hypothesis import given
from hypothesis import strategies as st

from llmlabel.corpus.segment import batches, segment

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
