"""Rows that are packed into one block know nothing of each other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from llmlabel.distill.causal import fit_causal
from llmlabel.distill.causal_data import collate, encode_rows, pack
from llmlabel.errors import ConfigError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_causal import tiny_gpt2, tiny_llama, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)  # two that spin on a busy machine make it ten times slower

TOKENIZER = tiny_tokenizer()
NAMES = ["ada", "bob", "cleo", "dan", "eve", "finn", "gus", "hal", "ida", "jon"]
WORDS = ["good", "bad", "a song", "free gift", "madrid", "paris", "ham", "spam", "what", "lovely"]
ROWS = [
    {"prompt": f"{question} {name}?", "completion": f" {word}"}
    for question in ("who is", "where is")
    for name, word in zip(NAMES, WORDS, strict=True)
]


def few(**more):
    return {
        "epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "max_length": 64, "device": "cpu",
        **more,
    }  # fmt: skip


def token_losses(model, examples, blocks, *, packed):
    """Return the sum of the learned tokens' losses and their number, as the Trainer has them."""
    from llmlabel.distill.causal_torch import target_logits, to_inputs

    batch = collate(examples, blocks, 0)
    labels = torch.from_numpy(batch["labels"])
    with torch.no_grad():
        logits = target_logits(model, to_inputs(batch, model, packed=packed), labels)
    goals = labels[:, 1:][labels[:, 1:] != -100]
    losses = torch.nn.functional.cross_entropy(logits, goals, reduction="none")
    return losses.sum().item(), len(goals)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_have_the_loss_of_each_alone(kind, attention):
    make = tiny_llama if kind == "llama" else tiny_gpt2
    # Far from uniform, so that a row that is seen by another shows.
    model = make(TOKENIZER, attn_implementation=attention, initializer_range=0.4)
    examples = encode_rows(ROWS, TOKENIZER, max_length=64)
    blocks = pack(examples.lengths, 64)
    assert len(blocks) < len(ROWS) / 2
    total, count = token_losses(model, examples, blocks, packed=True)
    alone = [token_losses(model, examples, [np.array([i])], packed=False) for i in range(len(ROWS))]
    assert count == sum(n for _, n in alone)
    assert total / count == pytest.approx(sum(s for s, _ in alone) / count, abs=1e-5)
    # Without its own mask and positions a block has another loss: the test could fail.
    wrong, _ = token_losses(model, examples, blocks, packed=False)
    assert abs(wrong / count - total / count) > 1e-2
    # The same number from transformers itself, whose labels are shifted inside.
    row = {k: torch.from_numpy(v) for k, v in collate(examples, [np.array([0])], 0).items()}
    own = model(input_ids=row["input_ids"], labels=row["labels"]).loss.item()
    assert own == pytest.approx(alone[0][0] / alone[0][1], abs=1e-5)


def test_a_step_on_packed_rows_is_a_step_on_them_unpacked(tmp_path):
    weights = []
    for packing in (False, True):
        student = fit_causal(
            ROWS,
            model=tiny_llama(TOKENIZER),
            tokenizer=TOKENIZER,
            folder=tmp_path / str(packing),
            packing=packing,
            training={"optim": "sgd", "max_steps": 1, "max_grad_norm": 0},
            **few(batch_size=1, gradient_accumulation=1 if packing else len(ROWS), max_length=400)
            | {"learning_rate": 1.0, "warmup": 0.0},
        )
        assert student.facts["blocks"] == (1 if packing else len(ROWS))
        weights.append(student.model.model.embed_tokens.weight.detach())
    before = tiny_llama(TOKENIZER).model.embed_tokens.weight
    assert (weights[0] - before).abs().max() > 1e-3
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)


def test_a_model_whose_packed_rows_would_see_each_other_is_refused(tmp_path):
    def fit(model, **more):
        fit_causal(
            ROWS, model=model, tokenizer=TOKENIZER, folder=tmp_path, packing=True, **few(**more)
        )

    config = transformers.MistralConfig(
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=16,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="attention reaches 16 tokens and max_length is 64"):
        fit(transformers.MistralForCausalLM(config))
    config = transformers.BloomConfig(vocab_size=len(TOKENIZER), hidden_size=32, n_layer=1)
    config.num_attention_heads = config.n_head = 2
    with pytest.raises(ConfigError, match="packing: in a BloomForCausalLM packed rows see each"):
        fit(transformers.BloomForCausalLM(config))
    with pytest.raises(ConfigError, match="model and teacher have other attentions .eager, sdpa"):
        fit(
            tiny_llama(TOKENIZER, attn_implementation="sdpa"),
            teacher=tiny_llama(TOKENIZER, attn_implementation="eager"),
        )
    model = tiny_llama(TOKENIZER)
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ConfigError, match="expected an attention of eager or sdpa"):
        fit(model)
