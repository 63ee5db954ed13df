"""A linear student as a scikit-learn pipeline in a joblib file."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmlabel.distill.export.parity import Exported, Predict, checked
from llmlabel.distill.linear import LinearStudent
from llmlabel.distill.network import quiet
from llmlabel.distill.student import Student
from llmlabel.embed import HashedTfidf, SentenceEncoder, Tfidf, TfidfSvdEncoder
from llmlabel.embed.model_folder import OTHER_BACKENDS
from llmlabel.errors import ConfigError

__all__ = ["export_sklearn"]

_FILE: Final = "model.joblib"
_MODULE: Final = "text_encoder"


def export_sklearn(student: Student, folder: Path, texts: Sequence[str]) -> Exported:
    """Write a linear student as a pipeline of scikit-learn's own parts.

    With a sentence encoder its weights and one file of Python, `text_encoder.py`, lie beside it.
    """
    if not isinstance(student, LinearStudent):
        raise ConfigError(
            f"a student of kind {student.describe()['kind']!r} is no scikit-learn model; "
            "export it as transformers or onnx"
        )
    import joblib

    folder.mkdir(parents=True, exist_ok=True)
    encoder = _encoder(student, folder)
    joblib.dump(_pipeline(student, encoder), folder / _FILE, compress=3)

    def load() -> Predict:
        model: Any = joblib.load(folder / _FILE)

        def predict(asked: Sequence[str]) -> npt.NDArray[np.float64]:
            with quiet() if own else contextlib.nullcontext():
                found: npt.NDArray[np.float64] = model.predict_proba(list(asked))
            return found

        return predict

    own = isinstance(student.encoder, SentenceEncoder)
    if isinstance(student.encoder, SentenceEncoder):
        # The export computes in float32; what bfloat16 changes is no fault of it.
        exact = SentenceEncoder(student.encoder.name, dtype="float32")
        student = replace(student, encoder=exact)
    path = 'import sys\nsys.path.insert(0, "FOLDER")  # has text_encoder.py\n' if own else ""
    usage = (
        f'{path}import joblib\n\nmodel = joblib.load("FOLDER/{_FILE}")\n'
        'model.predict(["a text"]), model.predict_proba(["a text"]), model.classes_'
    )
    needs = ("scikit-learn", "joblib", *(("sentence-transformers",) if own else ()))
    return Exported("sklearn", checked(student, folder, texts, load), usage, needs)


def _pipeline(student: LinearStudent, encoder: Any) -> Any:
    from sklearn.pipeline import FeatureUnion, make_pipeline

    parts = [] if encoder is None else [("meaning", encoder)]
    if isinstance(student.tfidf, HashedTfidf):
        raise ConfigError(
            "a student of hashed words needs llmlabel to read texts: it has no scikit-learn form",
            hint="distill with tfidf: true, or use llmlabel predict",
        )
    if student.tfidf is not None:
        parts += [(v.analyzer, v) for v in student.tfidf.vectorizers]
    return make_pipeline(FeatureUnion(parts), _regression(student))


def _regression(student: LinearStudent) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression()
    coef, intercept = student.coef, student.intercept
    if len(student.classes) == 2:  # scikit-learn keeps one row for two classes
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    model.coef_, model.intercept_ = coef, intercept
    model.classes_ = np.array(student.classes)
    model.n_features_in_ = student.coef.shape[1]
    return model


def _encoder(student: LinearStudent, folder: Path) -> Any:
    """Return what stands for the student's encoder in a pipeline; None without embeddings."""
    if not student.dims:
        return None
    encoder = student.encoder
    if isinstance(encoder, TfidfSvdEncoder):
        return _svd(encoder)
    if not isinstance(encoder, SentenceEncoder):
        raise ConfigError("this student was trained on given embeddings; no pipeline makes them")
    source = Path(__file__).with_name(f"{_MODULE}.py")
    shutil.copyfile(source, folder / source.name)
    # The weights come along: the folder loads where no hub can be reached, and for good.
    ignored = shutil.ignore_patterns(*OTHER_BACKENDS, ".*")
    shutil.copytree(encoder.folder, folder / "encoder", ignore=ignored)
    return _module(folder / source.name).TextEncoder()


def _module(file: Path) -> Any:
    """Import the folder's module under its own name, by which the pipeline will look for it."""
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _svd(encoder: TfidfSvdEncoder) -> Any:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.pipeline import FeatureUnion, make_pipeline
    from sklearn.preprocessing import Normalizer

    svd = TruncatedSVD(len(encoder.components))
    svd.components_ = encoder.components
    tfidf: Tfidf = encoder.tfidf
    union = FeatureUnion([(v.analyzer, v) for v in tfidf.vectorizers])
    return make_pipeline(union, svd, Normalizer())
