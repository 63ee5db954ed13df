"""Where each file of a batch run stands, on disk, so that a killed run knows what it has paid."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from llmlabel.errors import DataError
from llmlabel.io import atomic_write
from llmlabel.llm.batch_files import read_keys

__all__ = ["Part", "Status", "load_parts", "new_part"]

Status = Literal["written", "uploading", "uploaded", "creating", "created", "collected", "dropped"]

_VERSION: Final = 1
_SUFFIX: Final = ".part.json"


@dataclass(frozen=True)
class Part:
    """One file of requests, and how far it has come.

    ``uploading`` and ``creating`` are written before the call and ``uploaded``
    and ``created`` after it: who finds one of the former does not know whether
    the call came through, and has to look on the server for the tag.

    Parameters
    ----------
    folder
        Where its files lie.
    tag
        Its name, unlike any other's, on the server as well.
    provider
        Whose it is; `Client.provider`.
    status
        How far it has come.
    attempt
        How often its batch was turned away because too much was queued.
    since
        When the status was written, in seconds since 1970.
    file_id, batch_id
        The server's names for it.
    """

    folder: Path
    tag: str
    provider: str
    status: Status = "written"
    attempt: int = 0
    since: float = 0.0
    file_id: str = ""
    batch_id: str = ""

    @property
    def file(self) -> Path:
        """The requests, as JSON lines."""
        return self.folder / f"{self.tag}.jsonl"

    @property
    def upload_name(self) -> str:
        """The file's name on the server."""
        return f"llmlabel-{self.tag}.jsonl"

    @property
    def batch_tag(self) -> str:
        """What its batch carries as metadata."""
        return f"{self.tag}.{self.attempt}"

    def keys(self) -> list[str]:
        """Return the keys of its requests."""
        return read_keys(self.file)

    def moved(self, status: Status, *, file_id: str = "", batch_id: str = "") -> Part:
        """Return the part in its new state, after that state is on the disk."""
        part = replace(
            self,
            status=status,
            since=time.time(),
            file_id=file_id or self.file_id,
            batch_id=batch_id or self.batch_id,
        )
        part.save()
        return part

    def again(self) -> Part:
        """Return the part with its batch forgotten, to be created once more."""
        part = replace(self, attempt=self.attempt + 1, batch_id="")
        return part.moved("uploaded")

    def ended(self, status: Literal["collected", "dropped"]) -> None:
        """Note the end; the requests are not needed any more."""
        self.moved(status)
        self.file.unlink(missing_ok=True)

    def save(self) -> None:
        """Write the state, renamed into place."""
        data = {k: v for k, v in vars(self).items() if k != "folder"}
        with atomic_write(self.folder / f"{self.tag}{_SUFFIX}") as part:
            part.write_text(json.dumps({"version": _VERSION, **data}, indent=1), encoding="utf-8")


def new_part(folder: Path, provider: str, lines: Sequence[bytes]) -> Part:
    """Write a file of requests and its first state."""
    part = Part(folder, uuid.uuid4().hex, provider)
    with atomic_write(part.file) as file:
        file.write_bytes(b"".join(lines))
    return part.moved("written")


def load_parts(folder: Path, provider: str) -> list[Part]:
    """Return the parts of a provider that are under way, the oldest first.

    Raises
    ------
    DataError
        A state file that cannot be read.
    """
    for half in folder.glob(".*.part.*"):  # what a killed run was writing
        half.unlink()
    parts = [_read(path) for path in folder.glob(f"*{_SUFFIX}")]
    open_parts = [p for p in parts if p.status not in {"collected", "dropped"}]
    kept = {p.file for p in open_parts} | set(folder.glob("*.*.jsonl"))
    for file in set(folder.glob("*.jsonl")) - kept:
        file.unlink()  # of a part that ended, or that has no state yet, so that nobody has paid
    own = [p for p in open_parts if p.provider == provider]
    return sorted(own, key=lambda p: (p.since, p.tag))


def _read(path: Path) -> Part:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("version") > _VERSION:
            raise DataError("the state of a batch of a later llmlabel", file=path)
        return Part(folder=path.parent, **data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"expected the state of a batch: {error}", file=path) from error
