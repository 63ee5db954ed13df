"""Causal students: trained on completions, packed, killed and resumed, saved and merged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmlabel.distill.causal import CausalStudent, fit_causal, rows_from_answers
from llmlabel.errors import ConfigError, DataError, MissingExtraError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("peft")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_causal import save_tiny, tiny_gpt2, tiny_llama, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)  # two that spin on a busy machine make it ten times slower

TOKENIZER = tiny_tokenizer()
LORA = {"r": 4, "lora_alpha": 8, "target_modules": {"q_proj", "v_proj"}, "lora_dropout": 0.1}
NAMES = ["ada", "bob", "cleo", "dan", "eve", "finn", "gus", "hal", "ida", "jon"]
WORDS = ["good", "bad", "a song", "free gift", "madrid", "paris", "ham", "spam", "what", "lovely"]
ROWS = [
    {"prompt": f"{question} {name}?", "completion": f" {word}"}
    for shift, question in enumerate(["who is", "where is"])
    for name, word in zip(NAMES, WORDS[3 * shift :] + WORDS[: 3 * shift], strict=True)
]
CPU = {"device": "cpu", "report_to": "none"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"))


def few(**more):
    return {"epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "max_length": 64, **CPU, **more}


def test_a_tiny_model_learns_twenty_completions_by_heart(tmp_path, base):
    student = fit_causal(
        ROWS, model=base, folder=tmp_path / "run", packing=True, seed=1,
        **few(epochs=40, max_length=64, batch_size=2, learning_rate=8e-3),
    )  # fmt: skip
    assert student.generate([r["prompt"] for r in ROWS], max_new_tokens=12, batch_size=7) == [
        r["completion"] for r in ROWS
    ]
    assert student.facts["loss"] < 0.05
    assert student.describe()["kind"] == "causal-lm"
    again = CausalStudent.load(tmp_path / "run", device="cpu")
    assert not again.has_adapter
    assert again.generate([ROWS[3]["prompt"]], max_new_tokens=12) == [ROWS[3]["completion"]]
    assert not (tmp_path / "run" / "checkpoints").exists()
    # What had ended is read, not trained: a second would take as long.
    read = fit_causal(
        ROWS, model=base, folder=tmp_path / "run", packing=True, seed=1,
        **few(epochs=40, max_length=64, batch_size=2, learning_rate=8e-3),
    )  # fmt: skip
    assert read.facts == student.facts


def test_chats_are_learned_with_an_adapter(tmp_path, base):
    talks = [[{"role": "user", "content": r["prompt"]}] for r in ROWS[:6]]
    answers = [r["completion"].strip() for r in ROWS[:6]]
    student = fit_causal(
        rows_from_answers(talks, answers), model=base, folder=tmp_path / "run",
        lora={"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        **few(epochs=60, batch_size=6, learning_rate=3e-2),
    )  # fmt: skip
    assert student.has_adapter
    assert student.generate(talks, max_new_tokens=12) == answers


def test_rows_count_by_their_weight(tmp_path, base):
    rows = [
        {"prompt": "who?", "completion": " good", "weight": 9},
        {"prompt": "who?", "completion": " bad", "weight": 1},
    ]
    student = fit_causal(rows, model=base, folder=tmp_path, **few(epochs=60, learning_rate=1e-2))
    ids = torch.tensor([TOKENIZER("who?")["input_ids"]])
    p = student.model(ids).logits[0, -1].softmax(-1).detach()
    good, bad = (float(p[TOKENIZER(w)["input_ids"][0]]) for w in (" good", " bad"))
    first = [TOKENIZER(w)["input_ids"] for w in (" good", " bad")]
    assert first[0][0] != first[1][0]
    assert good == pytest.approx(0.9, abs=0.03)
    assert bad == pytest.approx(0.1, abs=0.03)
    # Weights that are all the same change nothing, whatever they are.
    losses = [
        fit_causal(
            [{**row, "weight": w} for row in rows], model=base, folder=tmp_path / str(w), **few()
        ).facts["loss"]
        for w in (1, 7)
    ]
    assert losses[0] == losses[1]


RUN = """
import sys, time
import transformers
sys.path.insert(0, sys.argv[3])
import test_causal as t
step = transformers.Trainer.training_step
def slowly(self, *args, **kwargs):
    time.sleep(0.25)
    return step(self, *args, **kwargs)
