"""Rows become tokens, and exactly the completions are learned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.distill.causal_data import IGNORED, collate, encode_rows, pack
from llmlabel.errors import ConfigError, DataError

pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_causal import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
BEGINS = tiny_tokenizer(bos=True)


def chat(*turns, system=None):
    roles = ["user", "assistant"] * len(turns)
    first = [] if system is None else [{"role": "system", "content": system}]
    return {
        "messages": first + [{"role": r, "content": c} for r, c in zip(roles, turns, strict=False)]
    }


def learned(examples, i=0, tokenizer=TOKENIZER):
    return tokenizer.decode(examples.labels[i][examples.labels[i] != IGNORED])


def whole(examples, i=0, tokenizer=TOKENIZER):
    return tokenizer.decode(examples.ids[i])


def encode(*rows, tokenizer=TOKENIZER, max_length=200, **more):
    return encode_rows(rows, tokenizer, max_length=max_length, **more)


def test_a_completion_and_its_end_are_learned_and_nothing_else():
    found = encode({"prompt": "what is it?", "completion": " a song"})
    assert whole(found) == "what is it? a song<|end|>"
    assert learned(found) == " a song<|end|>"
    assert found.across == 0
    same = found.labels[0] != IGNORED
    np.testing.assert_array_equal(found.labels[0][same], found.ids[0][same])
    assert same.tolist() == sorted(same.tolist())  # one piece, at the end


def test_the_first_special_token_is_put_in_front_as_the_tokenizer_does():
    found = encode({"prompt": "a song", "completion": " is"}, tokenizer=BEGINS)
    assert found.ids[0].tolist() == [*BEGINS("a song is")["input_ids"], BEGINS.eos_token_id]
    nothing = encode({"prompt": "", "completion": "a song"}, tokenizer=BEGINS)
    assert learned(nothing, tokenizer=BEGINS) == "a song<|end|>"


def test_a_token_across_the_boundary_is_learned():
    # " is" is one token of the whole and two of the parts.
    apart, together = TOKENIZER(" i")["input_ids"], TOKENIZER(" is")["input_ids"]
    assert len(together) == 1 != len(apart + TOKENIZER("s")["input_ids"])
    found = encode({"prompt": "what i", "completion": "s it"})
    assert found.ids[0].tolist() == [*TOKENIZER("what is it")["input_ids"], 1]
    assert learned(found) == " is it<|end|>"
    assert found.across == 1


def test_a_slow_tokenizer_is_given_the_pieces():
    class Slow:
        is_fast = False
        chat_template = None
        eos_token_id, bos_token_id, eos_token = 1, None, "<|end|>"

        def __call__(self, text, **_):
            return TOKENIZER(text, add_special_tokens=False)

    found = encode({"prompt": "what i", "completion": "s it"}, tokenizer=Slow())
    parts = [TOKENIZER(p)["input_ids"] for p in ("what i", "s it")]
    assert found.ids[0].tolist() == [*parts[0], *parts[1], 1]
    assert learned(found) == "s it<|end|>"


@settings(max_examples=80)
@given(st.text(max_size=12), st.text(min_size=1, max_size=12))
def test_whatever_the_text_the_learned_tokens_hold_the_completion(prompt, completion):
    if any("<|" in t for t in (prompt, completion, prompt + completion)):
        return
    found = encode({"prompt": "x" + prompt, "completion": completion})
    tokens = found.ids[0]
    at = int(np.flatnonzero(found.labels[0] != IGNORED)[0])
    said = b"".join(_bytes(t) for t in tokens[at:-1])
    assert said.endswith(completion.encode())
    before = b"".join(_bytes(t) for t in tokens[:at])
    assert before + said == ("x" + prompt + completion).encode()
    # No token that ends within the prompt is learned.
    first = _bytes(tokens[at])
    assert len(before) + len(first) > len(("x" + prompt).encode())


def _bytes(token):
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    back = {c: b for b, c in bytes_to_unicode().items()}
    return bytes(back[c] for c in TOKENIZER.convert_ids_to_tokens(int(token)))


def test_all_turns_of_the_assistant_or_the_last_are_learned():
    row = chat("what is it?", "a song", "good?", "bad", system="answer")
    found = encode(row)
    assert whole(found) == (
        "<|system|>answer<|end|>\n<|user|>what is it?<|end|>\n<|assistant|>a song<|end|>\n"
        "<|user|>good?<|end|>\n<|assistant|>bad<|end|>\n"
    )
    assert learned(found) == "a song<|end|>bad<|end|>"  # and no line break behind
    assert learned(encode(row, turns="last")) == "bad<|end|>"


def test_a_template_that_ends_an_answer_with_nothing_gets_the_end_of_text():
    bare = tiny_tokenizer(
        template="{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    found = encode(chat("good?", "bad"), tokenizer=bare)
    assert learned(found) == "bad\n<|end|>"


def test_a_template_that_rewrites_earlier_turns_is_refused_but_for_the_last():
    rewriting = tiny_tokenizer(
        template="{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' and loop.last %}thought {% endif %}{{ m.content }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    row = chat("a", "good", "b", "bad")
    with pytest.raises(DataError, match="row 0: the chat template writes what comes before mess"):
        encode(row, tokenizer=rewriting)
    found = encode(row, tokenizer=rewriting, turns="last")
    assert learned(found, tokenizer=rewriting) == "thought bad<|end|>"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a"}, r"row 1: expected the keys 'prompt' and 'completion', or 'messages'"),
        ({"prompt": "a", "completion": 3}, "row 1, column 'completion': expected a text, got int"),
        ({"prompt": "a", "completion": "b", "weight": 0}, "row 1: weight: expected a positive"),
        ({"messages": []}, "row 1: messages: expected a list"),
        ({"messages": [{"role": "user"}]}, "row 1: message 0: expected a role and a text"),
        (chat("a"), "row 1: messages: expected an optional system, .* got user$"),
        ({"messages": chat("a", "b")["messages"][::-1]}, "got assistant, user"),
        ({"messages": chat("a", "b", system="s")["messages"] * 2}, "by turns, .* got system, user"),
    ],
)
def test_a_row_of_another_form_is_said(row, said):
    with pytest.raises(DataError, match=said):
        encode({"prompt": "a", "completion": "b"}, row)


def test_messages_without_a_template_are_said():
    with pytest.raises(ConfigError, match="messages need a chat template"):
        encode(chat("a", "b"), tokenizer=tiny_tokenizer(template=None))


def test_a_refusal_of_the_template_is_said():
    refusing = tiny_tokenizer(template="{{ raise_exception('no system') }}")
    with pytest.raises(DataError, match="row 0: the chat template refuses .*no system"):
        encode(chat("a", "b", system="s"), tokenizer=refusing)


def test_a_long_prompt_loses_its_beginning_and_the_completion_nothing():
    row = {"prompt": "lovely " * 50 + "what is it?", "completion": " a song"}
    found = encode(row, tokenizer=BEGINS, max_length=12)
    assert len(found.ids[0]) == 12
    assert found.truncated == 1
    assert found.ids[0][0] == BEGINS.bos_token_id
    assert learned(found, tokenizer=BEGINS) == " a song<|end|>"
    entire = encode(row, tokenizer=BEGINS, max_length=10**4)
    np.testing.assert_array_equal(found.ids[0][1:], entire.ids[0][-11:])
    assert entire.truncated == 0


def test_a_completion_that_does_not_fit_is_an_error_or_dropped_never_cut():
    rows = [{"prompt": "good?", "completion": c} for c in ("bad", "lovely " * 50, "")]
    with pytest.raises(DataError, match=r"row 1: \d+ tokens from the first that is learned"):
        encode(*rows, max_length=20)
    found = encode(*rows, max_length=20, on_too_long="drop")
    assert (found.rows.tolist(), found.dropped) == ([0, 2], 1)
    assert learned(found, 1) == "<|end|>"
    with pytest.raises(DataError, match="none of 1 rows has a completion that fits into 20"):
        encode(rows[1], max_length=20, on_too_long="drop")


def test_the_edge_of_what_fits():
    row = {"prompt": "what is it?", "completion": " a song"}
    needed = int(encode(row).targets[0])
    assert len(encode(row, max_length=needed + 1).ids[0]) == needed + 1
    with pytest.raises(DataError, match="row 0"):
        encode(row, max_length=needed)


def test_a_row_with_nothing_before_its_only_token_has_nothing_to_learn():
    with pytest.raises(DataError, match="row 0: no token to learn"):
        encode({"prompt": "", "completion": ""})


@pytest.mark.parametrize("more", [{"max_length": 1}, {"turns": "first"}, {"on_too_long": "cut"}])
def test_options_that_cannot_be_are_said(more):
    with pytest.raises(ConfigError, match=next(iter(more))):
        encode({"prompt": "a", "completion": "b"}, **more)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_blocks_hold_each_row_once_and_no_two_could_be_one(sizes):
    blocks = pack(sizes, 20)
    assert sorted(i for b in blocks for i in b) == list(range(len(sizes)))
    filled = sorted(sum(sizes[i] for i in b) for b in blocks)
    assert filled[-1] <= 20
    assert len(filled) < 2 or filled[0] + filled[1] > 20


def test_a_batch_counts_positions_from_each_rows_beginning():
    found = encode(*({"prompt": "what ", "completion": c} for c in ("is", "a song", "good bad")))
    batch = collate(found, [np.array([0, 2]), np.array([1])], pad_id=0)
    a, b, c = found.lengths
    np.testing.assert_array_equal(batch["position_ids"][0], [*range(a), *range(c)])
    np.testing.assert_array_equal(batch["segments"][1], [0] * b + [-1] * (a + c - b))
    assert (batch["labels"][1, b:] == IGNORED).all()
    assert batch["labels"][0, a] == IGNORED  # nothing of a row is predicted from another


def test_importing_the_distillation_imports_no_torch():
    code = (
        "import sys, llmlabel.distill.causal, llmlabel.distill.causal_classifier;"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
