import importlib.util
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus import language as module
from llmlabel.corpus.language import identify, known_languages, language_filter
from llmlabel.errors import UnknownNameError

pytest.importorskip("py3langid")
SENTENCES = Path("/work/shared/data/web/langid.parquet")
TEXTS = {
    "en": "The committee decided that the bridge would be closed until spring.",
    "de": "Der Ausschuss hat beschlossen, die Brücke bis zum Frühling zu sperren.",
    "fr": "Le comité a décidé que le pont serait fermé jusqu'au printemps.",
    "ru": "Комитет решил, что мост будет закрыт до весны.",
    "ja": "委員会は橋を春まで閉鎖することを決定しました。",
}


def test_sentences_of_some_languages() -> None:
    codes, sure = identify(list(TEXTS.values()))
    assert codes.tolist() == list(TEXTS)
    assert sure.dtype == np.float32 and (sure > 0.9).all()


def test_nothing_to_tell_by() -> None:
    codes, sure = identify(["", "12345", TEXTS["en"]])
    assert codes.tolist()[0] == "und" and codes.tolist()[2] == "en"
    assert sure[0] < 0.1
    codes, sure = identify([])
    assert len(codes) == len(sure) == 0


@given(st.lists(st.one_of(st.sampled_from(list(TEXTS.values())), st.text(max_size=60)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_batch_says_what_py3langid_says(texts: list[str]) -> None:
    codes, sure = identify(texts)
    for text, code, p in zip(texts, codes.tolist(), sure.tolist(), strict=True):
        wanted, confidence = module._model().classify(text)
        assert abs(p - confidence) < 1e-3
        assert code == wanted or (code == "und" and confidence < 0.1)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS.values(), "short", ""] * 3
    wanted = identify(texts)[0].tolist()
    monkeypatch.setattr(module, "_TEXTS", 2)
    assert identify(texts)[0].tolist() == wanted


def test_thresholds_by_language() -> None:
    texts = [TEXTS["en"], TEXTS["de"], TEXTS["fr"], ""]
    found = language_filter(texts, {"en": 0.65, "de": 1.01})
    assert found.reason.tolist() == ["", "language.unsure", "language.fr", "language.und"]
    assert found.values["language"].tolist()[:3] == ["en", "de", "fr"]


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown language 'xx'"):
        language_filter(["a"], {"xx": 0.5})
    with pytest.raises(UnknownNameError, match="did you mean 'lingua'"):
        identify(["a"], backend="linga")  # type: ignore[arg-type]
    assert {"en", "zh", "cy"} <= set(known_languages())


@pytest.mark.skipif(not SENTENCES.exists(), reason=f"needs {SENTENCES}")
def test_accuracy_on_sentences_of_75_languages() -> None:
    rows = pq.read_table(SENTENCES)
    codes, _ = identify(rows["text"].to_pylist())
    assert np.mean(codes == np.array(rows["lang"].to_pylist())) >= 0.924


@pytest.mark.skipif(importlib.util.find_spec("lingua") is None, reason="needs llmlabel[lingua]")
def test_lingua(monkeypatch: pytest.MonkeyPatch) -> None:
    from lingua import Language, LanguageDetectorBuilder

    # Five languages of 75, whose models take ten seconds to load.
    some = Language.ENGLISH, Language.GERMAN, Language.FRENCH, Language.RUSSIAN, Language.JAPANESE
    detector = LanguageDetectorBuilder.from_languages(*some).build()
    monkeypatch.setattr(module, "_detector", lambda: detector)
    codes, sure = identify([*TEXTS.values(), ""], backend="lingua")
    assert codes.tolist() == [*TEXTS, "und"]
    assert (sure[:-1] > 0.8).all() and sure[-1] == 0
    assert len(known_languages("lingua")) == 75
