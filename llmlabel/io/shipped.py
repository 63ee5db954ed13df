"""Where the prompts, recipes and configs that come with llmlabel lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llmlabel.errors import ConfigError

__all__ = ["shipped_folder"]

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder(kind: Literal["configs", "prompts", "recipes"]) -> Path:
    """Return the folder of the shipped prompts, recipes or configs.

    In an installed wheel it lies inside the package, in a checkout at the top.

    Raises
    ------
    ConfigError
        The installation lacks it.

    Examples
    --------
    >>> (shipped_folder("prompts") / "classify.md").is_file()
    True
    """
    candidates = (_PACKAGE / "_shipped" / kind, _PACKAGE.parent / kind)
    for folder in candidates:
        if folder.is_dir():
            return folder
    tried = " nor ".join(str(folder) for folder in candidates)
    raise ConfigError(
        f"the shipped {kind} are missing: there is neither {tried}", hint="install llmlabel again"
    )
