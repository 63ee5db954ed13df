"""Training rows whose class is known: a file that a step names under ``gold:``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmlabel.errors import DataError
from llmlabel.recipe.calibrating import read_known
from llmlabel.recipe.steps.base import Context
from llmlabel.schema import ABSTAIN

__all__ = ["known_rows"]


def known_rows(context: Context, name: str | None) -> npt.NDArray[np.intp] | None:
    """Return the known class of each training row, -1 elsewhere; None without a file.

    Parameters
    ----------
    name
        The file as the recipe names it.

    Raises
    ------
    DataError
        No row of the file is a training row.
    """
    recipe = context.recipe
    if name is None:
        return None
    file = recipe.resolve(name)
    known = read_known(file, "label", recipe.task.names)
    ids = context.rows("train")["id"].to_pylist()
    found = np.array([known.get(i, ABSTAIN) for i in ids], np.intp)
    if (found == ABSTAIN).all():
        raise DataError("none of its ids is one of a training row", file=file, field="id")
    return found
