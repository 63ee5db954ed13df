"""How sure a model is of one field of its answer: probabilities over the field's values.

Three sources, the better first: the log-probabilities of the answer's own tokens,
a confidence that the model states, the votes of several samples. Each is raw;
`llmlabel.llm.calibration` makes it honest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from llmlabel.errors import ConfigError, DataError, UnknownNameError
from llmlabel.llm.answers import InvalidAnswer, parse_answer
from llmlabel.llm.logprobs import class_masses, steps_of_value
from llmlabel.llm.types import Response

__all__ = [
    "Method",
    "class_probabilities",
    "logprob_probabilities",
    "verbalized_probabilities",
    "vote_probabilities",
]

Method = Literal["auto", "logprobs", "verbalized", "votes"]
FloatArray = npt.NDArray[np.float64]

_MOST_STATED: Final = 0.995
"""A stated 1.00 is at least this, read with two decimals; certainty has no odds."""


def class_probabilities(
    responses: Response | Sequence[Response],
    field: str | None,
    classes: Sequence[str],
    *,
    schema: Mapping[str, Any] | None = None,
    confidence: str | None = None,
    method: Method = "auto",
    pseudo_votes: float = 1.0,
) -> FloatArray:
    """Return how probable each class is by one answer, or by several to the same question.

    Parameters
    ----------
    responses
        One answer, or samples of it (`Request.sample`).
    field
        The field of the JSON answer that names the class; None: the whole text does.
    classes
        The k values to tell apart, at least two. A value left out (``UNSURE``)
        is left out of the distribution too.
    schema
        `Prompt.schema`; needed to read a stated confidence or votes.
    confidence
        The field with the stated confidence, for ``"verbalized"``.
    method
        ``"auto"``: logprobs where every answer has them (averaged over
        samples), else votes of several, else the stated confidence where
        `confidence` names a field, else the one vote.
    pseudo_votes
        See `vote_probabilities`.

    Returns
    -------
    array of float, shape (k,), sum 1

    Raises
    ------
    ConfigError
        Too few or repeated classes, a method whose input is not there.
    DataError
        An answer that cannot be read by the chosen method.

    Notes
    -----
    The sources are on different scales: fit a calibration to each apart.

    Examples
    --------
    >>> said = Response('{"label": "SPAM", "confidence": 0.8}', "m")
    >>> number = {"type": "number"}
    >>> schema = {"properties": {"label": {"enum": ["HAM", "SPAM"]}, "confidence": number}}
    >>> class_probabilities(said, "label", ["HAM", "SPAM"], schema=schema, confidence="confidence")
    array([0.2, 0.8])
    """
    names = _checked_classes(classes)
    group = [responses] if isinstance(responses, Response) else list(responses)
    if not group:
        raise ConfigError("class_probabilities: expected at least one response")
    chosen = _method(method, group, confidence)
    if chosen == "logprobs":
        return _mean([logprob_probabilities(r, field, names) for r in group])
    answers = [_answer(r, field, schema) for r in group]
    votes = np.array([_index(a, field, names) for a in answers])
    if chosen == "votes":
        return _mean(vote_probabilities(votes[None], len(names), pseudo_votes=pseudo_votes))
    if confidence is None:
        raise ConfigError("method 'verbalized': name the field with the stated confidence")
    stated = [_stated(a, confidence) for a in answers]
    return _mean(verbalized_probabilities(votes, stated, len(names)))


def logprob_probabilities(
    response: Response, field: str | None, classes: Sequence[str]
) -> FloatArray:
    r"""Return the classes' probabilities by the log-probabilities of the value's own tokens.

    The answer's tokens are followed from the value's first character on. At each
    one the listed alternatives (``top_logprobs``) are given to the classes they
    begin; classes that still agree with what was written share a beginning and
    are told apart at a later token. Then all is divided by the sum.

    Parameters
    ----------
    response
        With `Response.logprobs`.
    field
        The JSON field; None: the whole text is the value.
    classes
        The k values.

    Returns
    -------
    array of float, shape (k,), sum 1

    Raises
    ------
    DataError
        No logprobs, or no such field in the answer.

    Notes
    -----
    Where the alternatives do not cover a class, its probability at that token is
    bounded twice: it is at most that of the least alternative listed, and all
    such classes together have at most the mass that is not listed. Each gets
    this bound, ``min(least, rest / number of such classes)``: the result is
    never surer than the list allows. Where an alternative that was not
    written begins several classes, they share it in equal parts.

    Examples
    --------
    >>> top = [{"token": "SP", "logprob": np.log(0.6)}, {"token": "H", "logprob": np.log(0.2)}]
    >>> token = {"token": "SP", "logprob": np.log(0.6), "top_logprobs": top}
    >>> rest = {"token": "AM", "logprob": 0.0, "top_logprobs": []}
    >>> answer = Response("SPAM", "m", logprobs=[token, rest])
    >>> logprob_probabilities(answer, None, ["HAM", "SPAM"]).round(2)
    array([0.25, 0.75])
    """
    names = _checked_classes(classes)
    if not response.logprobs:
        raise DataError("the response has no logprobs", field=field)
    found = steps_of_value(response.logprobs, field)
    if found is None:
        raise DataError(f"no such field in the answer {response.text[:80]!r}", field=field)
    steps, quoted = found
    mass = class_masses(steps, names, quoted=quoted)
    total = mass.sum()
    return mass / total if total > 0 else np.full(len(names), 1 / len(names))


def verbalized_probabilities(
    votes: npt.ArrayLike, confidences: npt.ArrayLike, k: int
) -> FloatArray:
    """Return distributions from stated confidences: the rest goes to the other classes alike.

    Parameters
    ----------
    votes
        The classes named, shape (n,); -1 abstains and gives 1/k for each class.
    confidences
        In [0, 1], shape (n,). Below 1/k counts as 1/k, for the model did name
        the class; above .995 as .995. NaN where `votes` abstains is all right.
    k
        The number of classes.

    Returns
    -------
    array of float, shape (n, k)

    Raises
    ------
    DataError
        A confidence outside [0, 1], a vote outside the classes.

    Examples
    --------
    >>> verbalized_probabilities([1, -1], [0.8, np.nan], 3).round(2)
    array([[0.1 , 0.8 , 0.1 ],
           [0.33, 0.33, 0.33]])
    """
    named = _checked_votes(votes, k)
    stated = np.asarray(confidences, dtype=np.float64)
    if stated.shape != named.shape:
        raise DataError(f"expected {named.shape} confidences, got {stated.shape}")
    voted = named >= 0
    wrong = voted & ~((stated >= 0) & (stated <= 1))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(f"expected a confidence in [0, 1], got {stated[at]}", row=at)
    sure = np.where(voted, np.clip(stated, 1 / k, _MOST_STATED), 1 / k)
    out = np.repeat(((1 - sure) / (k - 1))[:, None], k, axis=1)
    out[np.flatnonzero(voted), named[voted]] = sure[voted]
    return out


def vote_probabilities(votes: npt.ArrayLike, k: int, *, pseudo_votes: float = 1.0) -> FloatArray:
    """Return shares of votes among samples, smoothed: self-consistency (Wang et al. 2023).

    The mean of a Dirichlet posterior whose symmetric prior weighs `pseudo_votes`
    samples: ``(count + pseudo_votes / k) / (samples + pseudo_votes)``.

    Parameters
    ----------
    votes
        Shape (n, s): s samples for each of n rows; -1 abstains and is not counted.
    k
        The number of classes.
    pseudo_votes
        Above 0.

    Returns
    -------
    array of float, shape (n, k)

    Examples
    --------
    >>> vote_probabilities([[0, 0, 1], [-1, -1, -1]], 2)
    array([[0.625, 0.375],
           [0.5  , 0.5  ]])
    """
    if pseudo_votes <= 0:
        raise ConfigError(f"pseudo_votes: expected a number above 0, got {pseudo_votes}")
    cast = _checked_votes(votes, k)
    counts = (cast[:, :, None] == np.arange(k)).sum(axis=1)
    smoothed = (counts + pseudo_votes / k) / (counts.sum(axis=1, keepdims=True) + pseudo_votes)
    return np.asarray(smoothed, dtype=np.float64)


def _mean(rows: npt.ArrayLike) -> FloatArray:
    return np.asarray(np.asarray(rows, dtype=np.float64).mean(axis=0))


def _method(method: Method, group: Sequence[Response], confidence: str | None) -> Method:
    if method not in get_args(Method):
        raise UnknownNameError("confidence method", method, get_args(Method))
    if method != "auto":
        return method
    if all(r.logprobs for r in group):
        return "logprobs"
    return "votes" if len(group) > 1 or confidence is None else "verbalized"


def _answer(
    response: Response, field: str | None, schema: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return the answer's fields; None where it is outside the schema, which is no vote."""
    if field is None:
        return {"": response.text.rpartition("</think>")[2].strip()}
    if schema is None:
        raise ConfigError("class_probabilities: votes and stated confidences need the schema")
    if field not in schema["properties"]:
        raise UnknownNameError("answer field", field, schema["properties"])
    parsed = parse_answer(response.text, schema)
    return None if isinstance(parsed, InvalidAnswer) else parsed


def _index(answer: Mapping[str, Any] | None, field: str | None, names: Sequence[str]) -> int:
    value = None if answer is None else answer[field or ""]
    return names.index(value) if value in names else -1


def _stated(answer: Mapping[str, Any] | None, confidence: str) -> float:
    if answer is None:
        return float("nan")
    if confidence not in answer:
        raise UnknownNameError("answer field", confidence, answer)
    return float(answer[confidence])


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    if isinstance(classes, str) or len(names) < 2 or len(set(names)) != len(names) or "" in names:
        raise ConfigError(f"classes: expected at least two different names, got {classes!r}")
    return names


def _checked_votes(votes: npt.ArrayLike, k: int) -> npt.NDArray[np.int64]:
    if k < 2:
        raise ConfigError(f"expected at least two classes, got {k}")
    cast = np.asarray(votes)
    if not np.issubdtype(cast.dtype, np.integer):
        raise DataError(f"votes: expected integers, got {cast.dtype}")
    if cast.size and not (cast.min() >= -1 and cast.max() < k):
        raise DataError(f"votes: expected -1 to {k - 1}, got {cast.min()} to {cast.max()}")
    return cast.astype(np.int64)
