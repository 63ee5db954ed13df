"""Export the student of a run, with its model card, and push it to the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmlabel.distill import load_student
from llmlabel.distill.export import Exported, default_format, export_student
from llmlabel.errors import ConfigError
from llmlabel.io import atomic_write
from llmlabel.llm import table_texts
from llmlabel.recipe.predict import student_folder
from llmlabel.report import Results
from llmlabel.report.card import model_card
from llmlabel.schema import Task

__all__ = ["ExportedFolder", "export_run", "push_to_hub"]

_COMPARED = 64  # texts


@dataclass(frozen=True)
class ExportedFolder:
    """Where an export lies, and what it is."""

    folder: Path
    exported: Exported


def export_run(model: str | Path, folder: str | Path, form: str | None = None) -> ExportedFolder:
    """Write the student of a run, or of a student's folder, as `export_student` does.

    Parameters
    ----------
    model
        A run folder, or a student's.
    folder
        A new or empty folder.
    form
        sklearn, transformers or onnx; by default what is nearest to the student.

    Raises
    ------
    ConfigError
        As `export_student`.
    """
    model, folder = Path(model), Path(folder)
    student = load_student(student_folder(model))
    results = Results.read(model) if (model / "run.json").is_file() else None
    exported = export_student(
        student, folder, form or default_format(student), _texts(results, student.classes)
    )
    name = results.recipe["name"] if results is not None else folder.resolve().name
    with atomic_write(folder / "README.md") as part:
        part.write_text(model_card(name, student.describe(), exported, results), encoding="utf-8")
    return ExportedFolder(folder, exported)


def push_to_hub(folder: str | Path, repository: str, *, private: bool = True) -> str:
    """Upload a folder to the model hub and return the address.

    The token is huggingface_hub's own: the variable ``HF_TOKEN``, or a login.

    Raises
    ------
    ConfigError
        The hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=str(folder), repo_id=url.repo_id, commit_message="llmlabel export"
        )
    except (OSError, ValueError) as error:
        reason = next(line for line in (*str(error).splitlines(), repr(error)) if line.strip())
        raise ConfigError(
            f"cannot push {folder} to {repository!r}: {reason.strip()}",
            hint="a token with write access belongs into the variable HF_TOKEN",
        ) from error
    return str(url)


def _texts(results: Results | None, classes: tuple[str, ...]) -> list[str]:
    """Real texts to compare on; without a run, the classes' names."""
    if results is None:
        return [name.replace("_", " ").lower() for name in classes]
    task = Task(**results.recipe["task"])
    return table_texts(results.rows("train").slice(0, _COMPARED), task.text)
