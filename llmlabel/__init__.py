"""llmlabel: label data with programs and language models, denoise, distil.

Everything that knows something about a row is a labeling function; everything
else is what you do with the labels. The names below are loaded when first used:
``import llmlabel`` loads neither torch nor transformers nor openai.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmlabel.analysis import summary
    from llmlabel.distill import fit_linear
    from llmlabel.embed import load_encoder
    from llmlabel.io import read_table
    from llmlabel.labelmodel import DawidSkene, LabelSet, MajorityVote
    from llmlabel.lf import LF, apply, column, keyword, labeling_function, nearest, prompt, regex
    from llmlabel.schema import ABSTAIN, Task
    from llmlabel.votes import VoteMatrix

_HOMES = {
    "ABSTAIN": "schema",
    "DawidSkene": "labelmodel",
    "LF": "lf",
    "LabelSet": "labelmodel",
    "MajorityVote": "labelmodel",
    "Task": "schema",
    "VoteMatrix": "votes",
    "apply": "lf",
    "column": "lf",
    "fit_linear": "distill",
    "keyword": "lf",
    "labeling_function": "lf",
    "load_encoder": "embed",
    "nearest": "lf",
    "prompt": "lf",
    "read_table": "io",
    "regex": "lf",
    "summary": "analysis",
}

__all__ = [
    "ABSTAIN",
    "LF",
    "DawidSkene",
    "LabelSet",
    "MajorityVote",
    "Task",
    "VoteMatrix",
    "apply",
    "column",
    "fit_linear",
    "keyword",
    "labeling_function",
    "load_encoder",
    "nearest",
    "prompt",
    "read_table",
    "regex",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmlabel' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"llmlabel.{_HOMES[name]}"), name)
    globals()[name] = value  # the next look-up finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
