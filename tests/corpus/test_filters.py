import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlabel.corpus.c4 import C4, c4, c4_clean
from llmlabel.corpus.fineweb import FineWeb, fineweb
from llmlabel.corpus.gopher import (
    GopherQuality,
    GopherRepetition,
    gopher_quality,
    gopher_repetition,
)
from llmlabel.corpus.rules import rules_of
from llmlabel.corpus.segment import segment

from . import reference

FAMILIES = {
    "gopher_quality": gopher_quality,
    "gopher_repetition": gopher_repetition,
    "c4": c4,
    "fineweb": fineweb,
}
PROSE = (
    "The committee of the town met on Monday, and it decided that the bridge would have to be "
    "closed for repairs. Nobody had expected this decision. Drivers with heavy loads must go "
    "around the lake until spring! Will the work be finished by then? The mayor of the town "
    "said that it would. She has asked for money from the county and from the state."
)

# Texts that touch the rules: few words, so that they repeat; marks, breaks, rare characters.
POOL = (
    "the of and to be that with have word longer_word don't it's a I x1 42 3.5 10% #tag # ... … "
    "- • -- {code} [1] [edit] [citation end.[1][2] (so.)[] x[3]y JavaScript cookie uses cookies lorem ipsum terms use "
    'http://a.example/b-c www.x.org/y e.g. Mr. U.S. end. what? no! "quoted" (so) café 東京 '
    "привет ไทย 🙂 \u00a0 \u200b ,, .. !? a.B c,d e/f 5-6"
)
pieces = st.sampled_from(POOL.split(" "))
spaces = st.sampled_from([" "] * 12 + ["\n", "\n", "\n\n", "\n\n\n", "\r\n", "  ", "\t", "\u2028"])
texts = st.lists(st.tuples(pieces, spaces), max_size=90).map(
    lambda parts: "".join(piece + space for piece, space in parts)
)
phrases = st.lists(texts.map(lambda t: t[:40]), min_size=1, max_size=4)
repeating = st.tuples(phrases, st.lists(st.integers(0, 3), max_size=20)).map(
    lambda parts: "\n".join(parts[0][i % len(parts[0])] for i in parts[1])
)
prose = st.lists(
    st.sampled_from([s + "." for s in PROSE.replace("\n", " ").split(". ")]), max_size=12
).map(lambda parts: "\n".join(parts))
documents = st.one_of(texts, repeating, prose, st.text(st.characters(), max_size=80))


def reason(family: str, text: str) -> str:
    (found,) = FAMILIES[family]([text]).reason
    return str(found).removeprefix(f"{family}.")


@pytest.mark.parametrize("family", FAMILIES)
@given(documents)
@example("")
@example("\n")
@example("\n\n")
@example("\ud800 lone")
@example("....\n....\r....")
@settings(max_examples=150, deadline=None)
def test_the_plain_rules_agree(family: str, text: str) -> None:
    wanted = getattr(reference, family)(text)
    if family == "c4":
        wanted, cleaned = wanted
        if not wanted:
            assert c4_clean([text]) == [cleaned]
    assert reason(family, text) == wanted


