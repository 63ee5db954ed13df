"""An answer that is chosen by scores instead of written: which texts to score, in what order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from llmlabel.errors import ClientError

__all__ = ["ScoredAnswer"]


class ScoredAnswer:
    r"""A JSON answer that grows field by field.

    Fields with an ``enum`` are chosen by score, each given those before it. A
    number right behind such a field is filled with the chosen value's
    probability, within the number's bounds: it is asked as a confidence.

    Parameters
    ----------
    schema
        `Request.schema`.

    Raises
    ------
    ClientError
        Fatal: a field that can be neither scored nor filled.

    Examples
    --------
    >>> answer = ScoredAnswer({"properties": {"label": {"enum": ["A", "B"]}}})
    >>> answer.text, answer.endings
    ('{"label": ', ('"A"}', '"B"}'))
    >>> answer.choose(np.log([0.1, 0.3]))
    >>> answer.done, answer.text
    (True, '{"label": "B"}')
    >>> round(float(np.exp(answer.logprobs[1]["logprob"])), 2)
    0.75
    """

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self._fields = list((schema or {}).get("properties", {}).items())
        _check(self._fields)
        self._at = 0
        self._pieces: list[dict[str, Any]] = []
        self._literal(f"{{{self._key()}")

    @property
    def text(self) -> str:
        """What stands so far."""
        return "".join(p["token"] for p in self._pieces)

    @property
    def done(self) -> bool:
        """Whether all fields are there."""
        return self._at == len(self._fields)

    @property
    def endings(self) -> tuple[str, ...]:
        """What may come next: each value of the field with the mark that ends it."""
        mark = "}" if self._at + 1 == len(self._fields) else ","
        return tuple(f"{value}{mark}" for value in self._values())

    @property
    def logprobs(self) -> tuple[Mapping[str, Any], ...]:
        """The answer's pieces in `Response.logprobs`' form; each value is one token."""
        return tuple(self._pieces)

    def choose(self, scores: npt.ArrayLike) -> None:
        """Take the value with the highest log-probability.

        Parameters
        ----------
        scores
            One per ending; normalised over them here.
        """
        values = self._values()
        log_p = log_softmax(np.asarray(scores, dtype=np.float64))
        top = [
            {"token": values[i], "logprob": float(log_p[i])}
            for i in np.argsort(-log_p, kind="stable")
        ]
        self._pieces.append({**top[0], "top_logprobs": top})
        self._next()
        while not self.done and "enum" not in self._rule():
            rule, p = self._rule(), float(np.exp(log_p.max()))
            number = min(max(p, rule.get("minimum", 0.0)), rule.get("maximum", 1.0))
            self._literal(json.dumps(round(number, 6)))
            self._next()

    def _next(self) -> None:
        self._at += 1
        self._literal("}" if self.done else f", {self._key()}")

    def _literal(self, text: str) -> None:
        self._pieces.append({"token": text, "logprob": 0.0, "top_logprobs": []})

    def _key(self, at: int | None = None) -> str:
        return f"{json.dumps(self._fields[self._at if at is None else at][0])}: "

    def _rule(self) -> Mapping[str, Any]:
        rule: Mapping[str, Any] = self._fields[self._at][1]
        return rule

    def _values(self) -> list[str]:
        return [json.dumps(v, ensure_ascii=False) for v in self._rule()["enum"]]


def _check(fields: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    if not fields:
        raise ClientError("mode 'score' needs an answer schema with fields", fatal=True)
    for i, (name, rule) in enumerate(fields):
        filled = i > 0 and rule.get("type") == "number"
        if "enum" not in rule and not filled:
            raise ClientError(
                f"mode 'score' cannot answer the field {name!r}: expected an enum, or a number "
                "behind one",
                fatal=True,
                hint="use mode='generate'",
            )
