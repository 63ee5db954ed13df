import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlabel.corpus import normalize as module
from llmlabel.corpus.normalize import normalize

ftfy = pytest.importorskip("ftfy")

WORDS = (
    "plain word schÃ¶n cafÃ© donâ€™t â€œquotesâ€\x9d &amp; &lt;b&gt; &nosuch; <b> ﬁre ＷＩＤＥ “curly” "
    "Â£5 œuvre cœur à² Русский вЂ™ «Да» Ñ‚ÐµÑ\x81Ñ‚ \x1b[31mred\x1b[0m \x07 \ufeff soft\u00adhyphen "
    "e\u0301 é \ud83d\ude00 \ud800 10°C №5 řč ÀÉ Ã Â tiếng Việt 東京 \u200b ¿Qué? à¤¨ ..."
)
spaces = st.sampled_from(
    [" ", " ", "\n", " \n", "\n\n\n\n", "\r\n", "\u00a0", "\t", "\u2028", "\f"]
)
texts = st.lists(st.tuples(st.sampled_from(WORDS.split(" ")), spaces), max_size=30).map(
    lambda parts: "".join(word + space for word, space in parts)
)


def slow(text: str) -> str:
    fixed = module._spaced(ftfy.fix_text(text, module._config()))
    return unicodedata.normalize("NFC", fixed)


@given(st.lists(st.one_of(texts, st.text(st.characters(), max_size=40)), max_size=4))
@example(["a <b &amp;\n&amp;", "&amp;\n<b>\n&amp;", "œ", "œ\n", " ", "\n", "", "A\u030a"])
@settings(max_examples=300, deadline=None)
def test_the_short_way_gives_what_ftfy_gives(texts: list[str]) -> None:
    assert normalize(texts) == [slow(text) for text in texts]


def test_clean_texts_are_not_copied() -> None:
    texts = ["Plain text.\n\nA second paragraph.", "Größe: “ça va” – 東京", ""]
    found = normalize(texts)
    assert all(new is old for new, old in zip(found, texts, strict=True))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("schÃ¶n", "schön"),
        ("Fish &amp; chips", "Fish & chips"),
        ("<p>Fish &amp; chips", "<p>Fish &amp; chips"),
        ("bell\x07 and \x1b[1mbold\x1b[0m", "bell and bold"),
        ("e\u0301", "é"),
        ("ends here  \n\n\n\n  indented", "ends here\n\n  indented"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("no\u00a0break, soft\u00adhyphen, zero\u200bwidth", "no break, softhyphen, zerowidth"),
        ("“curly” stays, ﬁ does not", "“curly” stays, fi does not"),
        ("  \n ", ""),
    ],
)
def test_what_is_changed(given: str, wanted: str) -> None:
    assert normalize([given]) == [wanted]
