"""A sentence-transformers model compiled by OpenVINO: the same vectors, faster on Intel CPUs."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.errors import MissingExtraError

__all__ = ["Forward", "compile_openvino", "require_openvino"]

Forward = Callable[[Mapping[str, Any]], npt.NDArray[np.float32]]
"""From a batch's token features (torch tensors, shape (n, width)) to its vectors, (n, d)."""

_NAMES: Final = ("input_ids", "attention_mask", "token_type_ids")


def require_openvino(need: str) -> None:
    """Raise `MissingExtraError` where OpenVINO is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise MissingExtraError("openvino", "openvino", need=need)


def compile_openvino(model: Any, *, bfloat16: bool, threads: int | None = None) -> Forward:
    """Compile a model with its pooling, for any batch and width.

    Parameters
    ----------
    model
        A SentenceTransformer whose first module is a transformer.
    bfloat16
        Compute in bfloat16 rather than float32.
    threads
        CPU threads; by default OpenVINO's own choice.

    Notes
    -----
    The traced graph is for one process: what differs between machines (the CPU's
    instructions) is decided when it is compiled, and tracing takes about a second.
    """
    openvino = _openvino()
    names = [name for name in _NAMES if name in model.tokenizer.model_input_names]
    graph = _traced(model, names)
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",  # batches come one after the other, all threads on each
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def forward(features: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        request.infer([features[name].cpu().numpy() for name in names], share_inputs=True)
        vectors: npt.NDArray[np.float32] = np.array(request.get_output_tensor(0).data, np.float32)
        return vectors

    return forward


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which is on by default and asks nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its stub stands in
    import openvino

    return openvino


def _traced(model: Any, names: list[str]) -> Any:
    import torch

    class Positional(torch.nn.Module):
        """The model with its features as arguments, which is what tracing knows."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return self.model(dict(zip(names, given, strict=True)))["sentence_embedding"]

    example = tuple(torch.ones(2, 16, dtype=torch.long) for _ in names)
    with warnings.catch_warnings():
        # Tracing warns of each Python branch on a shape; the parity check at load judges them.
        warnings.simplefilter("ignore")
        return _openvino().convert_model(Positional().eval(), example_input=example)
