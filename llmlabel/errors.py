"""Every error that llmlabel raises on purpose.

::

    LLMLabelError                 one clear line, an optional hint; exit code 1
    ├── ConfigError               a recipe, prompt, task or argument is wrong
    │   └── UnknownNameError      a name nobody knows, with the nearest right one
    ├── DataError                 a file, row or value is wrong
    ├── LabelingFunctionError     a labeling function crashed or voted nonsense
    ├── ClientError               a model endpoint refused or failed
    │   └── RecordedAnswerError   no recorded answer belongs to this request
    ├── BudgetExceeded            the next call would pass the cap
    ├── ShardError                some shards of a corpus failed, the others are done
    └── MissingExtraError         an optional package is not installed

The command line prints these without a traceback. Anything else that escapes is
a bug of ours and is shown whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "BudgetExceeded",
    "ClientError",
    "ConfigError",
    "DataError",
    "LLMLabelError",
    "LabelingFunctionError",
    "MissingExtraError",
    "RecordedAnswerError",
    "ShardError",
    "UnknownNameError",
    "did_you_mean",
    "nearest_name",
    "no_such_file",
]


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be, or None.

    Examples
    --------
    >>> nearest_name("keywrod", ["keyword", "regex"])
    'keyword'
    >>> nearest_name("zzz", ["keyword", "regex"]) is None
    True
    """
    options = list(known)
    folded = {option.casefold(): option for option in reversed(options)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'NAME'?"``, or nothing where no known name is near.

    Examples
    --------
    >>> "unknown key" + did_you_mean("wrods", ["words", "name"])
    "unknown key, did you mean 'words'?"
    """
    close = nearest_name(name, known)
    return f", did you mean {close!r}?" if close else ""


def no_such_file(path: Path) -> str:
    """Return ``no such file``, with the nearest one of its folder where there is one."""
    if not path.parent.is_dir():
        return "no such file"
    near = nearest_name(path.name, sorted(p.name for p in path.parent.iterdir()))
    return "no such file" + (f", did you mean {str(path.parent / near)!r}?" if near else "")


class LLMLabelError(Exception):
    """The base of every intentional error.

    Parameters
    ----------
    message
        One line: what is wrong, where, and what was expected.
    hint
        What to do about it, printed on a line of its own.
    """

    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(LLMLabelError):
    """A recipe, a prompt file, a task or an argument is wrong."""


class UnknownNameError(ConfigError):
    """A name that nothing answers to; says the nearest name that something does.

    Examples
    --------
    >>> print(UnknownNameError("class", "SPAN", ["HAM", "SPAM"]))
    unknown class 'SPAN', did you mean 'SPAM'? (known: HAM, SPAM)
    """

    def __init__(self, what: str, name: str, known: Iterable[str], *, where: str = "") -> None:
        options = list(known)
        guess = did_you_mean(name, options)
        shown = ", ".join(options[:12]) + (", ..." if len(options) > 12 else "")
        prefix = f"{where}: " if where else ""
        super().__init__(f"{prefix}unknown {what} {name!r}{guess} (known: {shown or 'none'})")
        self.name = name
        self.known = tuple(options)


class DataError(LLMLabelError):
    """A file, a row or a value is wrong.

    Parameters
    ----------
    message
        What is wrong and what was expected.
    file, line, row, field
        Where: the file, its 1-based line, the row's id, the column. Those that
        are given are put in front of the message.
    hint
        What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        row: object | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        place = str(file) if file is not None else ""
        if line is not None:
            place = f"{place}:{line}" if place else f"line {line}"
        parts = [place] if place else []
        if row is not None:
            parts.append(f"row {row!r}")
        if field is not None:
            parts.append(f"column {field!r}")
        where = ", ".join(parts)
        super().__init__(f"{where}: {message}" if where else message, hint=hint)


class LabelingFunctionError(LLMLabelError):
    """A labeling function crashed, or returned something that is no vote."""


class ClientError(LLMLabelError):
    """A model endpoint refused or failed.

    Parameters
    ----------
    message
        The server's own words where there are some.
    retryable
        Whether the same call may succeed later (429, 5xx, a broken connection).
    status
        HTTP status, where there is one.
    fatal
        Whether no other row can succeed either (a bad key, an unknown model).
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        status: int | None = None,
        fatal: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.status = status
        self.fatal = fatal


class RecordedAnswerError(ClientError):
    """No recorded answer belongs to this request: never guessed, never replaced."""


class BudgetExceeded(LLMLabelError):  # noqa: N818 - the name the design gives it
    """The next call would pass the budget; everything paid for so far is kept."""


class ShardError(LLMLabelError):
    """Some shards of a corpus could not be worked on; the others are done and stay so.

    Parameters
    ----------
    failed
        The names of the failed shards, in order.
    """

    def __init__(self, message: str, failed: Iterable[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.failed = tuple(failed)


class MissingExtraError(LLMLabelError):
    """An optional package is needed and is not installed.

    Examples
    --------
    >>> print(MissingExtraError("sentence-transformers", "local").hint)
    pip install 'llmlabel[local]'
    """

    def __init__(self, package: str, extra: str, *, need: str = "this") -> None:
        super().__init__(
            f"{need} needs the package {package!r}, which is not installed",
            hint=f"pip install 'llmlabel[{extra}]'",
        )
        self.package = package
        self.extra = extra
