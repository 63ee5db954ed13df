"""Fit one label model on many vote matrices: run by path, in the environment of its project.

    python worker.py MODEL IN.npz OUT.npz LIMIT_SECONDS

IN holds ``fit_I``, ``score_I`` (int votes, shape (n, m)), ``k_I`` and ``seed`` per set I; or a
path ``fit_I`` to a .npy file, scored on the same rows, whose answer is not kept. OUT gets
``proba_I``, ``seconds_I`` (fit and predict), ``failed_I`` (why there is no answer) and
``peak_mb``. Nothing of llmlabel is imported unless MODEL begins with ``ours:``.
"""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Votes = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


def ours(name: str, votes: Votes, scored: Votes, k: int, seed: int) -> Floats:  # noqa: ARG001
    """Fit a model of llmlabel by its registry name; none of them draws anything."""
    from llmlabel import registry
    from llmlabel.votes import VoteMatrix

    names, classes = [f"lf{j}" for j in range(votes.shape[1])], [f"c{y}" for y in range(k)]
    votes.setflags(write=False)  # so that it is not copied
    L = VoteMatrix(votes, names, classes)
    model = registry.load(name, "label_models")().fit(L)
    scoring = L if scored is votes else VoteMatrix(scored, names, classes)
    return np.asarray(model.predict_proba(scoring))


def snorkel(epochs: str, votes: Votes, scored: Votes, k: int, seed: int) -> Floats:
    """Fit Snorkel's LabelModel for a number of epochs."""
    model = import_module("snorkel.labeling.model").LabelModel(cardinality=k, verbose=False)
    model.fit(votes, n_epochs=int(epochs), seed=seed, progress_bar=False)
    return np.asarray(model.predict_proba(scored))


def flyingsquid(method: str, votes: Votes, scored: Votes, k: int, seed: int) -> Floats:
    """Fit FlyingSquid; more than two classes one against the rest, normalised."""
    random.seed(seed)
    columns = []
    for c in [1] if k == 2 else range(k):
        train, test = (np.where(v < 0, 0, np.where(v == c, 1, -1)) for v in (votes, scored))
        columns.append(_squid(method, train, test))
    if k == 2:
        return np.stack([1 - columns[0], columns[0]], axis=1)
    found = np.stack(columns, axis=1) + 1e-9
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _squid(method: str, train: Votes, test: Votes) -> Floats:
    model = import_module("flyingsquid.label_model").LabelModel(train.shape[1])
    model.fit(train, solve_method=method)
    # Rows with equal votes are scored once: its predict loops over rows.
    distinct, inverse = np.unique(test, axis=0, return_inverse=True)
    found = model.predict_proba(distinct)
    return np.asarray(np.asarray(found)[:, 1][inverse.reshape(-1)])


def crowdkit(name: str, votes: Votes, scored: Votes, k: int, seed: int) -> Floats:  # noqa: ARG001
    """Aggregate the rows of both: crowd-kit's models give labels to the rows of fit alone."""
    models = import_module("crowdkit.aggregation.classification")
    both = votes if scored is votes else np.concatenate([votes, scored])
    worker, task = np.nonzero(both.T >= 0)
    label = both[task, worker]
    order = np.lexsort((task, label, worker))
    columns = {"task": task[order], "worker": worker[order], "label": label[order]}
    table = import_module("pandas").DataFrame(columns)
    found = getattr(models, name)().fit_predict_proba(table)
    proba = np.full((len(both), k), 1 / k)
    part = np.zeros((len(found), k))
    part[:, found.columns.to_numpy(int)] = np.nan_to_num(found.to_numpy(float))
    proba[found.index.to_numpy(int)] = part
    return proba[len(both) - len(scored) :]


Fit = Callable[[str, Votes, Votes, int, int], Floats]
PROJECTS: Mapping[str, Fit] = {
    "ours": ours,
    "snorkel": snorkel,
    "flyingsquid": flyingsquid,
    "crowdkit": crowdkit,
}


def main(model: str, source: str, target: str, limit: str) -> None:
    """Fit on every set of a file until the time is up, and write what came out."""
    project, _, variant = model.partition(":")
    given = np.load(source)
    out: dict[str, Any] = {}
    began = time.perf_counter()
    warm_up(project, variant)
    for i in sorted(int(key[4:]) for key in given.files if key.startswith("fit_")):
        if time.perf_counter() - began > float(limit):
            out[f"failed_{i}"] = "time limit"
            continue
        on_disk = given[f"fit_{i}"].ndim == 0
        votes = np.load(str(given[f"fit_{i}"])) if on_disk else given[f"fit_{i}"]
        scored = given[f"score_{i}"] if f"score_{i}" in given.files else votes
        k, seed = int(given[f"k_{i}"]), int(given["seed"])
        start = time.perf_counter()
        try:
            proba = np.asarray(PROJECTS[project](variant, votes, scored, k, seed))
        except Exception as error:
            out[f"failed_{i}"] = f"{type(error).__name__}: {error}"[:200]
            continue
        out[f"seconds_{i}"] = time.perf_counter() - start
        if not on_disk:
            out |= _answer(i, proba)
    out["peak_mb"] = peak_mb()
    np.savez(target, **out)


def peak_mb() -> float:
    """Return the most memory this process had; getrusage also knows its parent's, before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _answer(i: int, proba: Floats) -> dict[str, Any]:
    if not np.isfinite(proba).all():
        return {f"failed_{i}": "probabilities that are not finite"}
    proba = np.clip(proba, 0, None)
    return {f"proba_{i}": (proba / proba.sum(axis=1, keepdims=True)).astype(np.float32)}


def warm_up(project: str, variant: str) -> None:
    """Import and fit once on next to nothing, so that no set pays for it."""
    votes = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 1]] * 3)
    try:
        PROJECTS[project](variant, votes, votes, 2, 0)
    except Exception as error:
        print(f"{project}:{variant}: {error}", file=sys.stderr)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
