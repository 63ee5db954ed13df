from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.rag.boundaries import sentence_starts, structure
from llmlabel.rag.chunks import Chunking, chunk_documents, texts_with_headings
from llmlabel.rag.tokenizers import WORDS, Tokenizer, fast_tokenizer, tokenizer_of


def _character_pairs(text: str) -> list[tuple[int, int]]:
    """Cut at every second character: tokens that know no words, and depend on where a text starts."""
    return [(i, min(i + 2, len(text))) for i in range(0, len(text), 2)]


def _bytes(text: str) -> list[tuple[int, int]]:
    """Make several tokens of one character, as byte-pair encodings do."""
    return [(i, i + 1) for i, c in enumerate(text) for _ in c.encode("utf-8", "surrogatepass")]


def _byte_pairs() -> Tokenizer:
    """Train a byte-level tokenizer, for which a word after a space is another token."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(["a tent and a stove and the tent of a friend"] * 20, trainer)
    return tokenizer_of(backend)


TOKENIZERS: dict[str, Tokenizer] = {
    "words": WORDS,
    "pairs": tokenizer_of(_character_pairs),
    "bytes": tokenizer_of(_bytes),
    "byte_pairs": _byte_pairs(),
    "minilm": fast_tokenizer(),
}


def _encode(sentences: Any) -> np.ndarray:
    return np.array([[len(s) % 7 + 1, s.count("a"), s.count(".")] for s in sentences], np.float32)


PIECES = [
    "# Tents\n",
    "## Repair\n\n",
    "### Care\n",
    "Setext\n---\n",
    "\n\n",
    "\n",
    " ",
    "\t",
    "A tent. ",
    "Sew the seam! Then dry it. ",
    "- an item\n",
    "1. first\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n",
    "```\ncode = 1\n\n# no heading\n```\n",
    "```\nnever closed ",
    "Straße naïve ",
    "你好。再见。",
    "🙂👩‍👩‍👧",
    "a" * 40,
    "e.g. this ",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12)), max_size=12).map("".join),
    st.text(st.characters(), max_size=200),
)


def _check_promises(
    texts: list[str], found: pa.Table, chunking: Chunking, tokenizer: Tokenizer
) -> None:
    rows = found.to_pylist()
    assert max((r["tokens"] for r in rows), default=0) <= chunking.size
    assert tokenizer.counts([r["text"] for r in rows]).tolist() == [r["tokens"] for r in rows]
    of_document: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of_document.setdefault(row["document"], []).append(row)
    assert list(of_document) == [f"d{i}" for i, t in enumerate(texts) if t.strip()]
    for name, own in of_document.items():
        text = texts[int(name[1:])]
        assert [r["id"] for r in own] == [f"{name}#{n}" for n in range(len(own))]
        covered = 0
        for row in own:
            assert row["text"] == text[row["start"] : row["end"]]
            assert row["text"] == row["text"].strip() != ""
            assert row["start"] <= covered or not text[covered : row["start"]].strip()
            assert row["end"] > covered
            covered = row["end"]
        assert not text[covered:].strip()
        for one, other in itertools.pairwise(own):
            assert one["start"] < other["start"]
            if not chunking.overlap:
                assert one["end"] <= other["start"]


@settings(max_examples=150)
@given(
    st.lists(TEXTS, min_size=1, max_size=4),
    st.sampled_from(sorted(TOKENIZERS)),
    st.sampled_from(["structure", "tokens", "sentences", "semantic"]),
    st.integers(40, 90),
    st.integers(0, 20),
)
@example(["﷽ﷺ" * 60], "minilm", "structure", 40, 10)
@example(["\ud83d\ude42" * 60], "minilm", "tokens", 40, 0)
@example(["", " \n", "x"], "words", "structure", 40, 0)
def test_chunks_keep_their_promises(
    texts: list[str], name: str, strategy: Any, size: int, overlap: int
) -> None:
    # Arrow's texts are UTF-8, which has no halves of surrogate pairs.
    texts = [t.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for t in texts]
    chunking = Chunking(strategy, size=size, overlap=overlap)
    documents = pa.table({"id": [f"d{i}" for i in range(len(texts))], "text": texts})
    found = chunk_documents(documents, chunking, tokenizer=TOKENIZERS[name], encode=_encode)
    _check_promises(texts, found, chunking, TOKENIZERS[name])


@settings(max_examples=100)
@given(
    TEXTS,
    st.sampled_from(["structure", "tokens", "sentences"]),
    st.integers(2, 12),
    st.integers(0, 6),
)
def test_small_sizes_and_the_stated_overlap_in_words(
    text: str, strategy: Any, size: int, overlap: int
) -> None:
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    chunking = Chunking(strategy, size=size, overlap=min(overlap, size - 1))
    found = chunk_documents(pa.table({"id": ["d0"], "text": [text]}), chunking, tokenizer=WORDS)
    _check_promises([text], found, chunking, WORDS)
    rows = found.to_pylist()
    again = [text[b["start"] : a["end"]] for a, b in itertools.pairwise(rows)]
    assert all(n <= chunking.overlap for n in WORDS.counts(again))


def _texts(text: str, **options: Any) -> list[str]:
    documents = pa.table({"id": ["a"], "text": [text]})
    return chunk_documents(documents, Chunking(**options), tokenizer=WORDS)["text"].to_pylist()


TABLE = "| stove | gas |\n|---|---|\n| Wren | yes |\n| Dunlin | no |"
CODE = "```\nx = 1\n\n# no heading\ny = 2\n```"


@pytest.mark.parametrize("block", [TABLE, CODE])
def test_tables_and_code_stay_whole_where_they_fit(block: str) -> None:
    before = "One two three four five six seven eight nine ten. Eleven twelve thirteen."
    text = f"{before}\n\n{block}\n\n{before}"
    size = int(WORDS.counts([block])[0])
    assert block in _texts(text, size=size)
    assert all(block not in t for t in _texts(text, size=size - 1))
    smaller = _texts(text, size=size - 1)
    assert all(line in "\n".join(smaller) for line in block.splitlines())


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([TABLE, CODE, "# One", "## Two", "- an item\n- another"]),
            st.integers(1, 40).map(lambda n: "word " * n + "end."),
        ),
        max_size=10,
    ),
    st.integers(30, 60),
    st.integers(0, 25),
)
def test_tables_and_code_stay_whole_among_anything(
    blocks: list[str], size: int, overlap: int
) -> None:
    assert max(WORDS.counts([TABLE, CODE])) <= 30
    text = "\n\n".join(blocks)
    found = _texts(text, size=size, overlap=overlap)
    for block in (TABLE, CODE):
        assert sum(chunk.count(block) for chunk in found) >= blocks.count(block)
        first = block.splitlines()[0]
        assert all(chunk.count(first) == chunk.count(block) * block.count(first) for chunk in found)


def test_sections_share_a_chunk_only_when_they_fit() -> None:
    text = "# T\n\nIntro here.\n\n## A\n\none two three\n\n## B\n\nfour five six\n\n# U\n\nseven"
    assert _texts(text, size=100) == [text]
    assert _texts(text, size=14) == [
        "# T\n\nIntro here.\n\n## A\n\none two three",
        "## B\n\nfour five six",
        "# U\n\nseven",
    ]
    found = chunk_documents(
        pa.table({"id": ["a"], "text": [text]}), Chunking(size=14), tokenizer=WORDS
    )
    assert found["headings"].to_pylist() == [["T"], ["T", "B"], ["U"]]


def test_the_rest_of_a_section_is_not_mixed_with_the_next() -> None:
    text = "## A\n\none two three four\n\nfive six\n\n## B\n\nseven"
    assert _texts(text, size=8) == ["## A\n\none two three four", "five six", "## B\n\nseven"]


def test_a_heading_stays_with_its_text() -> None:
    text = "one two three four\n\n## Heading of four words\n\nfive six"
    assert _texts(text, size=9) == ["one two three four", "## Heading of four words\n\nfive six"]


def test_long_paragraphs_are_cut_at_sentences_then_words_then_tokens() -> None:
    assert _texts("One two three. Four five six. Seven.", size=8) == [
        "One two three. Four five six.",
        "Seven.",
    ]
    assert _texts("one two three four five", size=2) == ["one two", "three four", "five"]
    pairs = chunk_documents(
        pa.table({"id": ["a"], "text": ["abcdefg"]}),
        Chunking(size=2),
        tokenizer=_character_pairs,
    )
    assert pairs["text"].to_pylist() == ["abcd", "efg"]


def test_windows_of_tokens_overlap_by_just_so_many() -> None:
    assert _texts("a b c d e f g", strategy="tokens", size=4, overlap=2) == [
        "a b c d",
        "c d e f",
        "e f g",
    ]


def test_overlap_repeats_whole_sentences_where_it_can() -> None:
    text = "One two. Three four. Five six. Seven eight."
    assert _texts(text, strategy="sentences", size=6, overlap=4) == [
        "One two. Three four.",
        "Three four. Five six.",
        "Five six. Seven eight.",
    ]


def test_semantic_chunks_end_where_the_meaning_turns() -> None:
    text = "Red one. Red two. Red three. Blue one. Blue two. Blue three."
    documents = pa.table({"id": ["a"], "text": [text]})

    def encode(sentences: Any) -> list[list[float]]:
        return [[1, 0] if s.startswith("Red") else [0, 1] for s in sentences]

    found = chunk_documents(
        documents, Chunking("semantic", size=50), tokenizer=WORDS, encode=encode
    )
    assert found["text"].to_pylist() == [
        "Red one. Red two. Red three.",
        "Blue one. Blue two. Blue three.",
    ]
    with pytest.raises(ConfigError, match="needs encode"):
        chunk_documents(documents, Chunking("semantic"), tokenizer=WORDS)


def test_other_columns_are_repeated_and_headings_written_above() -> None:
    documents = pa.table(
        {"id": ["a", "b"], "text": ["# T\n\none\n\n## B\n\ntwo", "plain"], "title": ["T", None]}
    )
    found = chunk_documents(documents, Chunking(size=4), tokenizer=WORDS)
    assert found["title"].to_pylist() == ["T", "T", None]
    assert texts_with_headings(found) == ["T\n# T\n\none", "T > B\n## B\n\ntwo", "plain"]


def test_abbreviations_end_no_sentence() -> None:
    text = 'Use e.g. gas. See Fig. 3. "Really?" J. Hall said so... Yes. 你好。再见。'
    assert [text[i:][:7] for i in sentence_starts(text)] == [
        "See Fig",
        '"Really',
        "J. Hall",
        "Yes. 你好",
        "你好。再见。",
        "再见。",
    ]


def test_headings_in_code_are_none_and_underlined_ones_are() -> None:
    found = structure("Title\n=====\n\n```\n# no\n```\n\nSub\n---\n\ntext\n\n| a |\n|---|\n")
    assert [path for _, path in found.headings] == [("Title",), ("Title", "Sub")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strategy": "structur"}, UnknownNameError, "did you mean 'structure'"),
        ({"size": 0}, ConfigError, "at least 1 token"),
        ({"size": 5, "overlap": 5}, ConfigError, "0 to 4 tokens"),
        ({"breaks": 1.0}, ConfigError, "between 0 and 1"),
    ],
)
def test_wrong_options_are_named(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Chunking(**options)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"]}, "column 'text': no such column"),
        ({"id": ["a"], "text": [None]}, "got null"),
        ({"id": ["a", "a"], "text": ["x", "y"]}, "row 'a': this id occurs twice"),
        ({"id": ["a"], "text": ["x"], "start": [1]}, "column 'start'"),
    ],
)
def test_wrong_documents_are_named(columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        chunk_documents(pa.table(columns), tokenizer=WORDS)


def test_a_character_larger_than_a_chunk_is_named() -> None:
    with pytest.raises(DataError, match=r"row 'a': the character '🙂' alone has more than 3"):
        chunk_documents(
            pa.table({"id": ["a"], "text": ["ab🙂c"]}), Chunking(size=3), tokenizer=_bytes
        )


def test_tokenizers_of_transformers_and_wrong_ones() -> None:
    from transformers import PreTrainedTokenizerFast

    backend = fast_tokenizer().backend  # type: ignore[attr-defined]
    given = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert tokenizer_of(given).counts(["Hello wörld \ud800"]).tolist() == [2]
    with pytest.raises(ConfigError, match="expected a fast tokenizer"):
        tokenizer_of(3)
    with pytest.raises(DataError, match="expected offsets from 0 to 1"):
        tokenizer_of(lambda text: [(5, 6)]).starts(["a"])
