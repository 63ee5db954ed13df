"""A prompt's text: roles split first, then each part rendered by Jinja2 in its sandbox.

Role markers are found in the source, never in what was rendered, and values are
inserted, never rendered again. So a row's text is only ever text: a line
``system:`` in it opens no role and ``{{ ... }}`` in it computes nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from llmlabel.errors import ConfigError, UnknownNameError, did_you_mean

__all__ = ["VARIABLES", "Section", "check_sections", "reads", "render_section", "split_roles"]

VARIABLES: Final = ("task", "row", "text", "examples")
"""What a template can use."""

_MARKER: Final = re.compile(r"(system|user|assistant):[ \t]*")


@dataclass(frozen=True)
class Section:
    """One message's template: its role, its source, and the line on which that starts."""

    role: str
    source: str
    line: int


def split_roles(body: str, *, file: str, first_line: int) -> tuple[Section, ...]:
    r"""Split a prompt's body at the lines that hold a role marker and nothing else.

    Without a marker the whole is one user message.

    Raises
    ------
    ConfigError
        Text above the first marker, or a message without text.

    Examples
    --------
    >>> split_roles("system:\nBe brief.\nuser:\n{{ text }}", file="p.md", first_line=1)[1]
    Section(role='user', source='{{ text }}', line=4)
    """
    starts: list[tuple[str, int]] = []
    lines = body.split("\n")
    for number, line in enumerate(lines):
        if found := _MARKER.fullmatch(line):
            starts.append((found[1], number))
    if not starts:
        return (_section("user", lines, 0, file, first_line),)
    above = next((i for i, line in enumerate(lines[: starts[0][1]]) if line.strip()), None)
    if above is not None:
        raise ConfigError(
            f"{file}:{first_line + above}: text above the first role marker "
            f"{starts[0][0] + ':'!r} belongs to no message"
        )
    ends = [number for _, number in starts[1:]] + [len(lines)]
    return tuple(
        _section(role, lines[:end], number + 1, file, first_line)
        for (role, number), end in zip(starts, ends, strict=True)
    )


def _section(role: str, lines: list[str], start: int, file: str, first_line: int) -> Section:
    while start < len(lines) and not lines[start].strip():
        start += 1
    source = "\n".join(lines[start:]).rstrip()
    if not source:
        raise ConfigError(f"{file}:{first_line + start - 1}: the {role} message has no text")
    return Section(role, source, first_line + start)


def check_sections(sections: Iterable[Section], file: str) -> None:
    """Parse every section and check the variables it uses.

    Raises
    ------
    ConfigError
        With file and line: a syntax error, an include or import, an unknown
        variable (with the nearest right one), or no use of the row at all.
    """
    used: set[str] = set()
    for section in sections:
        try:
            tree = _environment().parse(section.source)
            _template(section.source, file)
        except TemplateSyntaxError as error:
            line = section.line + error.lineno - 1
            raise ConfigError(f"{file}:{line}: template: {error.message}") from None
        for loader in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            line = section.line + loader.lineno - 1
            raise ConfigError(f"{file}:{line}: a prompt cannot include or import other files")
        names = meta.find_undeclared_variables(tree)
        for node in tree.find_all(nodes.Name):
            if node.name in names and node.name not in (*VARIABLES, *_environment().globals):
                where = f"{file}:{section.line + node.lineno - 1}"
                raise UnknownNameError("variable", node.name, VARIABLES, where=where)
        used |= names
    if not used & {"row", "text"}:
        raise ConfigError(
            f"{file}: the prompt uses neither {{{{ text }}}} nor {{{{ row }}}}, "
            "so every row would be asked the same"
        )


@functools.lru_cache(maxsize=256)
def reads(source: str, variable: str) -> bool:
    """Return whether a template uses a variable.

    Examples
    --------
    >>> reads("{{ text }}", "text"), reads("{{ text }}", "examples")
    (True, False)
    """
    return variable in meta.find_undeclared_variables(_environment().parse(source))


def render_section(section: Section, file: str, values: Mapping[str, Any]) -> str:
    """Return a section's text.

    Raises
    ------
    ConfigError
        With file, line and row: a column or attribute that is not there (with
        the nearest one that is), or an expression that fails on this row.
    """
    shape = _shape(section.source)
    if isinstance(shape, tuple):
        return str(values["text"]).join(shape)
    if shape == "of the task":
        return _render_once(section, file, values["task"])
    return _render(section, file, values)


@functools.lru_cache(maxsize=256)
def _shape(source: str) -> tuple[str, ...] | str:
    """Return what a template needs of a row, since running one takes 10 µs each time.

    The parts between ``{{ text }}`` where it holds nothing else; ``of the task``
    where it is the same for every row; ``of the row`` otherwise.
    """
    tree = _environment().parse(source)
    if meta.find_undeclared_variables(tree) <= {"task"} and not _draws(tree):
        return "of the task"
    parts = [""]
    for statement in tree.body:
        for node in statement.nodes if isinstance(statement, nodes.Output) else [statement]:
            if isinstance(node, nodes.TemplateData):
                parts[-1] += node.data
            elif isinstance(node, nodes.Name) and node.name == "text":
                parts.append("")
            else:
                return "of the row"
    return tuple(parts)


def _draws(tree: nodes.Template) -> bool:
    return any(node.name == "random" for node in tree.find_all(nodes.Filter))


@functools.lru_cache(maxsize=256)
def _render_once(section: Section, file: str, task: object) -> str:
    return _render(section, file, {"task": task, "row": {}})


def _render(section: Section, file: str, values: Mapping[str, Any]) -> str:
    row = values["row"]
    template = _template(section.source, file)
    try:
        return template.render({**values, "row": _Row(row)})
    except Exception as error:  # any filter or operator of the template may raise anything
        line = section.line + _template_line(error, file) - 1
        where = f"{file}:{line}" + (f", row {row['id']!r}" if "id" in row else "")
        what = str(error)
        if not isinstance(error, UndefinedError | SecurityError):
            what = f"{type(error).__name__}: {what}"
        raise ConfigError(f"{where}: template: {what}") from error


class _Row:
    """A row's columns by name, and nothing else: a column may be called ``items``."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)


class _Undefined(StrictUndefined):
    """Says what is missing, and the nearest that is not."""

    @property
    def _undefined_message(self) -> str:
        owner, name = self._undefined_obj, str(self._undefined_name)
        if self._undefined_hint or owner is missing:
            return self._undefined_hint or f"unknown variable {name!r}"
        if isinstance(owner, _Row | Mapping):
            what, known = (
                ("row has no column" if isinstance(owner, _Row) else "no key"),
                list(owner),
            )
        else:
            what = f"{type(owner).__name__} has no attribute"
            known = [a for a in dir(owner) if not a.startswith("_")]
        guess = did_you_mean(name, known)
        shown = f" (columns: {', '.join(known)})" if isinstance(owner, _Row) else ""
        return f"{what} {name!r}{guess}{shown}"


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    # No autoescape: the text goes to a model, not into HTML.
    return ImmutableSandboxedEnvironment(
        undefined=_Undefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )


@functools.lru_cache(maxsize=256)
def _template(source: str, file: str) -> Template:
    # Kept here and not in the prompt, which stays a value that can be sent to a process.
    environment = _environment()
    code = environment.compile(source, name=file, filename=file)
    return Template.from_code(environment, code, environment.make_globals(None))


def _template_line(error: BaseException, file: str) -> int:
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
