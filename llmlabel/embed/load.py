"""From a name to an encoder."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from llmlabel.embed.encoder import Encoder, EncoderFallbackWarning
from llmlabel.embed.model_folder import MINILM
from llmlabel.embed.sentence import Backend, SentenceEncoder
from llmlabel.embed.tfidf_svd import TFIDF_SVD, TfidfSvdEncoder, fit_tfidf_svd
from llmlabel.errors import ConfigError

__all__ = ["load_encoder"]


def load_encoder(
    name: str | Path = "auto",
    fit_texts: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    backend: Backend = "torch",
    seed: int = 0,
) -> Encoder:
    """Return an encoder by name.

    Parameters
    ----------
    name
        ``"auto"``: all-MiniLM-L6-v2 where sentence-transformers is installed,
        else ``"tfidf-svd"`` with a warning. ``"tfidf-svd"``: TF-IDF + SVD fitted
        on `fit_texts`. A folder: a saved TF-IDF + SVD encoder or a
        sentence-transformers model. Anything else: a model's name on the hub.
    fit_texts
        Texts for an encoder that has to be fitted.
    threads
        CPU threads of a sentence-transformers model.
    backend
        What runs a sentence-transformers model: ``"torch"`` or ``"openvino"``.
    seed
        Of an encoder that has to be fitted.

    Raises
    ------
    MissingExtraError
        The name needs sentence-transformers or OpenVINO, which is not installed.
    ConfigError
        The model cannot be found, or texts to fit on are missing.

    Warns
    -----
    EncoderFallbackWarning
        ``"auto"`` found no sentence-transformers.

    Examples
    --------
    >>> load_encoder("tfidf-svd", ["a red boat", "a blue boat"]).name
    'tfidf-svd'
    """
    name = str(name)
    if name == "auto":
        if importlib.util.find_spec("sentence_transformers") is not None:
            return SentenceEncoder(MINILM, threads=threads, backend=backend)
        warnings.warn(
            "sentence-transformers is not installed: texts are embedded by TF-IDF + SVD, which "
            "knows no words but those of the given texts (pip install 'llmlabel[offline]')",
            EncoderFallbackWarning,
            stacklevel=2,
        )
        name = TFIDF_SVD
    if name == TFIDF_SVD:
        if fit_texts is None:
            raise ConfigError(f"the encoder {TFIDF_SVD!r} needs texts to fit on (fit_texts)")
        return fit_tfidf_svd(fit_texts, seed=seed)
    if _is_saved_tfidf_svd(Path(name)):
        return TfidfSvdEncoder.load(name)
    return SentenceEncoder(name, threads=threads, backend=backend)


def _is_saved_tfidf_svd(folder: Path) -> bool:
    config = folder / "config.json"
    if not config.is_file():
        return False
    found = json.loads(config.read_text(encoding="utf-8"))
    return isinstance(found, dict) and found.get("kind") == TFIDF_SVD
