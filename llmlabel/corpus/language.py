"""The language of documents, and which languages stay."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llmlabel.corpus.verdict import Verdict
from llmlabel.errors import UnknownNameError
from llmlabel.extras import need_packages

__all__ = [
    "BACKENDS",
    "Backend",
    "check_languages",
    "identify",
    "known_languages",
    "language_filter",
]

Backend = Literal["py3langid", "lingua"]
BACKENDS: Final[tuple[Backend, ...]] = ("py3langid", "lingua")
Codes = npt.NDArray[np.str_]
Probabilities = npt.NDArray[np.float32]

_TEXTS: Final = 2048  # at a time


def identify(
    texts: Sequence[str], *, backend: Backend = "py3langid", characters: int = 2000
) -> tuple[Codes, Probabilities]:
    """Tell the language of each text.

    Parameters
    ----------
    texts
        n texts.
    backend
        ``"py3langid"`` (langid.py: 140 languages, naive Bayes on byte n-grams) or
        ``"lingua"`` (75 languages, better on a few words, slower, 1 GB of memory).
    characters
        Only so many of a text's first code points are read.

    Returns
    -------
    codes : str array, shape (n,)
        ISO 639-1 codes (639-3 where there is none); ``"und"`` where a text has nothing to
        tell by.
    probabilities : float32 array, shape (n,)
        How sure the backend is, among the languages that it knows.

    Raises
    ------
    UnknownNameError
        No such backend.
    MissingExtraError
        Its package is not installed (``llmlabel[corpus]``, ``llmlabel[lingua]``).

    Notes
    -----
    M. Lui, T. Baldwin (2012), langid.py: an off-the-shelf language identification tool. Its
    automaton reads all texts of a batch side by side, a byte of each at a time: the answers
    are those of ``py3langid`` called on each text.

    Examples
    --------
    >>> codes, sure = identify(["The cat sits on the mat.", "Le chat est assis sur le tapis."])
    >>> codes.tolist(), bool(sure.min() > 0.9)
    (['en', 'fr'], True)
    """
    if backend not in BACKENDS:
        raise UnknownNameError("language backend", backend, BACKENDS)
    read = [text[:characters] for text in texts]
    parts = [read[i : i + _TEXTS] for i in range(0, len(read), _TEXTS)]
    tell = _langid if backend == "py3langid" else _lingua
    found = [tell(part) for part in parts]
    codes = [code for part, _ in found for code in part]
    sure = [p for _, part in found for p in part]
    return np.array(codes, np.str_), np.array(sure, np.float32)


def language_filter(
    texts: Sequence[str],
    languages: Mapping[str, float],
    *,
    backend: Backend = "py3langid",
    characters: int = 2000,
) -> Verdict:
    """Drop documents that are not, or not surely, in one of some languages.

    Parameters
    ----------
    texts
        n texts.
    languages
        The least probability by code, ``{"en": 0.65}``.
    backend, characters
        See `identify`.

    Returns
    -------
    The reasons ``language.CODE`` (another language) and ``language.unsure``; the values
    ``language`` and ``probability``.

    Raises
    ------
    UnknownNameError
        The backend knows no such language.

    Examples
    --------
    >>> language_filter(["Das ist ein deutscher Satz."], {"en": 0.65}).reason.tolist()
    ['language.de']
    """
    check_languages(languages, backend)
    codes, sure = identify(texts, backend=backend, characters=characters)
    reason = np.array([f"language.{code}" for code in codes.tolist()], object)
    for code, least in languages.items():
        mine = codes == code
        reason[mine] = np.where(sure[mine] < least, "language.unsure", "")
    return Verdict(reason, {"language": codes, "probability": sure})


def check_languages(codes: Iterable[str], backend: Backend = "py3langid") -> None:
    """Check that a backend knows the languages.

    Raises
    ------
    UnknownNameError
        One it does not; says the nearest.
    """
    known = known_languages(backend)
    for code in codes:
        if code not in known:
            raise UnknownNameError("language", code, known, where=backend)


def known_languages(backend: Backend = "py3langid") -> tuple[str, ...]:
    """Return the codes of the languages that a backend tells apart, in order."""
    if backend == "py3langid":
        return tuple(sorted(set(_model().nb_classes)))
    _need_lingua()
    from lingua import Language

    return tuple(sorted(_code(language) for language in Language.all()))


@functools.cache
def _model() -> Any:
    need_packages("language identification", "py3langid", extra="corpus")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.cache
def _weights() -> npt.NDArray[np.float32]:
    """Return log P(feature | language), shape (features, languages)."""
    return np.asarray(_model().nb_ptc, np.float32)


@functools.cache
def _automaton() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the moves, the row of each state in them, and the feature that a state ends."""
    model = _model()
    moves, rows, features = model.tk_nextmove, model.tk_row, model.tk_output
    rows = np.asarray(rows, np.int32) << 8
    return np.asarray(moves, np.int32), rows, np.asarray(features, np.int32)


