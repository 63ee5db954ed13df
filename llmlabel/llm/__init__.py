"""Ask language models: prompts, requests, clients, the cache, and the run over many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlabel.llm.answers import InvalidAnswer, parse_answer
from llmlabel.llm.cache import Cache
from llmlabel.llm.complete import RequestPlan, complete_all, plan_requests, stream_all
from llmlabel.llm.local_client import LocalClient
from llmlabel.llm.prompts import Prompt, load_prompt, parse_prompt, row_text, table_texts
from llmlabel.llm.recorded import RecordedClient, write_recorded
from llmlabel.llm.types import Client, Failure, Message, Request, Response, Usage

if TYPE_CHECKING:
    from llmlabel.llm.openai_client import OpenAIClient

__all__ = [
    "Cache",
    "Client",
    "Failure",
    "InvalidAnswer",
    "LocalClient",
    "Message",
    "OpenAIClient",
    "Prompt",
    "RecordedClient",
    "Request",
    "RequestPlan",
    "Response",
    "Usage",
    "complete_all",
    "load_prompt",
    "parse_answer",
    "parse_prompt",
    "plan_requests",
    "row_text",
    "stream_all",
    "table_texts",
    "write_recorded",
]


def __getattr__(name: str) -> Any:
    if name != "OpenAIClient":
        raise AttributeError(f"module 'llmlabel.llm' has no attribute {name!r}")
    from llmlabel.llm.openai_client import OpenAIClient  # takes 0.6 s to import

    globals()[name] = OpenAIClient
    return OpenAIClient
