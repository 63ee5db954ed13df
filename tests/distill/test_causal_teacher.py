"""A teacher: its divergence, computed along or stored, and what is stored surviving a kill."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.distill.causal import fit_causal, store_teacher_logits
from llmlabel.distill.causal_data import collate, encode_rows
from llmlabel.distill.teacher_logits import TeacherLogits
from llmlabel.errors import ConfigError, DataError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_causal import save_tiny, tiny_llama, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)  # two that spin on a busy machine make it ten times slower

from llmlabel.distill.causal_torch import (  # noqa: E402
    kl_full,
    kl_top_k,
    target_logits,
    to_inputs,
    top_k_of,
)

TOKENIZER = tiny_tokenizer()
V = len(TOKENIZER)
ROWS = [
    {"prompt": f"{q} {n}?", "completion": f" {w}"}
    for q in ("who is", "where is")
    for n, w in (("ada", "good"), ("bob", "bad"), ("cleo", "a song"), ("dan", "free gift"))
]
CPU = {"device": "cpu"}
FIT = {"batch_size": 4, "learning_rate": 5e-3, "max_length": 64, **CPU}


def random_logits(seed, t, v, scale):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(t, v, generator=generator) for _ in range(2)]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    v=st.integers(2, 40),
    T=st.sampled_from([0.5, 1.0, 2.0, 7.0]),
    scale=st.sampled_from([0.1, 3.0, 30.0]),
)
def test_the_whole_vocabulary_stored_is_the_teacher_itself_and_less_is_less(seed, v, T, scale):
    student, teacher = random_logits(seed, 5, v, scale)
    student.requires_grad_()
    exact = kl_full(student, teacher, T)
    (gradient,) = torch.autograd.grad(exact.sum(), student)
    for k in range(1, v + 1):
        found = kl_top_k(student, *top_k_of(teacher, k, T), T)
        (found_gradient,) = torch.autograd.grad(found.sum(), student)
        assert torch.isfinite(found_gradient).all()
        assert (found <= exact + 1e-4 * (1 + exact)).all()  # one outcome for many tells less
        assert (found >= -1e-5).all()
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found_gradient, gradient, atol=1e-5, rtol=1e-4)


def test_the_divergence_is_that_of_numpy_and_of_torch():
    student, teacher = random_logits(0, 4, 11, 2.0)
    p, q = (torch.softmax(x.double() / 3, -1).numpy() for x in (teacher, student))
    np.testing.assert_allclose(
        kl_full(student, teacher, 3).numpy(), (p * np.log(p / q)).sum(1), rtol=1e-5
    )
    top = np.argsort(-p, axis=1)[:, :4]
    P, Q = (np.take_along_axis(x, top, 1) for x in (p, q))
    rest = (1 - P.sum(1)) * np.log((1 - P.sum(1)) / (1 - Q.sum(1)))
    np.testing.assert_allclose(
        kl_top_k(student, *top_k_of(teacher, 4, 3), 3).numpy(),
        (P * np.log(P / Q)).sum(1) + rest,
        rtol=1e-4,
    )
    ids, log_p, log_rest = top_k_of(teacher, 4, 3)
    np.testing.assert_array_equal(ids.numpy(), top)
    np.testing.assert_allclose(np.exp(log_p.numpy()).sum(1) + np.exp(log_rest.numpy()), 1, 1e-5)


@pytest.fixture(scope="module")
def teacher():
    return tiny_llama(TOKENIZER, seed=9, width=48, initializer_range=0.4)


def fit(folder, teacher, **more):
    return fit_causal(
        ROWS, model=tiny_llama(TOKENIZER), tokenizer=TOKENIZER, folder=folder, teacher=teacher,
        **{**FIT, **more},
    )  # fmt: skip


def weights(student):
    return torch.cat([w.reshape(-1) for w in student.model.state_dict().values()])


@pytest.mark.parametrize("packing", [False, True])
def test_a_teacher_stored_whole_teaches_what_it_teaches_along(tmp_path, teacher, packing):
    more = {"packing": packing, "epochs": 2}
    stored = store_teacher_logits(
        ROWS, teacher, tmp_path / "stored", tokenizer=TOKENIZER, k=V, max_length=64, batch_size=3,
        chunk_rows=3, **CPU,
    )  # fmt: skip
    along = fit(tmp_path / "along", teacher, **more)
    read = fit(tmp_path / "read", stored, **more)
    torch.testing.assert_close(weights(read), weights(along), atol=2e-5, rtol=1e-4)
    alone = fit(tmp_path / "alone", None, **more)
    assert (weights(alone) - weights(along)).abs().max() > 1e-3
    assert along.facts["teacher_top_k"] is None
    assert read.facts["teacher_top_k"] == V


def test_a_student_taught_by_few_tokens_comes_to_agree_with_its_teacher(tmp_path, teacher):
    stored = store_teacher_logits(
        ROWS, teacher, tmp_path / "stored", tokenizer=TOKENIZER, k=20, temperature=1.0,
        max_length=64, **CPU,
    )  # fmt: skip
    options = {"temperature": 1.0, "alpha": 1.0, "epochs": 60, "learning_rate": 1e-2}
    student = fit(tmp_path / "run", str(stored.folder), **options)
    examples = encode_rows(ROWS, TOKENIZER, max_length=64)
    batch = collate(examples, [np.array([i]) for i in range(len(ROWS))], 0)
    labels = torch.from_numpy(batch["labels"])
    p, q, start = (
        target_logits(m, to_inputs(batch, m, packed=False), labels).softmax(-1).detach()
        for m in (teacher, student.model, tiny_llama(TOKENIZER))
    )
    apart = (p - q).abs().sum(-1).mean() / 2
    before = (p - start).abs().sum(-1).mean() / 2
    assert apart < 0.15 < 0.5 < before


def test_alpha_weighs_teacher_against_answer(tmp_path, teacher):
    stored = store_teacher_logits(
        ROWS, teacher, tmp_path / "stored", tokenizer=TOKENIZER, k=5, max_length=64, **CPU
    )
    none = fit(tmp_path / "0", None, epochs=1)
    nothing = fit(tmp_path / "1", stored, epochs=1, alpha=0.0)
    torch.testing.assert_close(weights(nothing), weights(none), atol=1e-6, rtol=1e-5)


def test_the_loss_is_the_sum_that_the_docstring_says(tmp_path, teacher):
    T, alpha = 2.0, 0.3
    student = fit(
        tmp_path, teacher, temperature=T, alpha=alpha, epochs=1, batch_size=len(ROWS),
        learning_rate=1e-9,
    )  # fmt: skip
    examples = encode_rows(ROWS, TOKENIZER, max_length=64)
    batch = collate(examples, [np.array([i]) for i in range(len(ROWS))], 0)
    labels = torch.from_numpy(batch["labels"])
    model = tiny_llama(TOKENIZER)
    with torch.no_grad():
        ours, theirs = (
            target_logits(m, to_inputs(batch, m, packed=False), labels) for m in (model, teacher)
        )
    goals = labels[:, 1:][labels[:, 1:] != -100]
    ce = torch.nn.functional.cross_entropy(ours, goals)
    kl = torch.nn.functional.kl_div(
        torch.log_softmax(ours / T, -1),
        torch.log_softmax(theirs / T, -1),
        log_target=True,
        reduction="batchmean",
    )
    assert student.facts["loss"] == pytest.approx(float(alpha * T**2 * kl + (1 - alpha) * ce), 1e-4)


def test_a_kill_loses_one_chunk_at_most(tmp_path, teacher, monkeypatch):
    from llmlabel.distill import causal_torch

    options = {"tokenizer": TOKENIZER, "k": 4, "max_length": 64, "chunk_rows": 2, **CPU}
    whole = store_teacher_logits(ROWS, teacher, tmp_path / "whole", **options)
    computed, real = [], causal_torch.teacher_top_k

    def dies(model, batch, *rest):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(batch["labels"]))
        return real(model, batch, *rest)

    monkeypatch.setattr(causal_torch, "teacher_top_k", dies)
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        store_teacher_logits(ROWS, teacher, folder, **options)
    with pytest.raises(DataError, match="2 of 4 chunks are missing"):
        TeacherLogits.load(folder)
    computed.clear()
    monkeypatch.setattr(causal_torch, "teacher_top_k", lambda *a: (computed.append(1), real(*a))[1])
    again = store_teacher_logits(ROWS, teacher, folder, **options)
    assert len(computed) == 2
    for ours, theirs in zip(again.of(range(8)), whole.of(range(8)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_are_found_in_any_order(tmp_path, teacher):
    stored = store_teacher_logits(
        ROWS, teacher, tmp_path, tokenizer=TOKENIZER, k=4, max_length=64, chunk_rows=3, **CPU
    )
    order = [5, 0, 7, 2]
    examples = encode_rows(ROWS, TOKENIZER, max_length=64)
    for i, found in zip(order, np.split(stored.of(order)[1], np.cumsum(stored.targets[order])[:-1]),
                        strict=True):  # fmt: skip
        batch = collate(examples, [np.array([i])], 0)
        with torch.no_grad():
            logits = target_logits(
                teacher, to_inputs(batch, teacher, packed=False), torch.from_numpy(batch["labels"])
            )
        np.testing.assert_allclose(found, top_k_of(logits, 4, 2.0)[1].numpy(), atol=1e-5)


def test_a_teacher_that_does_not_belong_is_said(tmp_path, teacher):
    options = {"tokenizer": TOKENIZER, "k": 4, "max_length": 64, **CPU}
    stored = store_teacher_logits(ROWS, teacher, tmp_path / "stored", **options)
    with pytest.raises(ConfigError, match="stored for another temperature: 2.0, expected 3"):
        fit(tmp_path / "run", stored, temperature=3)
    with pytest.raises(ConfigError, match="stored for another rows$"):
        fit_causal(
            ROWS[1:], model=tiny_llama(TOKENIZER), tokenizer=TOKENIZER, folder=tmp_path / "run",
            teacher=stored, **FIT,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="holds a teacher's logits with other k, temperature"):
        store_teacher_logits(
            ROWS, teacher, tmp_path / "stored", **{**options, "k": 5, "temperature": 1.0}
        )
    with pytest.raises(ConfigError, match=rf"expected k in 1..{V} and a positive"):
        store_teacher_logits(ROWS, teacher, tmp_path / "other", **{**options, "k": V + 1})
    other = save_tiny(tmp_path / "other", merges=3)
    with pytest.raises(ConfigError, match="its tokenizer has another vocabulary"):
        fit(tmp_path / "run", other)
    with pytest.raises(DataError, match="expected a teacher's stored logits"):
        TeacherLogits.load(tmp_path)


def test_models_of_wider_outputs_are_compared_where_there_are_tokens(tmp_path):
    wide = tiny_llama(TOKENIZER, seed=9, vocab_size=V + 16)
    student = fit(tmp_path, wide, epochs=1)
    assert np.isfinite(student.facts["loss"])
