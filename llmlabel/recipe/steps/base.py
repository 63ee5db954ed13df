"""What a step is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmlabel.errors import ConfigError
from llmlabel.io import fingerprint_path, read_table
from llmlabel.io.runs import StepFolder
from llmlabel.llm import table_texts
from llmlabel.recipe.config import SPLITS
from llmlabel.recipe.load import Recipe

__all__ = ["Context", "Observer", "StepKind", "file_prints"]


class Observer:
    """Who is told how a run goes: the terminal, a log, a page. This one says nothing."""

    def started(self, step: str) -> None:
        """A step begins to work."""

    def progressed(self, step: str, done: int, total: int) -> None:
        """Some of a step's units are done."""

    def finished(
        self, step: str, facts: Mapping[str, Any], seconds: float, *, reused: bool
    ) -> None:
        """A step is done, or was done before."""


@dataclass(frozen=True)
class Context:
    """What a step may use while it runs.

    Parameters
    ----------
    recipe
        The whole recipe.
    config
        The step's own part of it.
    folder
        Where it writes.
    inputs
        The folders of the steps before it, by name.
    observer
        Who is told of progress.
    """

    recipe: Recipe
    config: Any
    folder: StepFolder
    inputs: Mapping[str, StepFolder]
    observer: Observer

    def progress(self, done: int, total: int) -> None:
        """Tell the observer how far this step is."""
        self.observer.progressed(self.folder.name, done, total)

    def progress_from(self, before: int, total: int) -> Callable[[int, int], None]:
        """Return a progress function for a part that begins after `before` units."""
        return lambda done, _: self.progress(before + done, total)

    def input(self, name: str) -> Path:
        """Return an earlier step's folder."""
        if name not in self.inputs:
            raise ConfigError(f"the step {self.folder.name!r} needs a step {name!r} before it")
        return self.inputs[name].path

    @property
    def run_folder(self) -> Path:
        """The folder of the whole run."""
        return self.folder.path.parents[1]

    def folder_of(self, name: str) -> Path:
        """Return an earlier step's folder, or where it would be if there were one."""
        return self.inputs[name].path if name in self.inputs else self.folder.path / name

    def asked(self) -> dict[str, Path]:
        """Return the folders of the ``ask`` steps by prompt name."""
        return {
            n.removeprefix("ask-"): s.path for n, s in self.inputs.items() if n.startswith("ask-")
        }

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(s for s in SPLITS if (self.input("load") / f"rows.{s}.parquet").is_file())

    def rows(self, split: str) -> pa.Table:
        """Return a split's rows: id, texts and all columns but gold."""
        return read_table(self.input("load") / f"rows.{split}.parquet")

    def texts(self, split: str) -> list[str]:
        """Return a split's texts, several text columns joined by a blank line."""
        return table_texts(self.rows(split), self.recipe.task.text)


@dataclass(frozen=True)
class StepKind:
    """A kind of step.

    Parameters
    ----------
    version
        Raised when the code changes what the step makes, so that old results
        are not taken for new ones.
    run
        Does the work and returns facts for the manifest.
    uses
        From the step's config and the names of all steps before it to those
        whose results it reads.
    external
        From config and recipe to the fingerprints of whatever else it reads.
    resumes
        Whether it goes on from what a killed run has left in its folder.
    check
        Says what is wrong with the step's config, before anything runs.
    about
        The key of the config that `check` is about, for the line of its errors.
    """

    version: int
    run: Callable[[Context], Mapping[str, Any]]
    uses: Callable[[Any, Sequence[str]], Sequence[str]] = lambda _, before: before
    external: Callable[[Any, Recipe], Mapping[str, Any]] = lambda _, __: {}
    resumes: bool = False
    check: Callable[[Any, Recipe], object] = lambda _, __: None
    about: tuple[str, ...] = ()


def file_prints(recipe: Recipe, *paths: str) -> dict[str, str]:
    """Return the content fingerprint of each file that the recipe names."""
    return {path: fingerprint_path(recipe.resolve(path)) for path in paths}
