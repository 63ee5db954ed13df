"""``llmlabel cache``: look after the answers that were paid for."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import typer

from llmlabel.cli.terminal import table
from llmlabel.errors import ConfigError
from llmlabel.io import cache_dir
from llmlabel.llm.cache_tools import (
    cache_stats,
    export_cache,
    import_batch,
    import_cache,
    prune_cache,
)

__all__ = ["export_command", "import_command", "prune_command", "stats_command"]


def _file() -> Path:
    return cache_dir() / "answers.sqlite"


def stats_command(*, as_json: bool) -> None:
    """Show what the cache holds."""
    if not _file().is_file():
        typer.echo(
            json.dumps({"path": str(_file()), "answers": 0}) if as_json else "no answers yet"
        )
        return
    found = cache_stats(_file())
    if as_json:
        typer.echo(json.dumps({**asdict(found), "path": str(found.path)}, default=str))
        return
    rows = [
        [
            m.model,
            f"{m.answers:,}",
            f"{m.prompt_tokens:,}",
            f"{m.completion_tokens:,}",
            _day(m.oldest),
            _day(m.newest),
        ]
        for m in found.models
    ]
    columns = ["model", "answers", "tokens in", "tokens out", "oldest", "newest"]
    table(f"{found.path}, {found.bytes / 1e6:.1f} MB", columns, rows, left=["model"])


def export_command(target: Path, model: str | None) -> None:
    """Write the answers out."""
    typer.echo(f"{export_cache(_file(), target, model=model)} answers: {target}")


def import_command(source: Path, requests: Path | None, provider: str) -> None:
    """Take answers in."""
    if requests is None:
        report = import_cache(_file(), source)
    else:
        report = import_batch(_file(), requests, source, provider=provider)
    typer.echo(f"{report.added} answers added, {report.known} known, {report.failed} failed")


def prune_command(older_than: float | None, model: str | None) -> None:
    """Forget answers."""
    if older_than is None and model is None:
        raise ConfigError("say what to forget: --older-than DAYS, --model NAME, or both")
    typer.echo(f"{prune_cache(_file(), older_than_days=older_than, model=model)} answers forgotten")


def _day(stored: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(stored))
