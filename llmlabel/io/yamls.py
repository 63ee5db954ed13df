"""YAML 1.2 with the line of every key, so that an error can say where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from llmlabel.errors import ConfigError

__all__ = ["Positions", "parse_yaml", "read_yaml"]


@dataclass(frozen=True)
class Positions:
    """Where each value of a YAML text stands."""

    root: Any
    first_line: int = 1

    def line(self, path: Sequence[str | int]) -> int:
        """Return the 1-based line of the deepest part of `path` that is there."""
        node, line = self.root, self.first_line
        for part in path:
            if isinstance(node, CommentedMap) and part in node:
                line = node.lc.key(part)[0] + self.first_line
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                line = node.lc.item(part)[0] + self.first_line
            else:
                break
            node = node[part]
        return line


def parse_yaml(text: str, *, file: str | Path, first_line: int = 1) -> tuple[Any, Positions]:
    """Parse YAML 1.2 (where ``yes`` and ``no`` are strings) into plain data.

    Parameters
    ----------
    text
        The YAML.
    file, first_line
        Where the text came from, for messages.

    Returns
    -------
    The data in plain dicts and lists, and the positions of its parts.

    Raises
    ------
    ConfigError
        With file and line, for a text that does not parse or repeats a key.
    """
    try:
        root = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line if mark else 0) + first_line
        problem = str(error.problem or error.context or "cannot be parsed").strip().split("\n")[0]
        raise ConfigError(f"{file}:{line}: not valid YAML: {problem}") from error
    except YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    return _plain(root), Positions(root, first_line)


def read_yaml(path: str | Path) -> tuple[Any, Positions]:
    """Read a YAML file; see `parse_yaml`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})") from error
    return parse_yaml(text, file=path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    for kind in (bool, int, float, str):  # ruamel's scalars carry style; take it off
        if isinstance(value, kind):
            return kind(value)
    return value
