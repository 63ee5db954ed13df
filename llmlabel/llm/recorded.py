"""Recorded answers: an OpenAI Batch output file that answers again, and only what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llmlabel.errors import ClientError, DataError, RecordedAnswerError, nearest_name
from llmlabel.io import atomic_write, fingerprint_path
from llmlabel.llm.answers import check_answer
from llmlabel.llm.prompts import Prompt, messages_sha256, row_text
from llmlabel.llm.types import Request, Response, response_from_body
from llmlabel.schema import Task

__all__ = ["RecordedClient", "write_recorded"]


@dataclass(frozen=True)
class _Record:
    """One line of the file: the answer, or the error that came in its place."""

    line: int
    status: int | None
    body: Any
    error: str | None

    @property
    def provenance(self) -> Mapping[str, Any]:
        found = self.body.get("metadata") if isinstance(self.body, dict) else None
        return found if isinstance(found, dict) else {}


class RecordedClient:
    """Answers from a file, with neither network nor key.

    The file is an OpenAI Batch output: one object per line with ``custom_id``
    (the row's id) and ``response.body`` (a chat completion). ``body.metadata``
    says what was asked: ``prompt``, ``prompt_sha256`` (`Prompt.fingerprint`) and
    ``messages_sha256``. A request that differs is refused.

    Parameters
    ----------
    path
        The JSONL file; read whole.

    Raises
    ------
    DataError
        With file and line: no such file, a line that is no Batch output, an id
        that is answered twice.
    """

    answers_by_row = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._records = _read(self.path)
        # Other answers are another source, should anyone cache them.
        self.provider = f"recorded:{fingerprint_path(self.path)}"

    def __repr__(self) -> str:
        return f"RecordedClient({str(self.path)!r})"

    def __len__(self) -> int:
        return len(self._records)

    async def complete(self, request: Request) -> Response:
        """Return the recorded answer of the request's row.

        Raises
        ------
        RecordedAnswerError
            Fatal: there is none, or it answers another prompt or another text.
            Not fatal: the recording itself holds an error for this row.
        """
        record = self._records.get(request.custom_id)
        if record is None:
            raise RecordedAnswerError(
                f"no recorded answer for row {request.custom_id!r} in {self.path} "
                f"({len(self)} answers: {', '.join(list(self._records)[:3])}, ...)",
                fatal=True,
            )
        where = f"{self.path}:{record.line}"
        if record.error is not None:
            raise RecordedAnswerError(f"{where}: {record.error}", status=record.status)
        _check_provenance(request, record.provenance, where)
        try:
            return response_from_body(record.body)
        except ClientError as error:
            raise RecordedAnswerError(f"{where}: {error.message}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None


def _check_provenance(request: Request, recorded: Mapping[str, Any], where: str) -> None:
    prompt, messages = recorded.get("prompt_sha256"), recorded.get("messages_sha256")
    if not isinstance(prompt, str) or not isinstance(messages, str):
        raise RecordedAnswerError(
            f"{where}: cannot tell which prompt was answered; expected prompt_sha256 and "
            "messages_sha256 in response.body.metadata",
            fatal=True,
            hint="llmlabel.llm.write_recorded makes such files",
        )
    name = recorded.get("prompt")
    if prompt != request.prompt_fingerprint:
        what = (
            f"prompt {name!r} has changed since its answers were recorded"
            if name == request.prompt
            else f"prompt {request.prompt!r} is not the recorded one, {name!r}"
        )
        raise RecordedAnswerError(
            f"{what} (fingerprint {request.prompt_fingerprint[:12] or 'none'}... now, "
            f"{prompt[:12]}... recorded in {where})",
            fatal=True,
            hint="a changed prompt is another prompt: ask a model again, or take back the change "
            "(its text, the task's classes and descriptions, the answer's fields)",
        )
    now = messages_sha256(request.messages)
    if messages != now:
        raise RecordedAnswerError(
            f"the text of row {request.custom_id!r} is not the one that was recorded "
            f"(fingerprint {now[:12]}... now, {messages[:12]}... recorded in {where})",
            fatal=True,
        )


def _read(path: Path) -> dict[str, _Record]:
    out: dict[str, _Record] = {}
    for number, line in _lines(path):
        if not line.strip():
            continue
        custom_id, record = _record(line, number, path)
        if custom_id in out:
            raise DataError(
                f"is answered twice; first in line {out[custom_id].line}",
                file=path, line=number, row=custom_id,
            )  # fmt: skip
        out[custom_id] = record
    if not out:
        raise DataError("is empty; expected at least one recorded answer", file=path)
    return out


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        known = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest_name(path.name, known)
        guess = f", did you mean {str(path.parent / close)!r}?" if close else ""
        raise DataError(f"no such file of recorded answers{guess}", file=path)
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, 1):
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"not UTF-8 (byte 0x{raw[error.start]:02x})", file=path, line=number
                ) from None


def _record(line: str, number: int, path: Path) -> tuple[str, _Record]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as bad:
        raise DataError(f"not JSON: {bad}", file=path, line=number) from None
    custom_id = data.get("custom_id") if isinstance(data, dict) else None
    if not isinstance(custom_id, str) or not ("response" in data or "error" in data):
        raise DataError(
            "expected a line of OpenAI Batch output, an object with custom_id, response and error",
            file=path, line=number,
        )  # fmt: skip
    response, error = data.get("response"), data.get("error")
    if error is not None or response is None:
        return custom_id, _Record(number, None, None, f"recorded an error: {_words(error)}")
    try:
        status, body = int(response["status_code"]), response["body"]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            "expected response.status_code and response.body", file=path, line=number, row=custom_id
        ) from None
    said = None if status == 200 else f"recorded status {status}: {_words(body)}"
    return custom_id, _Record(number, status, body, said)


def _words(error: Any) -> str:
    inner = error.get("error", error) if isinstance(error, dict) else error
    if isinstance(inner, dict) and inner.get("message"):
        return str(inner["message"])
    return json.dumps(inner)[:200]


def write_recorded(
    path: str | Path,
    answers: Mapping[str, Mapping[str, Any]],
    prompt: Prompt,
    task: Task,
    rows: Iterable[Mapping[str, Any]],
    *,
    model: str,
    created: int,
    id_column: str = "id",
) -> int:
    """Write plain answers as a file that `RecordedClient` reads.

    The same arguments give the same bytes.

    Parameters
    ----------
    path
        The JSONL file to write.
    answers
        By row id: the fields of the prompt's answer. More fields are an error.
    prompt, task
        What the answers answer.
    rows
        The rows, with their ids and text columns; those without an answer are
        left out. Their order is the file's.
    model
        Who answered.
    created
        When, in seconds since 1970.
    id_column
        The column of row ids.

    Returns
    -------
    The number of answers written.

    Raises
    ------
    DataError
        An answer outside the schema, an answer without a row, a row that comes twice.
    """
    schema = prompt.schema(task)
    lines: dict[str, str] = {}
    for row in rows:
        row_id = str(row[id_column])
        if row_id in lines:
            raise DataError("comes twice", row=row_id)
        if row_id in answers:
            content = _content(answers[row_id], schema, row_id)
            request = prompt.request(task, row, row_text(task, row), row_id)
            lines[row_id] = _line(request, content, model, created)
    left = answers.keys() - lines.keys()
    if left:
        raise DataError(f"{len(left)} answers have no row", row=min(left))
    with atomic_write(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
    return len(lines)


def _content(answer: Mapping[str, Any], schema: Mapping[str, Any], row_id: str) -> str:
    checked = check_answer(answer, schema)
    if isinstance(checked, str):
        raise DataError(f"the answer is outside the schema: {checked}", row=row_id)
    if len(checked) != len(answer):
        more = ", ".join(sorted(answer.keys() - checked.keys()))
        raise DataError(f"the answer has fields outside the schema: {more}", row=row_id)
    return json.dumps(checked, ensure_ascii=False)


def _line(request: Request, content: str, model: str, created: int) -> str:
    message = {"role": "assistant", "content": content, "refusal": None}
    body = {
        "id": f"chatcmpl-{request.custom_id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "metadata": {
            "prompt": request.prompt,
            "prompt_sha256": request.prompt_fingerprint,
            "messages_sha256": messages_sha256(request.messages),
        },
    }
    response = {"status_code": 200, "request_id": f"req_{request.custom_id}", "body": body}
    line = {
        "id": f"batch_req_{request.custom_id}",
        "custom_id": request.custom_id,
        "response": response,
        "error": None,
    }
    return json.dumps(line, ensure_ascii=False)