transformers.Trainer.training_step = slowly
t.fit_causal(t.ROWS, model=sys.argv[1], folder=sys.argv[2], **t.killed_run())
"""


def killed_run():
    return few(lora=LORA, checkpoint_every=3, epochs=2, seed=3)


def test_a_killed_run_goes_on_and_ends_where_it_would_have(tmp_path, base):
    whole = fit_causal(ROWS, model=base, folder=tmp_path / "whole", **killed_run())
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(base), str(folder), str(Path(__file__).parent)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 120
    state = folder / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    while not state.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert not (folder / "llmlabel.json").exists()
    # As if a second kill had come while a later checkpoint was written.
    (folder / "checkpoints" / "checkpoint-9").mkdir()
    student = fit_causal(ROWS, model=base, folder=folder, **killed_run())
    assert (student.facts["resumed_from"], student.facts["steps"]) == (3, 10)
    assert (whole.facts["resumed_from"], whole.facts["steps"]) == (None, 10)
    ours, theirs = student.model.state_dict(), whole.model.state_dict()
    moved = max(float(w.abs().max()) for k, w in ours.items() if "lora_B" in k)
    assert moved > 1e-3  # it begins at 0
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_a_run_of_all_weights_that_broke_off_goes_on(tmp_path, base, packing, monkeypatch):
    options = few(
        packing=packing, checkpoint_every=2, teacher=tiny_llama(TOKENIZER, seed=4), epochs=3,
        batch_size=1 if packing else 4,
    )  # fmt: skip
    whole = fit_causal(ROWS, model=base, folder=tmp_path / "whole", **options)
    step, calls = transformers.Trainer.training_step, []

    def breaks(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", breaks)
        with pytest.raises(KeyboardInterrupt):
            fit_causal(ROWS, model=base, folder=tmp_path / "broken", **options)
    student = fit_causal(ROWS, model=base, folder=tmp_path / "broken", **options)
    assert student.facts["resumed_from"] == 2
    assert student.facts["steps"] == whole.facts["steps"] > 4
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(student.model.state_dict()[name], weight, atol=1e-7, rtol=1e-5)


def test_a_folder_of_another_run_is_refused(tmp_path, base):
    fit_causal(ROWS, model=base, folder=tmp_path, **few(epochs=1))
    with pytest.raises(ConfigError, match="holds a run with other settings$"):
        fit_causal(ROWS, model=base, folder=tmp_path, **few(epochs=2))
    with pytest.raises(ConfigError, match="holds a run with other rows$"):
        fit_causal(ROWS[1:], model=base, folder=tmp_path, **few(epochs=1))
    student = fit_causal(ROWS, model=base, folder=tmp_path, resume=False, **few(epochs=2))
    assert student.facts["steps"] == 10
    # Nor is a student overwritten that was saved there by hand.
    student.save(tmp_path / "by hand")
    with pytest.raises(ConfigError, match="holds a run with other settings, rows, model"):
        fit_causal(ROWS, model=base, folder=tmp_path / "by hand", **few(epochs=1))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"lora": {"rank": 3}}, "lora: .*rank"),
        ({"lora": {"r": 3, "target_modules": ["none"]}}, "lora: Target modules"),
        ({"training": {"learning": 3}}, "training: .*learning"),
        ({"epochs": 0}, "epochs: expected a positive number, got 0"),
        ({"alpha": 2}, "an alpha in .0, 1., got 2.0 and 2"),
        ({"device": "tpu"}, "device: expected 'auto' or 'cpu', got 'tpu'"),
    ],
)
def test_what_cannot_be_trained_is_said(tmp_path, base, more, said):
    with pytest.raises(ConfigError, match=said):
        fit_causal(ROWS, model=base, folder=tmp_path, **few(**more))


def test_models_that_cannot_be_loaded_are_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot load the tokenizer of"):
        fit_causal(ROWS, model=tmp_path / "none", folder=tmp_path / "run", **few())
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        fit_causal(ROWS, model=tiny_llama(TOKENIZER), folder=tmp_path / "run", **few())
    short = tiny_gpt2(TOKENIZER, n_positions=10)
    with pytest.raises(ConfigError, match="rows of up to .. tokens, and the model takes 10"):
        fit_causal(ROWS, model=short, tokenizer=TOKENIZER, folder=tmp_path / "run", **few())
    small = tiny_llama(TOKENIZER, vocab_size=100)
    with pytest.raises(ConfigError, match="knows 100 tokens and the tokenizer has 302"):
        fit_causal(ROWS, model=small, tokenizer=TOKENIZER, folder=tmp_path / "run", **few())


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "peft" else find(n))
    with pytest.raises(MissingExtraError, match="a causal student needs the package 'peft'"):
        fit_causal(ROWS, model="m", folder=tmp_path, lora={"r": 2})


# The student


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("adapted")
    lora = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
    student = fit_causal(
        ROWS, model=base, folder=folder, lora=lora, **few(epochs=6, meta={"task": "names"})
    )
    return student, folder


def logits(model):
    ids = torch.tensor([TOKENIZER("where is cleo? a song")["input_ids"]])
    with torch.no_grad():
        return model(ids).logits


def test_what_is_saved_is_what_is_loaded(adapted, tmp_path):
    student, folder = adapted
    names = {p.name for p in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "llmlabel.json"} <= names
    assert "model.safetensors" not in names
    again = CausalStudent.load(folder, device="cpu")
    assert again.meta == {"task": "names"}
    assert again.facts == student.facts
    torch.testing.assert_close(logits(again.model), logits(student.model), atol=1e-6, rtol=1e-6)
    again.save(tmp_path / "again")
    third = CausalStudent.load(tmp_path / "again", device="cpu")
    torch.testing.assert_close(logits(third.model), logits(student.model), atol=1e-6, rtol=1e-6)


def test_a_merged_student_is_a_plain_model_with_the_same_outputs(adapted, tmp_path, base):
    student, _ = adapted
    before = logits(student.model)
    merged = student.merge(tmp_path / "merged")
    assert not merged.has_adapter
    assert student.has_adapter
    student.save(tmp_path / "still")  # untouched
    still = CausalStudent.load(tmp_path / "still", device="cpu")
    torch.testing.assert_close(logits(still.model), before)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(plain), before, atol=1e-4, rtol=0)
    original = transformers.AutoModelForCausalLM.from_pretrained(base)
    assert (logits(original) - before).abs().max() > 0.1
    prompts = [r["prompt"] for r in ROWS]
    loaded = CausalStudent.load(tmp_path / "merged", device="cpu")
    assert loaded.generate(prompts, max_new_tokens=8) == student.generate(prompts, max_new_tokens=8)


def test_an_adapter_on_another_base_is_refused(adapted, tmp_path):
    student, folder = adapted
    other = tiny_llama(TOKENIZER, seed=5)
    with pytest.raises(ConfigError, match="trained on a base of fingerprint"):
        CausalStudent.load(folder, base=other, device="cpu")
    same = tiny_llama(TOKENIZER)
    again = CausalStudent.load(folder, base=same, device="cpu")
    torch.testing.assert_close(logits(again.model), logits(student.model))
    with pytest.raises(DataError, match="expected the folder of a causal student"):
        CausalStudent.load(tmp_path)


def test_answers_do_not_depend_on_their_batch(adapted):
    student, _ = adapted
    prompts = ["who is ada?", "a", "where is that lovely song of madrid and paris?", "what"]
    alone = [student.generate([p], max_new_tokens=10)[0] for p in prompts]
    assert student.generate(prompts, max_new_tokens=10, batch_size=3) == alone
    assert student.generate([]) == []
    # Transformers' own, without padding, gives the same.
    ids = torch.tensor([TOKENIZER(prompts[2])["input_ids"]])
    out = student.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False,
        pad_token_id=0,
    )  # fmt: skip
    own = TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert own == alone[2]


def test_prompts_that_cannot_be_are_said(adapted):
    student, _ = adapted
    with pytest.raises(DataError, match="row 1: an empty prompt"):
        student.generate(["a", ""])
    with pytest.raises(DataError, match="the last user, got user, assistant"):
        student.generate(
            [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]
        )
    with pytest.raises(ConfigError, match="expected positive numbers"):
        student.generate(["a"], max_new_tokens=0)
    with pytest.raises(DataError, match="as many answers as prompts"):
        rows_from_answers(["a"], [])
