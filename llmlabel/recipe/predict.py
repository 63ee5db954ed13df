"""Label a file with a trained student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmlabel.distill import load_student
from llmlabel.distill.selective import selective_cut
from llmlabel.errors import ConfigError
from llmlabel.io import check_rows, read_table
from llmlabel.llm import table_texts
from llmlabel.report import Results
from llmlabel.schema import Task

__all__ = ["predict_file"]


def predict_file(
    model: str | Path,
    file: str | Path,
    text: Sequence[str] | None = None,
    *,
    target_accuracy: float | None = None,
) -> pa.Table:
    """Return a file's rows with the student's label, its confidence and all probabilities.

    Parameters
    ----------
    model
        A student's folder, or a run folder that has one.
    file
        The rows.
    text
        Their text columns; by default those the student was trained on.
    target_accuracy
        Answer only where the student is sure enough to be right this often, by the run's
        held-back rows (`selective_cut`). Other rows get no label; ``answered`` says which.

    Raises
    ------
    ConfigError
        The folder holds no student; a target, and no rows were held back.
    DataError
        The file lacks the text, or a row of it is empty.
    """
    student = load_student(_student_folder(Path(model)))
    task = Task(**student.meta["task"]) if "task" in student.meta else None
    columns = tuple(text) if text else (task.text if task else ("text",))
    table = read_table(file, text_columns=columns)
    check_rows(table, text=columns, id_column=None, file=file)
    found = student.predict_proba(table_texts(table, columns))
    best = found.argmax(axis=1)
    names = pa.array(student.classes, pa.string())
    sure = found[np.arange(len(best)), best]
    chosen = np.ones(len(best), np.bool_)
    if target_accuracy is not None:
        chosen = sure >= _threshold(Path(model), target_accuracy)
    added = {
        "label": names.take(pa.array(best, mask=~chosen)),
        "confidence": pa.array(sure),
        **({"answered": pa.array(chosen)} if target_accuracy is not None else {}),
        **{f"p.{name}": pa.array(found[:, k]) for k, name in enumerate(student.classes)},
    }
    for name, column in added.items():
        # What the file called `label` itself is kept, under a name that cannot be mistaken.
        if name in table.column_names:
            table = table.rename_columns({name: f"given.{name}"})
        table = table.append_column(name, column)
    return table


def _threshold(run: Path, target: float) -> float:
    kept = Results.read(run).selective() if (run / "run.json").is_file() else None
    if kept is None:
        raise ConfigError(
            f"{run}: a target accuracy needs a run with a student and held-back rows",
            hint="name the run folder; in its recipe, data: valid and the step evaluate",
        )
    return selective_cut(kept["sureness"], kept["right"], target).threshold


def _student_folder(model: Path) -> Path:
    if (model / "run.json").is_file():
        student = Results.read(model).student
        if student is None:
            raise ConfigError(
                f"{model}: this run has trained no student (no step 'distill' is done)"
            )
        return student
    if not model.is_dir():
        raise ConfigError(f"{model}: no such student or run folder")
    return model
