"""The encoder that needs no torch: TF-IDF, then a truncated SVD (latent semantic analysis).

Deerwester et al., "Indexing by latent semantic analysis", JASIS 1990. It knows
the words of the texts it was fitted on and nothing else: two texts are near if
their words go together *there*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.embed.encoder import Vectors, check_texts, unit_rows
from llmlabel.embed.tfidf import Tfidf, fit_tfidf, load_tfidf
from llmlabel.errors import ConfigError, DataError
from llmlabel.io import atomic_write, fingerprint

__all__ = ["TFIDF_SVD", "TfidfSvdEncoder", "fit_tfidf_svd"]

TFIDF_SVD: Final = "tfidf-svd"
_FORMAT: Final = 1


@dataclass(frozen=True, eq=False)
class TfidfSvdEncoder:
    """A fitted TF-IDF + SVD encoder; see `fit_tfidf_svd`.

    Parameters
    ----------
    tfidf
        The fitted TF-IDF blocks.
    components : array, shape (d, n_features)
        The right singular vectors.
    """

    tfidf: Tfidf
    components: npt.NDArray[np.float32]

    @property
    def name(self) -> str:
        """Return ``"tfidf-svd"``."""
        return TFIDF_SVD

    @cached_property
    def fingerprint(self) -> str:
        """Return the sha256 of all that was learned."""
        digests = {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in self._arrays().items()}
        return fingerprint(TFIDF_SVD, _FORMAT, self.tfidf.config(), digests)

    def encode(self, sentences: Sequence[str]) -> Vectors:
        """Return unit vectors, shape (n, d); a text without any known term is a zero row."""
        texts = check_texts(sentences)
        if not texts:
            return np.empty((0, len(self.components)), np.float32)
        return unit_rows(self.tfidf.transform(texts) @ self.components.T)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**self.tfidf.arrays(), "components": self.components}

    def save(self, folder: str | Path) -> None:
        """Write arrays (npz) and terms (JSON) into a folder; `load` brings the encoder back."""
        folder = Path(folder)
        # Gone first and written last: a folder without it holds no encoder.
        (folder / "config.json").unlink(missing_ok=True)
        with atomic_write(folder / "arrays.npz") as part:
            np.savez(part, allow_pickle=False, **self._arrays())
        config = {"kind": TFIDF_SVD, "format": _FORMAT, "tfidf": self.tfidf.config()}
        with atomic_write(folder / "config.json") as part:
            part.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> TfidfSvdEncoder:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            The folder holds no such encoder, or one of another format.
        """
        file = Path(folder) / "config.json"
        if not file.is_file():
            raise DataError("no such file; expected a saved TF-IDF + SVD encoder", file=file)
        config = json.loads(file.read_text(encoding="utf-8"))
        if (config.get("kind"), config.get("format")) != (TFIDF_SVD, _FORMAT):
            raise DataError(
                f"expected a {TFIDF_SVD!r} encoder of format {_FORMAT}, got "
                f"{config.get('kind')!r} of format {config.get('format')}",
                file=file,
            )
        with np.load(file.with_name("arrays.npz")) as arrays:
            return cls(load_tfidf(config["tfidf"], arrays), arrays["components"])


def fit_tfidf_svd(texts: Sequence[str], *, dims: int = 256, seed: int = 0) -> TfidfSvdEncoder:
    """Fit the encoder on texts.

    Parameters
    ----------
    texts
        The texts to learn from; the more like those to be encoded, the better.
    dims
        Numbers in a vector, fewer where the texts do not span so many.
    seed
        Of the randomised SVD: same texts and seed, same vectors.

    Raises
    ------
    DataError
        None of the texts holds anything to learn from.

    Examples
    --------
    >>> encoder = fit_tfidf_svd(["a red boat", "a blue boat", "the tax office"] * 5)
    >>> boat, ship, tax = encoder.encode(["boat", "red boat", "tax"])
    >>> bool(boat @ ship > boat @ tax)
    True
    """
    if dims < 1:
        raise ConfigError(f"{TFIDF_SVD}: expected at least one dimension, got {dims}")
    from sklearn.decomposition import TruncatedSVD  # takes 0.6 s to import

    texts = check_texts(texts)
    tfidf = fit_tfidf(texts)
    rows = tfidf.transform(texts)
    rank = min(dims, *rows.shape)
    svd = TruncatedSVD(rank, random_state=seed).fit(rows)
    # Directions without any variance are noise that differs from machine to machine.
    kept = svd.singular_values_ > 1e-6 * svd.singular_values_[0]
    return TfidfSvdEncoder(tfidf, svd.components_[kept].astype(np.float32))
