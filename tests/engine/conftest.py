"""What the engine's tests share: an importable module of functions, shards with a side log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _functions_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "executed.log"


@pytest.fixture
def make_shards(log: Path) -> Callable[..., list[dict[str, Any]]]:
    def make(count: int, **more: Any) -> list[dict[str, Any]]:
        return [{"id": f"s{i}", "n": 5 * i, "log": str(log), **more} for i in range(count)]

    return make


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    """Return what hashes all files of a folder, hidden ones too."""

    def digest(folder: Path) -> dict[str, str]:
        return {
            p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }

    return digest
