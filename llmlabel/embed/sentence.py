"""sentence-transformers models, fast on CPUs.

Measured with all-MiniLM-L6-v2 over 1,919 support messages of 41 tokens on
average, two cores of a Sapphire Rapids Xeon, best of three: sentence-transformers'
own ``encode`` 250 texts/s; here 283 in float32, 924 in bfloat16 (least cosine to
the former .99990). With AMX switched off, as on CPUs that have AVX512-BF16 alone,
bfloat16 fell to 194: hence only AMX turns it on. OpenVINO, where it is wished for,
adds a sixth to a fifth to bfloat16's speed (docs/benchmarks.md).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from llmlabel.embed.encoder import (
    EncoderFallbackWarning,
    Progress,
    Vectors,
    check_texts,
    unit_rows,
)
from llmlabel.embed.model_folder import model_fingerprint, model_folder
from llmlabel.embed.openvino import Forward, compile_openvino, require_openvino
from llmlabel.errors import ConfigError, MissingExtraError

__all__ = ["Backend", "SentenceEncoder"]

Dtype = Literal["auto", "float32", "bfloat16"]
Backend = Literal["torch", "openvino"]

_BATCH_TOKENS: Final = 4096
_WIDTH_STEP: Final = 8
_PROBES: Final = (
    "The parcel came on Monday.",
    "Please CANCEL my order no. 4711, it was placed twice!",
    "",
    "Straße, naïve, 你好, привет 🙂",
)
_LEAST_COSINE: Final = {"float32": 0.9999, "bfloat16": 0.999}


class SentenceEncoder:
    """A sentence-transformers model by hub name or path.

    Nothing heavy happens before the first `encode`: a program that finds all
    its vectors in the cache never imports torch.

    Parameters
    ----------
    name
        A folder, or a model's name on the hub; see `model_folder`.
    threads
        CPU threads while encoding; by default torch's own choice.
    dtype
        ``"auto"`` computes in bfloat16 where the CPU has AMX and the model's
        vectors stay within cosine .999 of its float32 ones, else in float32.
    backend
        ``"openvino"`` compiles the model with OpenVINO (``llmlabel[openvino]``). At
        load its vectors are compared with the reference's; where they differ by more
        than the precision explains, a warning says so and torch computes them.

    Raises
    ------
    MissingExtraError
        sentence-transformers or the backend is not installed.
    ConfigError
        The model cannot be found; says how to go on.

    Notes
    -----
    Texts are tokenised once and batched by padded width, a multiple of 8, at
    about 4,096 tokens. A text's neighbours then never change its own padding, so
    its vector hardly depends on them.
    """

    def __init__(
        self,
        name: str,
        threads: int | None = None,
        dtype: Dtype = "auto",
        backend: Backend = "torch",
    ) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError("sentence-transformers", "local", need=f"the encoder {name!r}")
        if dtype not in get_args(Dtype):
            raise ConfigError(
                f"encoder {name!r}: expected the dtype {' or '.join(get_args(Dtype))}, got {dtype!r}"
            )
        if threads is not None and threads < 1:
            raise ConfigError(f"encoder {name!r}: expected at least one thread, got {threads}")
        if backend not in get_args(Backend):
            raise ConfigError(
                f"encoder {name!r}: expected the backend {' or '.join(get_args(Backend))}, "
                f"got {backend!r}"
            )
        if backend == "openvino":
            require_openvino(f"the backend of the encoder {name!r}")
        self.name = name
        self.threads = threads
        self.dtype: Dtype = dtype
        self.backend: Backend = backend
        self.folder = model_folder(name)
        self.fingerprint = model_fingerprint(self.folder)

    def __repr__(self) -> str:
        return (
            f"SentenceEncoder({self.name!r}, threads={self.threads}, dtype={self.dtype!r}, "
            f"backend={self.backend!r})"
        )

    @property
    def cache_key(self) -> str:
        """The fingerprint, and how exactly the vectors are computed."""
        backend = "" if self.backend == "torch" else f"-{self.backend}"
        return f"{self.fingerprint}-{self.dtype}{backend}"

    def encode(self, sentences: Sequence[str], on_progress: Progress | None = None) -> Vectors:
        """Return unit vectors, shape (n, d), in the order of the texts.

        Raises
        ------
        DataError
            A value that is no string.
        ConfigError
            sentence-transformers cannot load the model.
        """
        texts = [_without_lone_surrogates(t) for t in check_texts(sentences)]
        threads = self.threads if self.backend == "openvino" else None
        loaded = _load(self.folder, self.fingerprint, self.dtype, self.backend, threads)
        with _threads(self.threads):
            if not texts:
                return np.empty((0, loaded.dims), np.float32)
            if loaded.forward is not None:
                return _encode_by_tokens(loaded.model, loaded.forward, texts, on_progress)
            vectors = unit_rows(loaded.model.encode(texts, show_progress_bar=False))
        if on_progress is not None:
            on_progress(len(texts), len(texts))
        return vectors


@dataclass(frozen=True)
class _Loaded:
    model: Any
    dims: int
    forward: Forward | None
    """How batches of tokens become vectors; None: only the model's own encode agrees."""


