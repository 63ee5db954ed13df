"""Plain Python labeling functions in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any, Final

from llmlabel.errors import ConfigError, LabelingFunctionError, LLMLabelError
from llmlabel.lf.core import LF, Batch, batch_length, with_features
from llmlabel.lf.texts import Texts

__all__ = ["vote_in_processes"]

_PARTS: Final = 4  # per process: the last ones to finish wait for less
_shared: tuple[Sequence[LF], Batch] = ((), {})

Said = list[tuple[Any, Any]]


def vote_in_processes(
    lfs: Sequence[LF], columns: Batch, batch_size: int, processes: int
) -> Iterator[tuple[int, int, Said]]:
    """Yield rows start to stop and what each LF said of them, in the order of the rows.

    The processes are forked: functions and data need not be pickled. Their votes are.

    Raises
    ------
    ConfigError
        The system cannot fork.
    LabelingFunctionError
        As the LFs themselves.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError("processes: needs a system that can fork; use 1 here")
    global _shared
    for column in columns.values():
        if isinstance(column, Texts):
            column.values  # noqa: B018 - made once here and not in every child
    n = batch_length(columns)
    size = max(1, min(batch_size, -(-n // (processes * _PARTS))))
    ranges = [(start, min(start + size, n)) for start in range(0, n, size)]
    _shared = (lfs, columns)
    try:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            for (start, stop), said in zip(ranges, pool.imap(_vote, ranges), strict=True):
                if isinstance(said, str):
                    raise LabelingFunctionError(said)
                yield start, stop, said
    finally:
        _shared = ((), {})


def _vote(rows: tuple[int, int]) -> Said | str:
    lfs, columns = _shared
    batch: Batch = {name: values[slice(*rows)] for name, values in columns.items()}
    try:
        full = with_features(batch, [f for lf in lfs for f in lf.features])
        return [lf(full) for lf in lfs]
    except LLMLabelError as error:
        return error.message  # the error itself may hold what cannot be pickled
