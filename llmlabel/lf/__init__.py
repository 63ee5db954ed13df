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
from llmlabel.lf.multi import apply_per_class
from llmlabel.lf.neighbours import approximate_search, top_k
from llmlabel.lf.prompted import answers_feature, prompt, requests
from llmlabel.lf.similarity import EMBEDDING, embedding_feature, nearest
from llmlabel.lf.slices import Slice, apply_slices, slice_of, slicing_function
from llmlabel.lf.spans import Span, SpanLF, TokenVotes, apply_spans, span_names, span_regex
from llmlabel.lf.texts import Texts
from llmlabel.lf.thresholds import threshold_from_distribution, threshold_from_gold
from llmlabel.lf.transforms import Transform, augment, transformation_function

__all__ = [
    "EMBEDDING",
    "LF",
    "Batch",
    "Column",
    "Feature",
    "Measure",
    "Slice",
    "Span",
    "SpanLF",
    "Texts",
    "TokenVotes",
    "Transform",
    "answer",
    "answer_column",
    "answers_feature",
    "apply",
    "apply_per_class",
    "apply_slices",
    "apply_spans",
    "approximate_search",
    "as_column",
    "augment",
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
    "slice_of",
    "slicing_function",
    "span_names",
    "span_regex",
    "threshold_from_distribution",
    "threshold_from_gold",
    "top_k",
    "transformation_function",
    "transformers_classifier",
    "zero_shot_classifier",
]
