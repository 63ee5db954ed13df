"""Give the table of labeling functions to whoever a training reports to."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Final

__all__ = ["NAME", "report_notes"]

NAME: Final = "labeling_functions"


def report_notes(markdown: str, arguments: Any) -> None:
    """Hand Markdown to the trackers of ``report_to``, which the Trainer has started by now.

    Parameters
    ----------
    markdown
        What they keep.
    arguments
        The Trainer's ``TrainingArguments``.
    """
    trackers = arguments.report_to
    if "tensorboard" in trackers:
        folder = os.environ.get("TENSORBOARD_LOGGING_DIR") or os.path.join(  # noqa: PTH118
            arguments.output_dir, "runs"
        )
        writer = import_module("torch.utils.tensorboard").SummaryWriter(log_dir=folder)
        writer.add_text(NAME, markdown)
        writer.close()
    if "mlflow" in trackers:
        mlflow: Any = import_module("mlflow")
        if mlflow.active_run() is not None:
            mlflow.log_text(markdown, f"{NAME}.md")
    if "wandb" in trackers:
        wandb: Any = import_module("wandb")
        if wandb.run is not None:
            wandb.run.log({NAME: wandb.Html(f"<pre>{markdown}</pre>")})
