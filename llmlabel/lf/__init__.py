"""Labeling functions: everything that knows something about a row votes here."""

from llmlabel.lf.apply import apply, as_column, evidence, require_columns
from llmlabel.lf.classifiers import (
    classifier,
    transformers_classifier,
    zero_shot_classifier,
)
from llmlabel.lf.columns import answer, answer_column, column, prompt_of
from llmlabel.lf.core import LF, Batch, Column, Feature, labeling_function
from llmlabel.lf.heuristics import keyword, regex
from llmlabel.lf.knowledge import crowd, gazetteer, lookup
from llmlabel.lf.measures import Measure, measure
from llmlabel.lf.prompted import answers_feature, prompt, requests
from llmlabel.lf.similarity import EMBEDDING, embedding_feature, nearest
from llmlabel.lf.texts import Texts

__all__ = [
    "EMBEDDING",
    "LF",
    "Batch",
    "Column",
    "Feature",
    "Measure",
    "Texts",
    "answer",
    "answer_column",
    "answers_feature",
    "apply",
    "as_column",
    "classifier",
    "column",
    "crowd",
    "embedding_feature",
    "evidence",
    "gazetteer",
    "keyword",
    "labeling_function",
    "lookup",
    "measure",
    "nearest",
    "prompt",
    "prompt_of",
    "regex",
    "requests",
    "require_columns",
    "transformers_classifier",
    "zero_shot_classifier",
]
