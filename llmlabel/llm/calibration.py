"""From a model's raw confidence to a probability: two content-free and two fitted ways.

Every way is one value, a `Calibration`: ``q`` proportional to
``exp(slope * log p + bias)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from llmlabel.errors import ConfigError, DataError
from llmlabel.llm.prompts import Prompt
from llmlabel.llm.types import Request
from llmlabel.schema import Task

__all__ = [
    "CONTENT_FREE",
    "Calibration",
    "content_free_requests",
    "contextual_calibration",
    "fit_calibration",
    "fit_platt",
    "fit_temperature",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CONTENT_FREE: Final = ("N/A", "[MASK]", "")
"""Texts that say nothing, from Zhao et al. (2021)."""

_LEAST: Final = 1e-6
"""Below this a probability counts as this: a zero would be final."""
_PRIOR_SD: Final = 0.5
"""Of log T, of Platt's slope and of its bias, around leaving all as it is."""
_MOST_LOG_T: Final = 5.0
_FOLDS: Final = 5


@dataclass(frozen=True)
class Calibration:
    """A map of distributions over k classes: ``softmax(slope * log p + bias)``.

    Parameters
    ----------
    method
        ``none``, ``temperature``, ``platt`` or ``contextual``.
    slope
        ``1 / T`` of temperature scaling: under 1 makes less sure, 0 says nothing.
    bias
        One number per class; None: zeros.
    n_rows
        Rows it was fitted on.
    nll_before, nll_after
        Mean negative log-likelihood (nats) on those rows; None where not fitted.

    Examples
    --------
    >>> Calibration("temperature", slope=0.5).apply([[0.1, 0.9]]).round(2)
    array([[0.25, 0.75]])
    """

    method: str = "none"
    slope: float = 1.0
    bias: tuple[float, ...] | None = None
    n_rows: int = 0
    nll_before: float | None = None
    nll_after: float | None = None

    @property
    def temperature(self) -> float:
        """``1 / slope``."""
        return 1 / self.slope if self.slope > 0 else float("inf")

    def apply(self, P: npt.ArrayLike) -> FloatArray:
        """Return calibrated distributions.

        Parameters
        ----------
        P
            Shape (n, k) or (k,), rows of sum 1.

        Returns
        -------
        array of float, of the same shape

        Raises
        ------
        DataError
            `P` holds no distributions, or has another number of classes.
        """
        given = np.asarray(P, dtype=np.float64)
        log_p = _log(given[None] if given.ndim == 1 else given)
        k = log_p.shape[1]
        if self.bias is not None and len(self.bias) != k:
            raise DataError(f"the calibration is for {len(self.bias)} classes, got {k}")
        if self.method == "none":
            return given
        scores = self.slope * log_p + (0.0 if self.bias is None else np.array(self.bias))
        return np.asarray(np.exp(log_softmax(scores, axis=1))).reshape(given.shape)


def content_free_requests(
    prompt: Prompt,
    task: Task,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    texts: Sequence[str] = CONTENT_FREE,
) -> list[Request]:
    """Return the requests that ask the prompt about texts that say nothing.

    Parameters
    ----------
    prompt, task, model, params
        See `Prompt.request`. A template that reads more columns than
        the task's text columns cannot be asked so.
    texts
        The texts.

    Raises
    ------
    ConfigError
        The template needs another column.
    """
    out = []
    for i, text in enumerate(texts):
        row = dict.fromkeys(task.text, text)
        out.append(prompt.request(task, row, text, f"content-free-{i}", model, params))
    return out


def contextual_calibration(P_content_free: npt.ArrayLike) -> Calibration:
    """Take out what a prompt favours by itself: contextual calibration.

    Parameters
    ----------
    P_content_free
        The distributions answered to texts that say nothing, shape (r, k);
        their mean is the prior ``p_cf``.

    Returns
    -------
    Calibration
        ``q`` proportional to ``W p`` with ``W = diag(p_cf)^-1``.

    Notes
    -----
    Zhao et al. (2021), Calibrate Before Use, section 4. They apply a softmax to
    ``W p``, of which only the argmax is used; here ``W p`` is divided by its
    sum, so that a uniform ``p_cf`` changes nothing.

    Examples
    --------
    >>> lean = contextual_calibration([[0.2, 0.8], [0.2, 0.8]])
    >>> lean.apply([0.2, 0.8])
    array([0.5, 0.5])
    """
    log_p = _log(np.asarray(P_content_free, dtype=np.float64))
    prior = np.exp(log_p).mean(axis=0)
    return Calibration("contextual", 1.0, tuple(float(b) for b in -np.log(prior)), len(log_p))


def fit_temperature(P: npt.ArrayLike, gold: npt.ArrayLike) -> Calibration:
    """Fit one temperature by the likelihood of a few gold rows, drawn towards 1.

    Maximises the posterior under ``log T ~ N(0, 0.5^2)``: with no row T is 1, a
    handful of rows moves it a little, a hundred rows decide it themselves.

    Parameters
    ----------
    P
        Raw distributions, shape (n, k). Stated confidences too, from
        `verbalized_probabilities`: T then scales their log-odds.
    gold
        Classes, shape (n,); rows with -1 are left out.

    Notes
    -----
    Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2. The prior is ours.

    Examples
    --------
    >>> sure = [[0.01, 0.99]] * 40
    >>> bool(fit_temperature(sure, [1] * 30 + [0] * 10).temperature > 2)
    True
    """
    log_p, y = _gold_rows(P, gold)

    def loss(log_t: float) -> float:
        penalty = (log_t / _PRIOR_SD) ** 2 / 2
        return len(y) * _nll(np.exp(-log_t) * log_p, y) + penalty

    # Not convex in log T where few rows are right: look everywhere, then closely.
    grid = np.linspace(-_MOST_LOG_T, _MOST_LOG_T, 101)
    near = float(grid[int(np.argmin([loss(t) for t in grid]))])
    found = minimize_scalar(loss, bounds=(near - 0.1, near + 0.1), method="bounded")
    return _fitted("temperature", float(np.exp(-found.x)), None, log_p, y)


