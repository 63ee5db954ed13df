"""What all tests share: a cache of their own, a small recipe, servers, the data of ../shared."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from llmlabel.llm import OpenAIClient

# A busy machine is no reason to fail: what is slow is measured elsewhere.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Embeddings and answers of tests never land in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMLABEL_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder ../shared/data; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}, which is not here")
    return SHARED


TEXTS = {
    "SPAM": ["please subscribe to my channel", "check out my video", "free gift cards, click here"],
    "HAM": ["what a lovely song", "this song makes me cry", "best singer of the decade"],
}

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "task": {"name": "spam", "classes": {"HAM": "a remark", "SPAM": "promotion"}},
    "data": {"train": "train.jsonl", "test": "test.jsonl", "id": "id", "gold": "label"},
    "steps": [
        {"step": "embed", "encoder": "tfidf-svd"},
        {
            "step": "label",
            "lfs": [
                {
                    "lf": "keyword",
                    "name": "ask",
                    "label": "SPAM",
                    "words": ["subscribe", "check out"],
                },
                {"lf": "regex", "name": "song", "label": "HAM", "pattern": "song|singer"},
                {"lf": "regex", "name": "free", "label": "SPAM", "pattern": r"\bfree\b"},
            ],
        },
        {"step": "aggregate"},
        {"step": "distill"},
        {"step": "evaluate"},
        {"step": "report"},
    ],
}


def write_rows(path: Path, copies: int, prefix: str) -> None:
    rows = [
        {"id": f"{prefix}{i}-{label}-{j}", "text": f"{text} {i}", "label": label}
        for i in range(copies)
        for label, texts in TEXTS.items()
        for j, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


Make = Callable[..., Path]


@pytest.fixture
def make_recipe(tmp_path: Path) -> Make:
    """Return a function that writes the small recipe, changed by a function, and its data."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        folder = tmp_path / "tiny"
        folder.mkdir(exist_ok=True)
        write_rows(folder / "train.jsonl", 10, "a")
        write_rows(folder / "test.jsonl", 4, "b")
        data = copy.deepcopy(RECIPE)
        change(data)
        with (folder / "recipe.yaml").open("w") as handle:
            YAML().dump(data, handle)
        return folder

    return make


@dataclass(frozen=True)
class Server:
    """A running server of tests/servers: its address and its controls."""

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


@contextlib.contextmanager
def serving(script: str) -> Iterator[Server]:
    """Run a server of tests/servers as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "servers" / script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Server(json.loads(process.stdout.readline())["port"])
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.fixture(scope="session")
def serve_script() -> Callable[[str], contextlib.AbstractContextManager[Server]]:
    """Return what runs a server of tests/servers by its file's name."""
    return serving


@pytest.fixture(scope="session")
def running_server() -> Iterator[Server]:
    with serving("openai_server.py") as server:
        yield server


@pytest.fixture(scope="session")
def running_batch_server() -> Iterator[Server]:
    with serving("batch_server.py") as server:
        yield server


def _reset(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    server.configure()
    monkeypatch.setenv("LLMLABEL_TEST_KEY", "sk-test-secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return server


@pytest.fixture
def server(running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """An OpenAI-compatible server without faults."""
    return _reset(running_server, monkeypatch)


@pytest.fixture
def batches(running_batch_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server of the files and batches endpoints."""
    return _reset(running_batch_server, monkeypatch)
