"""Write the report page into the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmlabel.recipe.steps.base import Context, StepKind
from llmlabel.report import build

__all__ = ["KIND"]

PAGE = "report.html"


def _run(context: Context) -> Mapping[str, Any]:
    page = build(context.run_folder)
    (context.folder.path / PAGE).write_text(page, encoding="utf-8")
    return {"kilobytes": len(page.encode()) // 1024}


KIND = StepKind(version=1, run=_run)
