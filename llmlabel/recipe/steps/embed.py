"""Turn every split's texts into unit vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlabel.embed import Encoder, embed, load_encoder
from llmlabel.io import atomic_write, cache_dir, fingerprint_path
from llmlabel.io.runs import read_json, write_json
from llmlabel.recipe.config import EmbedStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind

__all__ = ["KIND", "StepEncoder", "step_encoder", "step_vectors"]


@dataclass(frozen=True)
class StepEncoder:
    """The encoder of an ``embed`` step, loaded when it is first asked.

    Loading torch takes seconds; votes and checks that need no new vectors
    should not wait for it.
    """

    folder: Path

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors, from the cache where they are known."""
        return embed(texts, step_encoder(self.folder), cache_dir=cache_dir() / "embeddings")


def _run(context: Context) -> Mapping[str, Any]:
    texts = {split: context.texts(split) for split in context.splits}
    total, done, started = sum(map(len, texts.values())), 0, time.perf_counter()
    encoder = load_encoder(
        _name(context.config, context.recipe),
        fit_texts=texts["train"],
        threads=context.config.threads,
        backend=context.config.backend,
    )
    dims = 0
    for split, column in texts.items():
        vectors = embed(
            column,
            encoder,
            cache_dir=cache_dir() / "embeddings",
            on_progress=context.progress_from(done, total),
        )
        done, dims = done + len(column), vectors.shape[1]
        with atomic_write(context.folder.path / f"vectors.{split}.npy") as part:
            np.save(part, vectors)
    described = {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "backend": context.config.backend,
    }
    write_json(described, context.folder.path / "encoder.json")
    if hasattr(encoder, "save"):  # fitted on these texts: no name brings it back
        encoder.save(context.folder.path / "encoder")
    seconds = time.perf_counter() - started
    return {
        "encoder": encoder.name,
        "dimensions": dims,
        "texts": total,
        "seconds": round(seconds, 3),
    }


def step_encoder(folder: Path) -> Encoder:
    """Return the encoder that an ``embed`` step used."""
    saved, described = folder / "encoder", read_json(folder / "encoder.json")
    return load_encoder(
        str(saved) if saved.is_dir() else described["name"],
        backend=described.get("backend", "torch"),
    )


def step_vectors(folder: Path, split: str) -> npt.NDArray[np.float32]:
    """Return a split's unit vectors, shape (n, d)."""
    vectors: npt.NDArray[np.float32] = np.load(folder / f"vectors.{split}.npy", mmap_mode="r")
    return vectors


def _name(config: EmbedStep, recipe: Recipe) -> str:
    """The encoder's name; a folder beside the recipe as a path that can be opened."""
    beside = recipe.resolve(config.encoder)
    return str(beside) if beside.is_dir() else config.encoder


def _external(config: EmbedStep, recipe: Recipe) -> Mapping[str, Any]:
    name = _name(config, recipe)
    if Path(name).is_dir():
        return {"folder": fingerprint_path(name)}
    # "auto" means another encoder where sentence-transformers is missing.
    return {"auto": config.encoder == "auto" and find_spec("sentence_transformers") is not None}


KIND = StepKind(version=1, run=_run, uses=lambda _, __: ("load",), external=_external)
