"""A real server that is not ours: `transformers serve` with a tiny model, through OpenAIClient."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from llmlabel.llm import OpenAIClient, complete_all, load_prompt, parse_answer
from llmlabel.llm.confidence import class_probabilities
from llmlabel.schema import Task

for package in ("torch", "transformers", "tokenizers", "accelerate", "fastapi", "uvicorn"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"`transformers serve` needs {package}", allow_module_level=True)

SAYS = ['{"label":', ' "HAM",', ' "confidence":', " 0.75}", "<|end|>"]
STARTS_WITHIN_S = 120
SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    sys.path.insert(0, str(Path(__file__).parent))
    from tiny_model import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("served"), says=SAYS)


@pytest.fixture(scope="module")
def base_url(model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = model / "serve.log"
    command = [sys.executable, "-c", SERVE, "serve", str(model), "--device", "cpu"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=out,
            stderr=out,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(url, process, log):
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"did not start within {STARTS_WITHIN_S} s: {log.read_text()}")


def test_rows_are_answered_and_missing_logprobs_are_borne(base_url, model, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    task = Task("spam", {"HAM": "a real remark", "SPAM": "promotion"})
    prompt = load_prompt("classify")
    params = {"logprobs": True, "top_logprobs": 5, "max_tokens": 30}
    asked = [prompt.request(task, {}, f"word {i}", f"r{i}", params=params) for i in range(6)]
    client = OpenAIClient(str(model), base_url)
    for request, answer in zip(asked, complete_all(asked, client), strict=True):
        assert parse_answer(answer.text, request.schema) == {"label": "HAM", "confidence": 0.75}
        assert answer.finish_reason == "stop"
        assert answer.usage.prompt_tokens > 50
        assert answer.logprobs is None  # asked for, and the server has none
        found = class_probabilities(
            answer, "label", task.names, schema=request.schema, confidence="confidence"
        )
        assert found == pytest.approx([0.75, 0.25])