def fit_platt(P: npt.ArrayLike, gold: npt.ArrayLike) -> Calibration:
    """Fit slope and bias of a binary task's log-odds, drawn towards leaving all as it is.

    Parameters
    ----------
    P
        Raw distributions, shape (n, 2).
    gold
        Classes, shape (n,); rows with -1 are left out.

    Raises
    ------
    ConfigError
        More than two classes.

    Notes
    -----
    Platt (1999), with a Gaussian prior ``slope ~ N(1, 0.5^2)``,
    ``bias ~ N(0, 0.5^2)`` in place of his smoothed targets, and ``slope >= 0``:
    a model that is sure never becomes evidence for the other class.

    Examples
    --------
    >>> says = [[0.2, 0.8]] * 60 + [[0.8, 0.2]] * 60
    >>> fit_platt(says, [1] * 40 + [0] * 80).bias[1] < 0
    True
    """
    log_p, y = _gold_rows(P, gold)
    if log_p.shape[1] != 2:
        raise ConfigError(f"Platt scaling is for two classes, got {log_p.shape[1]}")
    odds = log_p[:, 1] - log_p[:, 0]
    sign = 2.0 * y - 1.0

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (x[0] * odds + x[1])
        pull = -sign * np.exp(-np.logaddexp(0.0, margin))
        off = (x - np.array([1.0, 0.0])) / _PRIOR_SD**2
        value = np.logaddexp(0.0, -margin).sum() + (off**2).sum() * _PRIOR_SD**2 / 2
        return float(value), np.array([(pull * odds).sum(), pull.sum()]) + off

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(0, None), (None, None)])
    slope, bias = (float(v) for v in found.x)
    return _fitted("platt", slope, (0.0, bias), log_p, y)


def fit_calibration(P: npt.ArrayLike, gold: npt.ArrayLike, *, seed: int = 0) -> Calibration:
    """Choose between none, temperature and (two classes) Platt by cross-validation.

    The simplest whose held-out negative log-likelihood is within one standard
    error of the best one's, by paired differences: where gold rows are few,
    nothing is changed without need.

    Parameters
    ----------
    P
        Raw distributions, shape (n, k).
    gold
        Classes, shape (n,); rows with -1 are left out.
    seed
        Of the 5 folds.

    Examples
    --------
    >>> fit_calibration([[0.3, 0.7]] * 3, [1, 1, 0]).method
    'none'
    """
    log_p, y = _gold_rows(P, gold)
    fits = [fit_temperature, *([fit_platt] if log_p.shape[1] == 2 else [])]
    folds = np.random.default_rng(seed).permutation(len(y)) % _FOLDS
    if len(y) < 2 * _FOLDS:
        return _fitted("none", 1.0, None, log_p, y)
    losses = [_row_nll(log_p, y)]
    for fit in fits:
        held_out = np.empty(len(y))
        for fold in range(_FOLDS):
            out = folds == fold
            made = fit(np.exp(log_p[~out]), y[~out])
            held_out[out] = _row_nll(_log(made.apply(np.exp(log_p[out]))), y[out])
        losses.append(held_out)
    best = losses[int(np.argmin([each.mean() for each in losses]))]
    for i, each in enumerate(losses):
        worse = each - best
        if worse.mean() <= worse.std(ddof=1) / np.sqrt(len(y)):
            return _fitted("none", 1.0, None, log_p, y) if i == 0 else fits[i - 1](P, gold)
    raise AssertionError("the best is within its own error")


def _fitted(
    method: str, slope: float, bias: tuple[float, ...] | None, log_p: FloatArray, y: IntArray
) -> Calibration:
    if not len(y):
        return Calibration(method, slope, bias)
    after = slope * log_p + (0.0 if bias is None else np.array(bias))
    return Calibration(method, slope, bias, len(y), _nll(log_p, y), _nll(after, y))


def _gold_rows(P: npt.ArrayLike, gold: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    log_p = _log(np.asarray(P, dtype=np.float64))
    y = np.asarray(gold)
    if y.shape != log_p.shape[:1] or (y.size and not np.issubdtype(y.dtype, np.integer)):
        raise DataError(f"gold: expected {len(log_p)} integers, got {y.dtype} of shape {y.shape}")
    if y.size and not (y.min() >= -1 and y.max() < log_p.shape[1]):
        raise DataError(f"gold: expected -1 to {log_p.shape[1] - 1}, got {y.min()} to {y.max()}")
    known = y >= 0
    return log_p[known], y[known].astype(np.int64)


def _log(P: FloatArray) -> FloatArray:
    if P.ndim != 2 or P.shape[1] < 2:
        raise DataError(f"expected distributions of shape (n, k >= 2), got {P.shape}")
    wrong = ~((P >= 0).all(axis=1) & np.isclose(P.sum(axis=1), 1.0, atol=1e-6))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(f"expected a distribution of sum 1, got {P[at]}", row=at)
    return np.asarray(np.log(np.maximum(P, _LEAST)))


def _nll(scores: FloatArray, y: IntArray) -> float:
    return float(_row_nll(scores, y).mean()) if len(y) else 0.0


def _row_nll(scores: FloatArray, y: IntArray) -> FloatArray:
    return np.asarray(-log_softmax(scores, axis=1)[np.arange(len(y)), y])
