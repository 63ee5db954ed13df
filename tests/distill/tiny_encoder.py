"""A random encoder of two layers, made-up messages for it, and how it is trained in tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmlabel.distill.encoder_options import EncoderOptions

CLASSES = ("BILLING", "DELIVERY", "RETURN")
WORDS = (
    ["invoice", "charged", "twice", "card", "payment", "amount"],
    ["parcel", "late", "courier", "tracking", "lost", "box"],
    ["return", "exchange", "wrong", "size", "send", "back"],
)
FILL = ["please", "my", "the", "order", "was", "it", "today", "thanks", "hello"]


def make(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 3, n)
    texts = [
        " ".join([*rng.choice(WORDS[c], 2), *rng.choice(FILL, rng.integers(1, 6))]) for c in gold
    ]
    return texts, gold


def tiny(folder: Path) -> Path:
    """A random BERT of 2 layers with a word tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for ws in WORDS for w in ws}), *FILL]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    set_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def options(model: str, **given: object) -> EncoderOptions:
    base = {"epochs": 8, "rounds": 0, "learning_rate": 5e-3, "patience": None, "max_length": 32}
    return EncoderOptions(model=model, **{**base, **given})  # type: ignore[arg-type]
