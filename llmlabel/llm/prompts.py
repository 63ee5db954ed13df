"""Prompts: files that say what to ask about a row and what an answer looks like."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llmlabel.errors import ConfigError, UnknownNameError, nearest_name
from llmlabel.io import fingerprint
from llmlabel.io.shipped import shipped_folder
from llmlabel.llm.answers import AnswerField, answer_schema, check_answer
from llmlabel.llm.examples import Example
from llmlabel.llm.frontmatter import read_front_matter
from llmlabel.llm.templates import Section, check_sections, reads, render_section, split_roles
from llmlabel.llm.types import Message, Request
from llmlabel.schema import Task

__all__ = ["Prompt", "load_prompt", "messages_sha256", "parse_prompt", "row_text", "table_texts"]


@dataclass(frozen=True)
class Prompt:
    """A prompt: one message template per role and the fields of the answer.

    Made by `load_prompt` or `parse_prompt`.

    Parameters
    ----------
    name, version, description
        From the front matter.
    answer
        The fields of an answer.
    sections
        The message templates.
    model, temperature, max_tokens
        Hints of the front matter, used where a request names nothing else.
    file
        Where it was read from, for messages; no part of its identity.
    """

    name: str
    version: str
    answer: tuple[AnswerField, ...]
    sections: tuple[Section, ...]
    description: str = ""
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    file: str = field(default="", compare=False)

    def render(
        self,
        task: Task,
        row: Mapping[str, Any],
        text: str,
        examples: Sequence[Example] = (),
    ) -> list[Message]:
        """Return the chat that asks about one row.

        Parameters
        ----------
        task
            What is labeled; templates read ``task.classes`` and ``task.description``.
        row
            The row's columns.
        text
            The row's text, see `row_text`.
        examples
            Answered rows to show, see `select_examples`. A template that reads
            ``examples`` (each with ``text``, ``answer``, ``json`` and ``row``)
            shows them itself. Else each becomes two messages before the last
            one of the user: the example asked about alike, and its answer.

        Raises
        ------
        ConfigError
            With file, line and row, where a template cannot be rendered; an
            example's answer is outside the schema.
        """
        self._check_examples(task, examples)
        values = {"task": task, "row": row, "text": text, "examples": examples}
        messages: list[Message] = [
            {"role": s.role, "content": render_section(s, self.file, values)} for s in self.sections
        ]
        if examples and not any(reads(s.source, "examples") for s in self.sections):
            at = max((i for i, s in enumerate(self.sections) if s.role == "user"), default=None)
            if at is None:
                raise ConfigError(f"{self.file}: examples need a user message to stand before")
            messages[at:at] = self._turns(task, examples, self.sections[at])
        return messages

    def _turns(
        self, task: Task, examples: Sequence[Example], section: Section
    ) -> Iterator[Message]:
        for e in examples:
            values = {"task": task, "row": e.row, "text": e.text, "examples": ()}
            yield {"role": "user", "content": render_section(section, self.file, values)}
            yield {"role": "assistant", "content": e.json}

    def _check_examples(self, task: Task, examples: Sequence[Example]) -> None:
        for e in examples:
            checked = check_answer(e.answer, _constant(self, task)[0])
            if isinstance(checked, str):
                raise ConfigError(f"{self.file}: the example {e.text[:40]!r}: {checked}")

    def schema(self, task: Task) -> dict[str, Any]:
        """Return the JSON Schema of an answer: all fields required, no others."""
        return answer_schema(self.answer, task)

    def fingerprint(self, task: Task) -> str:
        """Return the sha256 of all that is the same for every row.

        That is the templates, the task and the answer's schema; not the name,
        version, description and hints.
        """
        return _constant(self, task)[1]

    def request(
        self,
        task: Task,
        row: Mapping[str, Any],
        text: str,
        custom_id: str,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        examples: Sequence[Example] = (),
    ) -> Request:
        """Return the request that asks about one row.

        Parameters
        ----------
        task, row, text, examples
            See `render`.
        custom_id
            The row's id.
        model
            By default the prompt's hint; empty where there is none: the client's own.
        params
            Sampling parameters, over the prompt's hints. None takes a hint away.
        """
        schema, mark = _constant(self, task)
        hints = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return Request(
            custom_id=custom_id,
            model=model or self.model or "",
            messages=self.render(task, row, text, examples),
            params={**hints, **(params or {})},
            schema=schema,
            prompt=self.name,
            prompt_fingerprint=mark,
        )


@functools.lru_cache(maxsize=64)
def _constant(prompt: Prompt, task: Task) -> tuple[dict[str, Any], str]:
    """Schema and fingerprint, which are asked for again for every row."""
    schema = prompt.schema(task)
    sources = [(s.role, s.source) for s in prompt.sections]
    return schema, fingerprint(sources, task.as_dict(), schema)


def parse_prompt(text: str, *, file: str | Path = "<prompt>") -> Prompt:
    """Read a prompt from a text: front matter between ``---`` lines, then the body.

    Parameters
    ----------
    text
        The whole. In the front matter ``name``, ``version`` and ``answer`` must
        stand; ``description``, ``model``, ``temperature`` and ``max_tokens``
        may. ``answer`` maps each field to a JSON Schema property with ``type``
        or ``enum``; in an ``enum``, ``$classes`` stands for the task's classes.
        The body is a Jinja2 template over ``task``, ``row``, ``text`` and
        ``examples``; lines
        ``system:``, ``user:`` and ``assistant:`` alone open a message.
    file
        For messages.

    Raises
    ------
    ConfigError
        With file and line.

    Examples
    --------
    >>> prompt = parse_prompt('''---
    ... name: spam
    ... version: 1
    ... answer:
    ...   label: {enum: [$classes, UNSURE]}
    ... ---
    ... system:
    ... Classes: {% for c in task.classes %}{{ c.name }} {% endfor %}
    ... user:
    ... {{ text }}
    ... ''')
    >>> prompt.render(Task("spam", ["HAM", "SPAM"]), {}, "hi")[1]
    {'role': 'user', 'content': 'hi'}
    """
    name = str(file)
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        raise ConfigError(f"{name}:1: expected '---' and a front matter, got {lines[0][:40]!r}")
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise ConfigError(f"{name}:1: the front matter has no closing '---'")
    head = read_front_matter("\n".join(lines[1:end]), file=name, first_line=2)
    sections = split_roles("\n".join(lines[end + 1 :]), file=name, first_line=end + 2)
    check_sections(sections, name)
    return Prompt(**vars(head), sections=sections, file=name)


def load_prompt(name_or_path: str | Path) -> Prompt:
    """Read a prompt file, or one of the shipped prompts by its name.

    Parameters
    ----------
    name_or_path
        A path (anything with a suffix or a slash), or a shipped name.

    Raises
    ------
    ConfigError
        No such file or name (with the nearest one), or a file that is wrong,
        with its line.

    Examples
    --------
    >>> load_prompt("classify").name
    'classify'
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and not path.suffix and len(path.parts) == 1:
        folder = shipped_folder("prompts")
        names = sorted(p.stem for p in folder.glob("*.md"))
        if name_or_path not in names:
            raise UnknownNameError("prompt", name_or_path, names)
        path = folder / f"{name_or_path}.md"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        known = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest_name(path.name, known)
        guess = f", did you mean {str(path.parent / close)!r}?" if close else ""
        raise ConfigError(f"{path}: no such prompt file{guess}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, expected a prompt file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})") from None
    return parse_prompt(text, file=path)


