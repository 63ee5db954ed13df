"""One shard's part of a result: its files, written first, and its manifest, renamed in last."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from llmlabel.errors import ConfigError
from llmlabel.io import fingerprint, fingerprint_path
from llmlabel.io.growing import GrowingParquet, growing_parquet
from llmlabel.io.runs import read_json, write_json

__all__ = ["Job", "Part", "PartResult", "ShardFunction", "add_facts", "make_part", "tidy"]

MANIFESTS: Final = "manifests"
_TABLE: Final = re.compile(r"[a-z][a-z0-9_]*")
_PART: Final = re.compile(r"\d{5,}-.+\.(parquet|json)")


@dataclass(frozen=True)
class PartResult:
    """What a function makes of one shard, or of a piece of it.

    Parameters
    ----------
    tables
        Tables by name (lower case letters, digits and ``_``).
    facts
        Counts and other plain data, JSON-able: what a report needs of the part.
    """

    tables: Mapping[str, pa.Table]
    facts: Mapping[str, Any] = field(default_factory=dict)


ShardFunction = Callable[[Any], PartResult | Iterable[PartResult]]
"""From a shard to its result; a generator's pieces are written as they come."""


@dataclass(frozen=True)
class Job:
    """A shard and where its part goes."""

    shard: Any
    name: str
    key: str
    out: Path

    @classmethod
    def of(cls, shard: Any, index: int, key: str, out: Path) -> Job:
        """Name a shard's part by its index and id, and key it by config and shard."""
        plain = _plain(shard)
        id_ = plain.get("id") if isinstance(shard, Mapping) else getattr(shard, "id", None)
        if not isinstance(id_, str) or not id_:
            raise ConfigError(f"shard {index} has no id: expected a text 'id', got {id_!r}")
        slug = re.sub(r"[^A-Za-z0-9._-]+", "_", id_)[-80:]
        return cls(shard, f"{index:05d}-{slug}", fingerprint(key, plain), out)

    @property
    def manifest(self) -> Path:
        """The file that says that the part is done."""
        return self.out / MANIFESTS / f"{self.name}.json"

    def file(self, table: str) -> Path:
        """The Parquet file of one of the part's tables."""
        return self.out / table / f"{self.name}.parquet"


@dataclass(frozen=True)
class Part:
    """A finished part.

    Parameters
    ----------
    name
        ``00003-web.parquet.8000-16000``: the shard's index and id.
    shard
        What it was made of.
    files
        A Parquet file per table.
    rows
        How many rows each has.
    facts
        What the function said of it.
    reused
        Whether an earlier run made it.
    """

    name: str
    shard: Any
    files: Mapping[str, Path]
    rows: Mapping[str, int]
    facts: Mapping[str, Any]
    reused: bool = False


def make_part(fn: ShardFunction, job: Job) -> None:
    """Run the function on a shard, write its tables, and the manifest last.

    A part that is there already is left alone, so that a task that a cluster runs a
    second time, because a node died before it could tell, does nothing.
    """
    if finished(job) is not None:
        return
    result = fn(job.shard)
    pieces = [result] if isinstance(result, PartResult) else result
    facts: list[Mapping[str, Any]] = []
    with ExitStack() as stack:
        files: dict[str, GrowingParquet] = {}
        for piece in pieces:
            if not isinstance(piece, PartResult):
                raise ConfigError(f"expected a PartResult, got {type(piece).__name__}")
            facts.append(piece.facts)
            for name, table in piece.tables.items():
                if name not in files:
                    _check_table(name)
                    files[name] = stack.enter_context(growing_parquet(job.file(name)))
                files[name].write(table)
    written = {
        name: {
            "rows": files[name].rows,
            "bytes": job.file(name).stat().st_size,
            "sha256": fingerprint_path(job.file(name)),
        }
        for name in sorted(files)
    }
    manifest = {"part": job.name, "key": job.key, "facts": add_facts(facts), "tables": written}
    write_json(manifest, job.manifest)


def finished(job: Job, *, reused: bool = False) -> Part | None:
    """Return the part where it is there, whole and of this key; None otherwise."""
    try:
        manifest = read_json(job.manifest)
    except (FileNotFoundError, ValueError):
        return None
    tables: Mapping[str, Any] = manifest.get("tables", {})
    if manifest.get("key") != job.key:
        return None
    for name, entry in tables.items():
        file = job.file(name)
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            return None
    return Part(
        job.name,
        job.shard,
        {name: job.file(name) for name in tables},
        {name: entry["rows"] for name, entry in tables.items()},
        manifest["facts"],
        reused,
    )


def tidy(out: Path, keep: Iterable[Part]) -> None:
    """Remove every part that is not one of `keep`, and what a killed run was writing."""
    wanted = {out / MANIFESTS / f"{part.name}.json" for part in keep}
    wanted |= {file for part in keep for file in part.files.values()}
    for folder in _folders(out):
        for path in folder.iterdir():
            half = path.name.startswith(".") and ".part." in path.name
            if half or (path not in wanted and _PART.fullmatch(path.name)):
                path.unlink()
        if folder.name != MANIFESTS and not any(folder.iterdir()):
            shutil.rmtree(folder)


def _folders(out: Path) -> Iterator[Path]:
    # Manifests first: a part without files must not be one that looks done.
    manifests = out / MANIFESTS
    if manifests.is_dir():
        yield manifests
        others = (p for p in sorted(out.iterdir()) if p.is_dir() and _TABLE.fullmatch(p.name))
        yield from (p for p in others if p != manifests)


def add_facts(facts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what parts say of themselves.

    Numbers are added, mappings merged in the same way, lists joined; texts, true and
    false must be equal.

    Raises
    ------
    ConfigError
        Two facts of one name are of different kinds, or texts that differ.

    Examples
    --------
    >>> add_facts([{"kept": 3, "why": {"short": 1}}, {"kept": 2, "why": {"short": 2, "long": 1}}])
    {'kept': 5, 'why': {'short': 3, 'long': 1}}
    """
    total: dict[str, Any] = {}
    for some in facts:
        for name, value in some.items():
            total[name] = _add(name, total[name], value) if name in total else value
    return total


def _add(name: str, one: Any, two: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return add_facts([one, two])
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return [*one, *two]
    numbers = [v for v in (one, two) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == 2:
        return one + two
    if type(one) is type(two) and one == two:
        return one
    raise ConfigError(f"the fact {name!r} cannot be added up: {one!r} and {two!r}")


def _plain(shard: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(shard) and not isinstance(shard, type):
        return dataclasses.asdict(shard)
    if isinstance(shard, Mapping):
        return dict(shard)
    raise ConfigError(
        f"expected a shard as a frozen dataclass or a mapping, got {type(shard).__name__}"
    )


def _check_table(name: str) -> None:
    if not _TABLE.fullmatch(name) or name == MANIFESTS:
        raise ConfigError(
            f"a part's table is named {name!r}; expected lower case letters, digits and _, "
            f"and not {MANIFESTS!r}"
        )
