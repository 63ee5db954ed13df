"""Ask with curator, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.environments import python_of

__all__ = ["ask"]

WORKER: Final = Path(__file__).with_name("curator_worker.py")


def ask(
    url: str, bodies: Sequence[Mapping[str, Any]], in_flight: int, folder: str = ""
) -> dict[str, Any]:
    """Ask about every row; return the seconds of the call and the rows without an answer.

    Parameters
    ----------
    folder
        Where it keeps its answers; by default a new one.
    """
    python = python_of("curator")
    with tempfile.TemporaryDirectory() as fresh:
        done = subprocess.run(
            [str(python), str(WORKER), url, str(in_flight)],
            input="\n".join(json.dumps(body) for body in bodies),
            capture_output=True,
            text=True,
            check=True,
            timeout=110,
            env={**os.environ, "CURATOR_CACHE_DIR": folder or fresh},
        )
    return dict(json.loads(done.stdout.rstrip().splitlines()[-1]))
