"""The encoder that a linear student was trained with: named, or saved inside, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from llmlabel.embed import HasEncode, TfidfSvdEncoder, load_encoder
from llmlabel.errors import ConfigError

__all__ = ["identify", "is_fitted", "kept_encoder", "without_saved"]


def identify(encoder: HasEncode | None) -> dict[str, str | None]:
    """Return an encoder's name and fingerprint, as far as it has them."""
    return {
        "name": getattr(encoder, "name", None),
        "fingerprint": getattr(encoder, "fingerprint", None),
    }


def is_fitted(encoder: HasEncode | None) -> bool:
    """Whether the encoder was fitted here, so that no name brings it back."""
    return isinstance(encoder, TfidfSvdEncoder)


def kept_encoder(
    folder: Path, config: Mapping[str, Any] | None, given: HasEncode | None
) -> HasEncode | None:
    """Return the encoder of a saved student's config: the given one, the saved, or the named.

    Raises
    ------
    ConfigError
        It is another one than that of the training.
    """
    if config is None:
        return None
    name, fingerprint = config["name"], config["fingerprint"]
    encoder = given
    if encoder is None and config["saved"]:
        encoder = load_encoder(folder / "encoder")
    if encoder is None and name is not None:
        encoder = load_encoder(name)
    found = getattr(encoder, "fingerprint", None)
    if encoder is not None and fingerprint is not None and found != fingerprint:
        raise ConfigError(
            f"{folder}: the student was trained with the encoder {name!r} of fingerprint "
            f"{fingerprint[:12]}, got {getattr(encoder, 'name', type(encoder).__name__)!r} of "
            f"{str(found)[:12]}; its vectors would mean something else",
            hint="give the encoder of the training, or train the student anew",
        )
    return encoder


def without_saved(config: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Return what a student knows of its encoder from a saved config."""
    kept = {k: v for k, v in (config or {}).items() if k != "saved"}
    return cast("dict[str, str | None]", kept)
