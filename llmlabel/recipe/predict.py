"""Label rows with a trained student, in chunks, and hand on those it is not sure of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.distill import EncoderStudent, LinearStudent, Student, load_student
from llmlabel.distill.network import fastest
from llmlabel.embed import SentenceEncoder
from llmlabel.errors import ConfigError
from llmlabel.io import add_columns, check_rows, count_rows, read_chunks
from llmlabel.llm import table_texts
from llmlabel.recipe.deferring import Teacher, teacher_of
from llmlabel.recipe.steps.selecting import best_cut
from llmlabel.report import Results
from llmlabel.schema import ABSTAIN, Task

__all__ = ["Backend", "DeferTo", "Predictor", "load_predictor", "predict_file", "student_folder"]

Backend = Literal["auto", "torch", "openvino"]
DeferTo = Literal["abstain", "llm"]

_PROBES: Final = ("The parcel came on Monday.", "Straße, naïve, 你好", "PLEASE cancel it!! " * 20)
_MANY: Final = 10_000  # rows from which a second spent on compiling comes back


@dataclass(frozen=True)
class Predictor:
    """A student that labels tables; `load_predictor` makes one.

    Parameters
    ----------
    student
    columns
        Text columns.
    threshold
        Least confidence of an answer; None answers everything.
    teacher
        Who is asked about the rest; None leaves it without a label.
    backend
        What computes, for the user to be told.
    of
        By whose word the threshold holds: ``"gold"``, ``"LLM"``, ``"label model"``.
    """

    student: Student
    columns: tuple[str, ...]
    threshold: float | None
    teacher: Teacher | None
    backend: str
    of: str = ""

    def label(self, table: pa.Table, *, file: str | Path | None = None, first: int = 0) -> pa.Table:
        """Return a table's rows with the student's label, its confidence and all probabilities.

        Parameters
        ----------
        table
            Rows.
        file, first
            Where they came from, and the number of the first, for messages.

        Raises
        ------
        DataError
            The rows lack the text, or one of it is empty.
        """
        checked = check_rows(table, text=self.columns, id_column=None, file=file, first=first)
        found = self.student.predict_proba(table_texts(table, self.columns))
        best = found.argmax(axis=1)
        sure = found[np.arange(len(best)), best]
        chosen = np.ones(len(best), np.bool_)
        if self.threshold is not None:
            chosen = sure >= self.threshold
        names = pa.array(self.student.classes, pa.string())
        added: dict[str, pa.Array] = {}
        if self.teacher is not None:
            best, chosen, by = self._handed_on(checked, best, chosen)
            added["answered_by"] = by
        added = {
            "label": names.take(pa.array(best, mask=~chosen)),
            "confidence": pa.array(sure),
            **({"answered": pa.array(chosen)} if self.threshold is not None else {}),
            **added,
            **{f"p.{name}": pa.array(found[:, k]) for k, name in enumerate(self.student.classes)},
        }
        return add_columns(table, added)

    def _handed_on(
        self, rows: pa.Table, best: npt.NDArray[np.intp], chosen: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_], pa.Array]:
        """Ask the teacher about the rows that are not chosen; returns who answered which."""
        assert self.teacher is not None
        by: npt.NDArray[np.object_] = np.full(len(best), None, object)
        by[chosen] = "student"
        left = np.flatnonzero(~chosen)
        if left.size:
            said = self.teacher.classes(rows.take(pa.array(left)))
            best, chosen = best.copy(), chosen.copy()
            told = said != ABSTAIN
            best[left[told]], chosen[left[told]] = said[told], True
            by[left[told]] = "llm"
        return best, chosen, pa.array(by.tolist(), pa.string())


def load_predictor(
    model: str | Path,
    *,
    text: Sequence[str] | None = None,
    target_accuracy: float | None = None,
    defer_to: DeferTo = "abstain",
    backend: Backend = "auto",
    rows: int | None = None,
) -> Predictor:
    """Load a student.

    Parameters
    ----------
    model
        A student's folder, or a run folder that has one.
    text
        Text columns; by default those the student was trained on.
    target_accuracy
        Answer only where the student is sure enough to be right this often, by the run's
        held-back rows (`selective_cut`). Other rows get no label; ``answered`` says which.
    defer_to
        ``"llm"`` asks the run's LLM about those; ``answered_by`` says which.
    backend
        What runs the encoder. ``"auto"`` takes OpenVINO where it is installed and there are
        many rows, else torch; each is checked against the reference when it is loaded.
    rows
        How many rows are to come, where that is known.

    Raises
    ------
    ConfigError
        The folder holds no student; a target, and no rows were held back.
    """
    threshold, of = None, ""
    if target_accuracy is not None:
        threshold, of = _threshold(Path(model), target_accuracy)
    if defer_to == "llm" and target_accuracy is None:
        raise ConfigError("deferring needs a target accuracy: without one the student answers all")
    if backend == "auto":
        many = rows is not None and rows >= _MANY
        backend = "openvino" if many and find_spec("openvino") is not None else "torch"
    student = load_student(student_folder(Path(model)))
    student, used = _on(student, backend)
    task = Task(**student.meta["task"]) if "task" in student.meta else None
    columns = tuple(text) if text else (task.text if task else ("text",))
    return Predictor(
        student=student,
        columns=columns,
        threshold=threshold,
        teacher=teacher_of(Path(model), columns) if defer_to == "llm" else None,
        backend=used,
        of=of,
    )


def predict_file(
    model: str | Path,
    file: str | Path,
    text: Sequence[str] | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
    predictor: Predictor | None = None,
    **options: Any,
) -> Iterator[pa.Table]:
    """Yield a file's rows with the student's labels, a few thousand at a time.

    Parameters
    ----------
    model, text
        As for `load_predictor`, as are more options.
    file
        The rows; ``"-"`` reads JSONL from standard input.
    on_progress
        Told how many rows are done.
    predictor
        One that is loaded already.

    Raises
    ------
    DataError
        The file lacks the text, or a row of it is empty.
    """
    if predictor is None:
        predictor = load_predictor(model, text=text, rows=count_rows(file), **options)
    for chunk in read_chunks(file, text_columns=predictor.columns):
        yield predictor.label(chunk.table, file=file, first=chunk.first)
        if on_progress is not None:
            on_progress(chunk.first + chunk.table.num_rows)


def _on(student: Student, backend: str) -> tuple[Student, str]:
    """Return the student on a backend, and what computes it."""
    encoder = getattr(student, "encoder", None)
    if isinstance(student, LinearStudent):
        if not isinstance(encoder, SentenceEncoder):
            return student, "numpy"
        if backend == "openvino":
            fast = SentenceEncoder(encoder.name, backend="openvino")
            return replace(student, encoder=fast), "openvino"
        return student, "torch"
    if isinstance(student, EncoderStudent):
        network = fastest(student.network, [*_PROBES, *student.classes])
        precision = "bfloat16" if network.halved else "float32"
        return replace(student, network=network), f"torch in {precision}"
    return student, "torch"


def _threshold(run: Path, target: float) -> tuple[float, str]:
    """Return the least confidence of an answer, and by whose word it holds."""
    kept = Results.read(run).selective() if (run / "run.json").is_file() else None
    if kept is None:
        raise ConfigError(
            f"{run}: a target accuracy needs a run with a student and held-back rows",
            hint="name the run folder; in its recipe, data: valid and the step evaluate",
        )
    cut, of = best_cut(kept["held"], target)
    return cut.threshold, of


def student_folder(model: Path) -> Path:
    """Return the folder of a student: that of a run, or the given one.

    Raises
    ------
    ConfigError
        There is none.
    """
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
