"""A classifier on the mean of an encoder's token vectors: better than the first token's on few rows.

Measured on 300 support messages (docs/log.md). The head starts at zero and learns faster
than the encoder, so that the first steps do not tear the encoder apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput

__all__ = ["MeanPooledClassifier"]

HEAD: Final = "head.safetensors"
_SCALE: Final = 4.0  # of unit vectors, so that logits of some size need no large weights
_HEAD_RATE: Final = 2e-2


class MeanPooledClassifier(torch.nn.Module):
    """An encoder, the unit mean of its token vectors, and a linear head.

    Parameters
    ----------
    encoder
        A transformers encoder, or a PeftModel of one.
    num_labels
        k.
    """

    def __init__(self, encoder: Any, num_labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.config.num_labels = num_labels
        self.classifier = torch.nn.Linear(encoder.config.hidden_size, num_labels)
        torch.nn.init.zeros_(self.classifier.weight)
        torch.nn.init.zeros_(self.classifier.bias)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.classifier.weight.device

    def forward(self, **features: torch.Tensor) -> SequenceClassifierOutput:
        """Return logits, shape (n, k)."""
        hidden = self.encoder(**features).last_hidden_state
        mask = features["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        unit = torch.nn.functional.normalize(mean.float(), dim=-1)
        return SequenceClassifierOutput(logits=self.classifier(_SCALE * unit))

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimizer's groups: the head learns faster and does not decay."""
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        return [
            {"params": encoder, "weight_decay": weight_decay},
            {"params": self.classifier.parameters(), "weight_decay": 0.0, "lr": _HEAD_RATE},
        ]

    def dense(self) -> Mapping[str, torch.Tensor]:
        """Return weight (k, d) and bias (k,) of the head over unit means."""
        weight, bias = self.classifier.weight.detach(), self.classifier.bias.detach()
        return {"weight": _SCALE * weight, "bias": bias.clone()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder, or its adapter, and the head beside it."""
        self.encoder.save_pretrained(folder)
        head = {k: v.detach().contiguous() for k, v in self.classifier.state_dict().items()}
        save_file(head, Path(folder) / HEAD)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, num_labels: int, *, adapter: str | Path | None = None
    ) -> MeanPooledClassifier:
        """Load an encoder, or one with an adapter that `save_pretrained` wrote, and its head."""
        encoder: Any = AutoModel.from_pretrained(folder)
        if adapter is not None:
            from peft import PeftModel

            encoder = PeftModel.from_pretrained(encoder, str(adapter))
        made = cls(encoder, num_labels)
        head = Path(adapter or folder) / HEAD
        if head.is_file():
            made.classifier.load_state_dict(load_file(head))
        return made
