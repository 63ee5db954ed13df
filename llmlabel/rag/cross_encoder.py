"""Cross-encoders of sentence-transformers as scores of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.embed.model_folder import model_folder
from llmlabel.errors import ConfigError
from llmlabel.extras import need_packages

__all__ = ["load_cross_encoder"]


def load_cross_encoder(
    name: str | Path, *, batch_size: int = 32
) -> Callable[[Sequence[tuple[str, str]]], npt.NDArray[np.float32]]:
    """Return a function from (query, passage) pairs to scores, for `combined.Reranked`.

    Parameters
    ----------
    name
        A folder, or a model's name on the hub; see `llmlabel.embed.model_folder`.
    batch_size
        Pairs at a time.

    Raises
    ------
    MissingExtraError
        sentence-transformers is not installed (``llmlabel[local]``).
    ConfigError
        The model cannot be found or loaded, or gives more than one score for a pair.
    """
    need_packages(f"the cross-encoder {str(name)!r}", "sentence_transformers", extra="local")
    folder = model_folder(str(name))
    from sentence_transformers import CrossEncoder

    try:
        model: Any = CrossEncoder(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ConfigError(f"{folder}: no cross-encoder can be loaded: {reason}") from error
    if model.num_labels != 1:
        raise ConfigError(f"{folder}: expected one score for a pair, got {model.num_labels}")

    def score(pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        found = model.predict(list(pairs), batch_size=batch_size, show_progress_bar=False)
        return np.asarray(found, np.float32)

    return score
