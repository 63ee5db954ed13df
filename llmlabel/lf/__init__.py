"""Labeling functions: everything that knows something about a row votes here."""

from llmlabel.lf.apply import apply, evidence, require_columns
from llmlabel.lf.columns import answer, answer_column, column, prompt_of
from llmlabel.lf.core import LF, Batch, Column, Feature, labeling_function
from llmlabel.lf.heuristics import keyword, regex
from llmlabel.lf.prompted import answers_feature, prompt, requests
from llmlabel.lf.similarity import EMBEDDING, embedding_feature, nearest

__all__ = [
    "EMBEDDING",
    "LF",
    "Batch",
    "Column",
    "Feature",
    "answer",
    "answer_column",
    "answers_feature",
    "apply",
    "column",
    "embedding_feature",
    "evidence",
    "keyword",
    "labeling_function",
    "nearest",
    "prompt",
    "prompt_of",
    "regex",
    "requests",
    "require_columns",
]