@given(st.lists(documents, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_batches_and_order_change_nothing(texts: list[str], random) -> None:
    order = list(range(len(texts)))
    random.shuffle(order)
    shuffled = segment([texts[i] for i in order])
    for family, judged in FAMILIES.items():
        together, moved = judged(texts), judged(shuffled)
        alone = [judged([text]) for text in texts]
        assert together.reason.tolist() == [v.reason[0] for v in alone]
        assert moved.reason.tolist() == [together.reason[i] for i in order], family
        for name, values in together.values.items():
            assert values.tolist() == [v.values[name][0] for v in alone]
        assert judged(texts).keep.tolist() == (together.reason == "").tolist()


def test_a_text_may_be_longer_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [PROSE, "short", PROSE + "\n" + PROSE]
    wanted = {name: judged(texts) for name, judged in FAMILIES.items()}
    monkeypatch.setattr("llmlabel.corpus.segment.batches.__defaults__", (10,))
    for name, judged in FAMILIES.items():
        assert judged(texts).reason.tolist() == wanted[name].reason.tolist()


def many(word: str, count: int = 60) -> str:
    return " ".join(f"{word}{chr(97 + i % 26)}" for i in range(count)) + " the of"


QUALITY = {
    "min_words": "the of and too few words",
    "max_words": "the of word " * 40_000,
    "min_word_length": "a b c of I to " * 10,
    "max_word_length": many("extraordinarily"),
    "max_hashes": many("word") + " #" * 10,
    "max_ellipses": many("word") + " …" * 10,
    "max_bullet_lines": "\n".join("- the word of words" for _ in range(20)),
    "max_ellipsis_lines": "\n".join("the words of words and..." for _ in range(10))
    + "\n"
    + many("word"),
    "min_alphabetic_words": many("word") + " 123" * 30,
    "min_stop_words": many("word").removesuffix(" the of"),
}


@pytest.mark.parametrize("rule", QUALITY)
def test_gopher_quality_names_the_rule(rule: str) -> None:
    text = QUALITY[rule]
    assert reason("gopher_quality", text) == rule
    off = GopherQuality(**{rule: None})
    assert gopher_quality([text], off).reason.tolist() != [f"gopher_quality.{rule}"]


def test_good_prose_passes_all() -> None:
    text = PROSE.replace("! ", "!\n").replace("decision. ", "decision.\n")
    assert {name: judged([text]).keep.tolist() for name, judged in FAMILIES.items()} == {
        name: [True] for name in FAMILIES
    }


def test_gopher_repetition_names_the_rule() -> None:
    fresh = [f"Paragraph number {i} says something new about thing {i * 7}." for i in range(12)]
    assert reason("gopher_repetition", "") == "min_characters"
    assert reason("gopher_repetition", "\n\n".join(fresh[:4] * 3)) == "max_duplicate_paragraphs"
    long = "One long paragraph that is said twice, " * 5
    assert (
        reason("gopher_repetition", "\n\n".join([long, long, *fresh[:4]]))
        == "max_duplicate_paragraph_characters"
    )
    assert reason("gopher_repetition", "\n".join(fresh[:4] * 3)) == "max_duplicate_lines"
    assert (
        reason("gopher_repetition", "\n".join([long, long, *fresh[:4]]))
        == "max_duplicate_line_characters"
    )
    for n in (2, 3, 4):
        gram = " ".join(["alpha", "beta", "gamma", "delta"][:n])
        text = " ".join(f"{gram} z{i} y{i * 3} x{i * 5}" for i in range(30))
        less = GopherRepetition(**{f"max_top_{k}_gram": None for k in range(2, n)})
        found = gopher_repetition([text], less).reason.tolist()
        assert found == [f"gopher_repetition.max_top_{n}_gram"]
    off = {f"max_top_{n}_gram": None for n in (2, 3, 4)}
    for n in range(5, 11):
        less = off | {f"max_duplicate_{k}_grams": None for k in range(5, n)}
        text = " ".join(
            " ".join(f"{chr(97 + k)}{i % 2}word" for k in range(n)) + f" new{i}" for i in range(8)
        )
        found = gopher_repetition([text], GopherRepetition(**less)).reason.tolist()
        assert found == [f"gopher_repetition.max_duplicate_{n}_grams"]


def test_a_long_run_is_scanned_like_a_short_one() -> None:
    text = "no " * 5000
    found = gopher_repetition([text]).values
    words = reference.words_of(text)
    for n in range(5, 11):
        wanted = reference.duplicate_ngrams(words, n) / len(text)
        assert found[f"duplicate_{n}_grams"].tolist() == [wanted]


def test_c4_names_the_rule_and_drops_lines() -> None:
    lines = [f"This is sentence number {i} of the page, and it ends well." for i in range(5)]
    page = "\n".join(lines)
    assert reason("c4", page) == ""
    assert reason("c4", "\n".join(lines[:4])) == "min_sentences"
    assert reason("c4", page + "\nHere is some Lorem Ipsum for you.") == "max_lorem_ipsum"
    assert reason("c4", page + "\nint main() { return 0; } and more.") == "max_curly_brackets"
    assert reason("c4", page + "\nint main() { return 0; }") == ""
    noise = [
        "Please enable JavaScript to go on.",
        "This site uses cookies to follow you.",
        "Share this page",
        "Read on...",
        "Two words.",
        "x" * 1001 + " is a long word.",
    ]
    mixed = "\n".join([noise[0], *lines[:2], *noise[1:], *lines[2:]])
    assert c4_clean([mixed]) == [page]
    assert c4_clean(["It was so.[1][citation needed]  \nAnd [2]this too.[edit]"]) == [
        "It was so.\nAnd this too."
    ]


def test_fineweb_names_the_rule() -> None:
    lines = [f"This is a line of thirty and more letters, number {i}." for i in range(20)]
    page = " ".join(lines[:4]) + "\n" + " ".join(lines[4:])
    assert reason("fineweb", page) == ""
    assert reason("fineweb", " \n\t\n") == "min_lines"
    assert reason("fineweb", page.replace(".", "")) == "min_punctuated_lines"
    assert reason("fineweb", "\n".join(f"Short {i}." for i in range(9))) == "max_short_lines"
    assert reason("fineweb", "\n".join([*lines[:4], lines[0]])) == "max_duplicate_characters"
    spread = "\n\n\n\n\n".join(lines[:9])
    assert reason("fineweb", spread) == "max_newlines"
    assert fineweb([spread], FineWeb(max_newlines=0.5)).keep.tolist() == [True]


def test_published_thresholds() -> None:
    published = {
        GopherQuality: [50, 100_000, 3, 10, 0.1, 0.1, 0.9, 0.3, 0.8, 2],
        GopherRepetition: [
            *(1, 0.3, 0.2, 0.3, 0.2, 0.2, 0.18, 0.16),
            *(0.15, 0.14, 0.13, 0.12, 0.11, 0.1),
        ],
        C4: [0, 0, 5],
        FineWeb: [1, 0.12, 0.67, 0.01, 0.3],
    }
    for kind, limits in published.items():
        assert [rule.threshold for rule in rules_of(kind())] == limits


def test_letters_as_words_for_scripts_without_spaces() -> None:
    text = "東京は大きい。ไทย"
    whole, cut = segment([text]), segment([text], letters=True)
    assert len(whole.words) == 1
    assert [cut.text(cut.words, i) for i in range(len(cut.words))][:4] == ["東", "京", "は", "大"]
    assert np.array_equal(whole.term_hashes, cut.term_hashes)
