"""The run folder: a folder per step, named by what went in, done when its manifest is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from llmlabel.errors import ConfigError
from llmlabel.io.files import atomic_write

__all__ = ["CHECKPOINTS", "RunFolder", "StepFolder", "read_json", "write_json"]

MANIFEST: Final = "manifest.json"
CHECKPOINTS: Final = ".checkpoints"
"""Folder of an unfinished step that outlives a kill: what is in it was dear to compute."""


def write_json(value: Any, path: Path) -> None:
    """Write JSON that a person can read, atomically."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class StepFolder:
    """One step's folder.

    Parameters
    ----------
    name
        The step's name in this run: ``label``, ``ask-support-tickets``.
    key
        The sha256 of its config, its inputs and its code version.
    path
        Where it is.
    """

    name: str
    key: str
    path: Path

    @property
    def done(self) -> bool:
        """Whether the step has run to its end."""
        return (self.path / MANIFEST).is_file()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the step said of itself when it ended; empty before."""
        facts: Mapping[str, Any] = read_json(self.path / MANIFEST)["facts"] if self.done else {}
        return facts

    def start(self, *, afresh: bool = True) -> None:
        """Make the folder, empty but for checkpoints: what a killed run left is no result.

        Parameters
        ----------
        afresh
            False for a step that knows by itself what of it is.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not afresh:
            return
        for left in self.path.iterdir():
            if left.name == CHECKPOINTS:
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()

    def forget(self) -> None:
        """Make the step one that has not run, and not begun to."""
        (self.path / MANIFEST).unlink(missing_ok=True)  # first: what it vouches for goes
        shutil.rmtree(self.path, ignore_errors=True)

    def finish(self, facts: Mapping[str, Any], seconds: float) -> None:
        """Rename the manifest into place; only now is the step done."""
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        manifest = {
            "step": self.name,
            "key": self.key,
            "seconds": round(seconds, 3),
            "facts": dict(facts),
            "files": sorted(p.name for p in self.path.iterdir() if not p.name.startswith(".")),
        }
        write_json(manifest, self.path / MANIFEST)


@dataclass(frozen=True)
class RunFolder:
    """A recipe's run folder: ``run.json``, ``report.html`` and a folder per step."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of this folder.

        Raises
        ------
        ConfigError
            One is at work in it, or its place is taken by a file.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(f"{self.path}: is a file, expected a run folder") from None
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"{self.path}: another run is at work in this folder", hint="wait, or use --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def step(self, name: str, key: str) -> StepFolder:
        """Return the folder of a step with these inputs."""
        return StepFolder(name, key, self.path / "steps" / f"{name}-{key[:12]}")

    def write_index(self, recipe: Mapping[str, Any], steps: Iterable[StepFolder]) -> None:
        """Write ``run.json``, which says which step folders are the current ones."""
        index = {
            "recipe": dict(recipe),
            "steps": {
                s.name: {"key": s.key, "folder": s.path.relative_to(self.path).as_posix()}
                for s in steps
            },
        }
        write_json(index, self.path / "run.json")

    @classmethod
    def read(cls, path: str | Path) -> tuple[Mapping[str, Any], dict[str, StepFolder]]:
        """Return the recipe and the current step folders of a run.

        Raises
        ------
        ConfigError
            The folder is not a run.
        """
        root = Path(path)
        index_file = root / "run.json"
        if not index_file.is_file():
            raise ConfigError(
                f"{root}: not a run folder (it has no run.json)",
                hint="llmlabel run RECIPE makes one",
            )
        index = read_json(index_file)
        folders = {
            name: StepFolder(name, entry["key"], root / entry["folder"])
            for name, entry in index["steps"].items()
        }
        return index["recipe"], folders
