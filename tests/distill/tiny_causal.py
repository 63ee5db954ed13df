"""Tiny causal language models made from a config, with a byte-level tokenizer trained here."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|begin|>"]
TEXTS = [
    "the capital of france is paris and that of spain is madrid",
    "is it good or bad? good, bad, positive, negative, ham, spam",
    "question: what is it? answer: a lovely song, a free gift",
]


def tiny_tokenizer(*, bos: bool = False, template: str | None = TEMPLATE, merges: int = 40):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + merges,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS, trainer)
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", raw.token_to_id("<|begin|>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        bos_token="<|begin|>" if bos else None,
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_llama(tokenizer, *, seed: int = 0, width: int = 32, **more):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=more.pop("vocab_size", len(tokenizer)),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{"initializer_range": 0.2, **more},
    )
    return LlamaForCausalLM(config).eval()


def tiny_gpt2(tokenizer, **more):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        **{"initializer_range": 0.2, "n_positions": 256, **more},
    )
    return GPT2LMHeadModel(config).eval()


def save_tiny(folder: Path, **more) -> Path:
    tokenizer = tiny_tokenizer(**more)
    tokenizer.save_pretrained(folder)
    tiny_llama(tokenizer).save_pretrained(folder)
    return folder