def _langid(texts: Sequence[str]) -> tuple[list[str], list[float]]:
    model = _model()
    data = [_bytes(text) for text in texts]
    length = np.array([len(part) for part in data], np.int64)
    counts = _log_counts(data, length)
    scores = np.asarray(counts @ _weights())
    told = np.diff(counts.indptr) > 0
    scores += model.nb_pc
    scores[~told] = 0
    scores /= np.sqrt(np.maximum(length, 1))[:, None]
    np.exp(scores - scores.max(1, keepdims=True), out=scores)
    scores /= scores.sum(1, keepdims=True)
    classes = model.nb_classes
    first = {code: i for i, code in reversed(list(enumerate(classes)))}
    for i, code in enumerate(classes):
        if first[code] != i:  # a language in a second script
            scores[:, first[code]] += scores[:, i]
            scores[:, i] = 0
    best = scores.argmax(1)
    codes = [classes[i] if ok else "und" for i, ok in zip(best, told, strict=True)]
    return codes, scores[np.arange(len(best)), best].tolist()


def _bytes(text: str) -> bytes:
    text = unicodedata.normalize("NFC", text.lower() if text.isupper() else text)
    return text.encode("utf8", "surrogatepass")


def _log_counts(data: Sequence[bytes], length: npt.NDArray[np.int64]) -> Any:
    """Return log(1 + count) of each feature in each text, a sparse array."""
    from scipy.sparse import csr_array

    moves, rows, features = _automaton()
    order = np.argsort(-length, kind="stable")
    joined = np.frombuffer(b"".join(data) + b"\0", np.uint8)
    at = (np.cumsum(length) - length)[order]
    active = np.searchsorted(-length[order], -np.arange(int(length.max(initial=0))))
    state = np.zeros(len(data), np.int32)
    width = len(_weights())
    keys = [np.zeros(0, np.int64)]
    for step, count in enumerate(active.tolist()):
        state = moves.take(rows.take(state[:count]) + joined.take(at[:count] + step))
        feature = features.take(state)
        hit = np.flatnonzero(feature >= 0)
        keys.append(order.take(hit) * width + feature.take(hit))
    key = np.sort(np.concatenate(keys))
    begins = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(np.append(begins, len(key)))
    text, feature = np.divmod(key.take(begins), width)
    ends = np.searchsorted(text, np.arange(len(data) + 1))
    values = np.log1p(counts.astype(np.float32))
    return csr_array((values, feature, ends), shape=(len(data), width))


@functools.cache
def _detector() -> Any:
    _need_lingua()
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().build()


def _need_lingua() -> None:
    need_packages("lingua as the language backend", "lingua", extra="lingua")


def _code(language: Any) -> str:
    return str(language.iso_code_639_1.name.lower())


def _lingua(texts: Sequence[str]) -> tuple[list[str], list[float]]:
    found = _detector().compute_language_confidence_values_in_parallel(list(texts))
    best = [values[0] if values and values[0].value > 0 else None for values in found]
    codes = ["und" if one is None else _code(one.language) for one in best]
    return codes, [0.0 if one is None else one.value for one in best]