def row_text(task: Task, row: Mapping[str, Any]) -> str:
    r"""Return a row's text: its text columns, joined by a blank line.

    Examples
    --------
    >>> task = Task("t", ["A", "B"], text=["subject", "body"])
    >>> row_text(task, {"subject": "Hi", "body": "there"})
    'Hi\n\nthere'
    """
    return "\n\n".join(str(row[c]) for c in task.text if row.get(c))


def table_texts(table: pa.Table, columns: Sequence[str]) -> list[str]:
    r"""Return every row's text: `row_text`, for a whole table.

    Examples
    --------
    >>> table = pa.table({"subject": ["Hi", None], "body": ["there", "only this"]})
    >>> table_texts(table, ["subject", "body"])
    ['Hi\n\nthere', 'only this']
    """
    first, *rest = (pc.fill_null(table[c].cast(pa.string()), "") for c in columns)
    for part in rest:
        # Spelled out: joining with null_handling="skip" loses rows where all are null.
        both = pc.and_(pc.not_equal(first, ""), pc.not_equal(part, ""))
        first = pc.binary_join_element_wise(first, pc.if_else(both, "\n\n", ""), part, "")
    texts: list[str] = first.to_pylist()
    return texts


def messages_sha256(messages: Sequence[Message]) -> str:
    """Return the sha256 of a rendered chat, as recordings keep it."""
    return fingerprint(list(messages))
