"""What a person sees: progress while a run works, tables of what came out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from llmlabel.recipe.steps.base import Observer

__all__ = [
    "RunDisplay",
    "console",
    "counting",
    "percent",
    "run_display",
    "table",
    "warnings_as_lines",
]

# Without a terminal there is no edge to wrap at.
console = Console(stderr=True, width=None if sys.stderr.isatty() else 200)
"""Messages go to stderr, so that stdout holds results alone."""

_PARTS: Final = 5
_COUNTS: Final = 8

out = Console(width=None if sys.stdout.isatty() else 200)


class RunDisplay(Observer):
    """Tell a person how a run goes; without a terminal, one line per step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, Any] = {}

    def started(self, step: str) -> None:
        """Show a bar for the step."""
        if console.is_terminal:
            self._bars[step] = self._progress.add_task(step, total=None)

    def progressed(self, step: str, done: int, total: int) -> None:
        """Move the bar."""
        if step in self._bars:
            self._progress.update(self._bars[step], completed=done, total=total)

    def finished(
        self, step: str, facts: Mapping[str, Any], seconds: float, *, reused: bool
    ) -> None:
        """Replace the bar by one line that says what was done."""
        if step in self._bars:
            self._progress.remove_task(self._bars.pop(step))
        mark, took = (
            ("[dim]=[/dim]", "kept") if reused else ("[green]✓[/green]", f"{seconds:.1f} s")
        )
        self._progress.console.print(
            f"{mark} {step:<22} {took:>8}  [dim]{escape(describe(facts))}[/dim]", highlight=False
        )


def _progress() -> Progress:
    columns = (
        TextColumn("  {task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


@contextmanager
def run_display() -> Iterator[RunDisplay]:
    """Show progress bars while a run works."""
    with _progress() as progress:
        yield RunDisplay(progress)


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar, or a count where the total is not known; nothing without a terminal."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with _progress() as progress:
        bar = progress.add_task(what, total=total)
        yield lambda done: progress.update(bar, completed=done)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show warnings as one line each, without file and source."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print("[yellow]warning:[/yellow]", escape(str(message)), highlight=False)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def describe(facts: Mapping[str, Any]) -> str:
    """Put a step's facts in one short line.

    Examples
    --------
    >>> describe({"read": 12345, "set_aside": {"not UTF-8": 1, "not JSON": 2}, "recorded": True})
    'read 12,345; set aside: not UTF-8 1, not JSON 2; recorded'
    """
    parts = []
    for name, value in facts.items():
        said = name.replace("_", " ")
        if isinstance(value, Mapping):
            counts = [
                f"{k} {_shown(v)}" for k, v in value.items() if not isinstance(v, (dict, list))
            ]
            more = ", ..." if len(counts) > _COUNTS else ""
            if counts:
                parts.append(f"{said}: {', '.join(counts[:_COUNTS])}{more}")
        elif isinstance(value, bool):
            parts.append(said if value else f"not {said}")
        elif value is not None and not isinstance(value, (list, tuple)) and len(str(value)) < 60:
            parts.append(f"{said} {_shown(value)}")
    return "; ".join(parts[:_PARTS])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share as a percentage, or a dash where there is none."""
    return "-" if value is None or value != value else f"{100 * value:.{digits}f}"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()
) -> None:
    """Print a table on stdout; columns in `left` are set flush left."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in columns:
        # A name must stay whole; the narrow columns can wrap their headings.
        flush = name in left
        made.add_column(name, justify="left" if flush else "right", no_wrap=flush, overflow="fold")
    for row in rows:
        made.add_row(*row)
    out.print(made)