@functools.lru_cache(maxsize=2)
def _load(
    folder: Path, _fingerprint: str, dtype: Dtype, backend: Backend, threads: int | None
) -> _Loaded:
    """Load a model once per process; take the fast ways only where they agree with the plain one."""
    model = _load_model(folder)
    reference = unit_rows(model.encode(list(_PROBES), show_progress_bar=False))
    dims = reference.shape[1]
    if not _has_plain_tokens(model):
        if backend == "openvino":
            _warn_of_torch(folder, "it is no transformer over the tokens of the text alone")
        return _Loaded(model, dims, None)
    halved = dtype == "bfloat16" or (
        dtype == "auto" and model.device.type == "cpu" and _cpu_has_amx()
    )
    if backend == "openvino":
        for bfloat16 in (True, False) if halved else (False,):
            with _quiet():
                compiled = compile_openvino(model, bfloat16=bfloat16, threads=threads)
            precision = "bfloat16" if bfloat16 else "float32"
            if _agrees(model, compiled, reference, precision):
                return _Loaded(model, dims, compiled)
        _warn_of_torch(folder, "its vectors differ from the reference's")
    if halved:
        _halve(model)
        if dtype == "bfloat16" or _agrees(model, _by_torch(model), reference, "bfloat16"):
            return _Loaded(model, dims, _by_torch(model))
        model = _load_model(folder)
    plain = _by_torch(model)
    return _Loaded(model, dims, plain if _agrees(model, plain, reference, "float32") else None)


def _warn_of_torch(folder: Path, reason: str) -> None:
    warnings.warn(
        f"{folder}: the model runs on torch, not OpenVINO: {reason}",
        EncoderFallbackWarning,
        stacklevel=4,
    )


def _load_model(folder: Path) -> Any:
    with _quiet():
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = next(line for line in (*str(error).splitlines(), repr(error)) if line.strip())
            raise ConfigError(
                f"{folder}: sentence-transformers cannot load this model: {reason.strip()}"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing a bar for a load of 0.2 seconds and talking of its losses."""
    from transformers.utils import logging

    drawn, said = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(said)
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_has_amx() -> bool:
    import torch

    return bool(torch.cpu._is_amx_tile_supported())


def _halve(model: Any) -> None:
    """Compute the transformer in bfloat16; pooling and what follows stay float32."""
    import torch

    model[0].to(torch.bfloat16)


def _has_plain_tokens(model: Any) -> bool:
    """Whether the model is a transformer over the tokens of the text alone."""
    return (
        hasattr(model[0], "auto_model")
        and bool(getattr(model.tokenizer, "is_fast", False))
        and model.default_prompt_name is None
    )


def _agrees(model: Any, forward: Forward, reference: Vectors, precision: str) -> bool:
    cosines = np.einsum("nd,nd->n", _encode_by_tokens(model, forward, _PROBES), reference)
    return bool(cosines.min() >= _LEAST_COSINE[precision])


def _by_torch(model: Any) -> Forward:
    def forward(features: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        found = model[0](dict(features))
        found["token_embeddings"] = found["token_embeddings"].float()
        for module in list(model)[1:]:
            found = module(found)
        vectors: npt.NDArray[np.float32] = found["sentence_embedding"].float().cpu().numpy()
        return vectors

    return forward


def _encode_by_tokens(
    model: Any, forward: Forward, texts: Sequence[str], on_progress: Progress | None = None
) -> Vectors:
    import torch

    tokens = _tokenise(model.tokenizer, texts)
    parts, places, done = [], [], 0
    with torch.inference_mode():
        for rows, width in _batches(tokens, model.max_seq_length):
            parts.append(forward(_features(model, [tokens[i] for i in rows], width)))
            places.append(rows)
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(texts))
    vectors: Vectors = np.concatenate(parts)[np.argsort(np.concatenate(places))]
    return unit_rows(vectors)


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(
        list(texts),
        truncation=True,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    tokens: list[list[int]] = encoded["input_ids"]
    return tokens


def _batches(
    tokens: Sequence[Sequence[int]], limit: int | None
) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
    """Yield (rows, padded width): rows of one width, shortest first."""
    lengths = np.array([len(t) for t in tokens])
    widths = np.maximum(-(-lengths // _WIDTH_STEP), 1) * _WIDTH_STEP
    if limit:
        widths = np.minimum(widths, np.maximum(lengths, limit))
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        step = max(1, _BATCH_TOKENS // width)
        for start in range(0, len(rows), step):
            yield rows[start : start + step], width


def _features(model: Any, tokens: Sequence[Sequence[int]], width: int) -> dict[str, Any]:
    import torch

    pad = model.tokenizer.pad_token_id or 0
    lengths = np.array([len(t) for t in tokens])
    mask = np.arange(width) < lengths[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate(tokens)
    features = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if "token_type_ids" in model.tokenizer.model_input_names:
        features["token_type_ids"] = np.zeros_like(ids)
    return {name: torch.from_numpy(value).to(model.device) for name, value in features.items()}


def _without_lone_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which broken JSON escapes leave: no tokenizer takes them."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
