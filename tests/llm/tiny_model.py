"""A tiny model made from a config, with a tokenizer trained here: no network, no weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXTS = [
    "You label texts. Give the text the one class that fits it best. HAM: a real remark",
    'SPAM: promotion {"label": "HAM", "confidence": 0.93} {"label": "SPAM"} UNSURE refund_late',
    "buy my new song now and subscribe, check out this video on my channel please",
]


def save_tiny_model(
    folder: Path, template: str | None = TEMPLATE, says: Sequence[str] = ()
) -> Path:
    """Write a Llama of two layers and a byte-level BPE tokenizer.

    Its weights are random; with `says`, they are set so that it answers everything with
    these different texts, one after the other, and repeats the last for ever.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>"
    )
    tokenizer.add_tokens(list(says))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.4,  # far from uniform, so that a wrong position shows
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if says:
        chain = tokenizer.convert_tokens_to_ids(["<|assistant|>", *says, says[-1]])
        _chained(model, chain)
    model.save_pretrained(folder)
    return folder


def _chained(model, chain: Sequence[int]) -> None:
    """Make the next token follow from the last alone: nothing but embedding and head."""
    import torch

    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding = model.model.embed_tokens.weight
        embedding /= embedding.norm(dim=1, keepdim=True).clamp(min=1e-9)  # padding is 0
        model.lm_head.weight.zero_()
        for now, then in itertools.pairwise(chain):
            model.lm_head.weight[then] += 2 * embedding[now]
