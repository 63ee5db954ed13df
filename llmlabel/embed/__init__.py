"""Texts to unit vectors, through anything with ``.encode``; each text is encoded once."""

from llmlabel.embed.cache import VectorCache, embed
from llmlabel.embed.encoder import (
    Encoder,
    EncoderFallbackWarning,
    HasEncode,
    check_texts,
    encode_unit,
    unit_rows,
)
from llmlabel.embed.hashed import HashedTfidf, fit_hashed_tfidf
from llmlabel.embed.load import load_encoder
from llmlabel.embed.sentence import SentenceEncoder
from llmlabel.embed.tfidf import Tfidf, fit_tfidf, load_tfidf
from llmlabel.embed.tfidf_svd import TfidfSvdEncoder, fit_tfidf_svd

__all__ = [
    "Encoder",
    "EncoderFallbackWarning",
    "HasEncode",
    "HashedTfidf",
    "SentenceEncoder",
    "Tfidf",
    "TfidfSvdEncoder",
    "VectorCache",
    "check_texts",
    "embed",
    "encode_unit",
    "fit_hashed_tfidf",
    "fit_tfidf",
    "fit_tfidf_svd",
    "load_encoder",
    "load_tfidf",
    "unit_rows",
]
