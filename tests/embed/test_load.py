from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from llmlabel.embed import (
    Encoder,
    EncoderFallbackWarning,
    HasEncode,
    TfidfSvdEncoder,
    fit_tfidf_svd,
    load_encoder,
    unit_rows,
)
from llmlabel.errors import ConfigError

TEXTS = ["a red boat on the sea", "a blue boat", "the tax office wrote", "tax return due"]


def test_auto_falls_back_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # Python's "not installed"
    with pytest.warns(EncoderFallbackWarning, match="not installed: texts are embedded by TF-IDF"):
        encoder = load_encoder("auto", fit_texts=TEXTS)
    assert encoder.name == "tfidf-svd"
    assert isinstance(encoder, Encoder)
    with pytest.warns(EncoderFallbackWarning), pytest.raises(ConfigError, match="texts to fit on"):
        load_encoder("auto")


def test_the_warning_points_at_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_encoder("auto", fit_texts=TEXTS)
    assert [w.filename for w in seen] == [__file__]


def test_tfidf_svd_by_name_and_by_folder(tmp_path: Path) -> None:
    encoder = load_encoder("tfidf-svd", TEXTS, seed=3)
    assert isinstance(encoder, TfidfSvdEncoder)
    encoder.save(tmp_path / "encoder")
    again = load_encoder(tmp_path / "encoder")
    assert again.fingerprint == encoder.fingerprint
    assert again.encode(TEXTS).tobytes() == encoder.encode(TEXTS).tobytes()
    with pytest.raises(ConfigError, match="needs texts to fit on"):
        load_encoder("tfidf-svd")


def test_anything_with_encode_is_an_encoder() -> None:
    class Mine:
        def encode(self, sentences: list[str]) -> list[list[int]]:
            return [[1] for _ in sentences]

    assert isinstance(Mine(), HasEncode)
    assert not isinstance(Mine(), Encoder)
    assert isinstance(fit_tfidf_svd(TEXTS), Encoder)


def test_unit_rows_keep_zero_rows() -> None:
    found = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("module", ["llmlabel.embed", "llmlabel.distill"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "sentence_transformers", "openai"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_an_encoder_is_known_without_torch(minilm: None) -> None:
    code = (
        "import sys; from llmlabel.embed import load_encoder; e = load_encoder();"
        "print(len(e.fingerprint), len(e.cache_key) > 64, 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "64 True False"
