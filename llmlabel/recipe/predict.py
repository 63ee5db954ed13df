"""Label a file with a trained student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmlabel.distill import load_student
from llmlabel.errors import ConfigError
from llmlabel.io import check_rows, read_table
from llmlabel.llm import table_texts
from llmlabel.report import Results
from llmlabel.schema import Task

__all__ = ["predict_file"]


def predict_file(
    model: str | Path, file: str | Path, text: Sequence[str] | None = None
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

    Raises
    ------
    ConfigError
        The folder holds no student.
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
    added = {
        "label": names.take(pa.array(best)),
        "confidence": pa.array(found[np.arange(len(best)), best]),
        **{f"p.{name}": pa.array(found[:, k]) for k, name in enumerate(student.classes)},
    }
    for name, column in added.items():
        # What the file called `label` itself is kept, under a name that cannot be mistaken.
        if name in table.column_names:
            table = table.rename_columns({name: f"given.{name}"})
        table = table.append_column(name, column)
    return table


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
