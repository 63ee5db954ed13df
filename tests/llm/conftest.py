"""The test server as a fixture, and a small task and prompt."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmlabel.llm import OpenAIClient, Prompt, parse_prompt
from llmlabel.schema import Task

SERVER = Path(__file__).parent.parent / "servers" / "openai_server.py"


@dataclass(frozen=True)
class Server:
    """The running server's address and its controls."""

    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def configure(self, **config: Any) -> None:
        self._call("/configure", json.dumps(config).encode())

    def stats(self) -> dict[str, Any]:
        return self._call("/stats")

    def client(self, model: str | None = "test-model", **arguments: Any) -> OpenAIClient:
        return OpenAIClient(model, self.base_url, "LLMLABEL_TEST_KEY", **arguments)

    def _call(self, path: str, data: bytes | None = None) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def running_server() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Server(json.loads(process.stdout.readline())["port"])
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.fixture
def server(running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    running_server.configure()
    monkeypatch.setenv("LLMLABEL_TEST_KEY", "sk-test-secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return running_server


@pytest.fixture
def task() -> Task:
    return Task("spam", {"HAM": "a real remark", "SPAM": "promotion"})


@pytest.fixture
def prompt() -> Prompt:
    return parse_prompt(
        """---
name: spam
version: 1
temperature: 0
answer:
  label: {enum: [$classes, UNSURE]}
  confidence: {type: number, minimum: 0.5, maximum: 1}
---
system:
Classes:
{% for c in task.classes %}
{{ c.name }}: {{ c.description }}
{% endfor %}
user:
<{{ text }}>
""",
        file="spam.md",
    )
