"""peft, kept quiet about what it asks of transformers by its old names."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

__all__ = ["as_peft_does"]


@contextlib.contextmanager
def as_peft_does() -> Iterator[None]:
    """Keep quiet about what peft asks of transformers by its old names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
