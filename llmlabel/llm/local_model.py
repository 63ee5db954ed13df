"""The part of `LocalClient` that computes. The one file here that imports torch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jinja2.exceptions import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)

from llmlabel.errors import ClientError, ConfigError, LLMLabelError
from llmlabel.io import canonical_json
from llmlabel.llm.scored_answer import ScoredAnswer
from llmlabel.llm.scorer import Scorer
from llmlabel.llm.types import Message, Request, Response, Usage

__all__ = ["LocalModel"]

_MAX_TOKENS: Final = 256
_PARAMS: Final = frozenset(
    {"temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "logprobs", "top_logprobs"}
)
Ids = list[int]
