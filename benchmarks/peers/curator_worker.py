"""Ask with curator: run by path, in the environment of its project.

    python curator_worker.py URL IN_FLIGHT < BODIES

BODIES are the JSON lines that the others post. Prints one JSON object: the seconds of the call
and how many rows have no answer. Its limits per minute are set out of reach, since by default
it asks ten a minute of a server that names none; it pauses one second
where it would pause ten; its token counts are characters by four, since tiktoken fetches its
files from the web. CURATOR_CACHE_DIR is where it keeps its answers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any


def main(url: str, in_flight: int) -> None:
    """Ask about every row once."""
    asked = [json.loads(line) for line in sys.stdin]
    os.environ.update(TELEMETRY_ENABLED="false", CURATOR_VIEWER="0", HF_HUB_OFFLINE="1")
    counter = SimpleNamespace(encode=lambda text, **_: range(len(text) // 4))
    tiktoken: Any = import_module("tiktoken")
    tiktoken.get_encoding = lambda _: counter
    curator = import_module("bespokelabs.curator")

    class Asking(curator.LLM):  # type: ignore[misc, name-defined]
        def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
            return list(row["messages"])

        def parse(self, row: dict[str, Any], response: Any) -> dict[str, Any]:  # noqa: ARG002
            return {"answer": str(response)}

    limits = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
    llm = Asking(
        model_name="m",
        backend="openai",
        backend_params={
            "base_url": f"{url}/v1",
            "api_key": "none",
            "max_concurrent_requests": in_flight,
            "require_all_responses": False,
            "seconds_to_pause_on_rate_limit": 1,
            **limits,
        },
    )
    started = time.perf_counter()
    found = llm([{"messages": body["messages"]} for body in asked])
    work_s = time.perf_counter() - started
    rows = getattr(found, "dataset", found)
    answered = sum(bool(answer) for answer in rows["answer"])
    print("\n" + json.dumps({"work_s": work_s, "lost": len(asked) - answered}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
