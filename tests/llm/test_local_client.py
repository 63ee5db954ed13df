"""Local models: a tiny Llama made here, scored and generated from, without network."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmlabel.errors import ClientError, ConfigError, UnknownNameError
from llmlabel.llm import Cache, Failure, Request, complete_all, load_prompt, parse_answer
from llmlabel.llm.confidence import class_probabilities
from llmlabel.llm.local_client import LocalClient
from llmlabel.schema import Task

for package in ("torch", "transformers", "tokenizers"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package} (llmlabel[local])", allow_module_level=True)

TASK = Task("spam", {"HAM": "a real remark", "SPAM": "promotion"})
SAYS = ['{"label":', ' "HAM",', ' "confidence":', " 0.75}", " and"]


def tiny(folder, **arguments):
    sys.path.insert(0, str(Path(__file__).parent))
    from tiny_model import save_tiny_model

    return save_tiny_model(folder, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def scoring(folder):
    return LocalClient(folder, mode="score")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return LocalClient(tiny(tmp_path_factory.mktemp("trained"), says=SAYS))


def requests(n, **params):
    prompt = load_prompt("classify")
    texts = [f"{'word ' * (i % 9)}{i}" for i in range(n)]
    return [
        prompt.request(TASK, {}, t, f"r{i}", params=params or None) for i, t in enumerate(texts)
    ]


def reference(model, request):
    """Score one request's classes alone, as text, one sequence at a time."""
    import torch

    chat = model._chat(request.messages)
    names = ["HAM", "SPAM", "UNSURE"]
    endings = [f'{{"label": "{name}",' for name in names]
    tails = [model._tokenizer(e)["input_ids"] for e in endings]
    head = model._tokenizer(chat)["input_ids"]
    out = []
    for tail in tails:
        ids = torch.tensor([head + tail])
        with torch.inference_mode():
            log_p = model._model(input_ids=ids).logits[0].log_softmax(-1)
        at = range(len(head), len(head) + len(tail))
        out.append(sum(float(log_p[i - 1, ids[0, i]]) for i in at))
    p = np.exp(np.array(out) - max(out))
    return p / p.sum()


def test_scores_are_those_of_each_sequence_alone(scoring):
    asked = requests(23)
    answers = complete_all(asked, scoring)
    for request, answer in zip(asked, answers, strict=True):
        found = class_probabilities(answer, "label", ["HAM", "SPAM", "UNSURE"])
        np.testing.assert_allclose(found, reference(scoring._model, request), atol=1e-4)
        parsed = parse_answer(answer.text, request.schema)
        assert parsed["label"] == ["HAM", "SPAM", "UNSURE"][found.argmax()]
        assert parsed["confidence"] == pytest.approx(found.max(), abs=1e-5)
        assert answer.usage.completion_tokens == 0
        assert answer.usage.prompt_tokens > 50


@pytest.mark.parametrize("seed", range(4))
def test_the_shared_prefix_changes_no_score(scoring, seed):
    rng = np.random.default_rng(seed)
    scorer = scoring._model.scorer
    system = rng.integers(5, 300, 40).tolist()
    prompts = [system + rng.integers(5, 300, rng.integers(1, 30)).tolist() for _ in range(17)]
    endings = [
        [rng.integers(5, 300, size).tolist() for size in rng.integers(1, 5, 3)] for _ in prompts
    ]
    before = scorer.prefixes_computed
    cached = np.array(scorer(prompts, endings))
    assert scorer.prefixes_computed == before + 1  # however many batches it takes
    np.testing.assert_allclose(cached, scorer.plain(prompts, endings), atol=1e-4)
    again = np.array(scorer(prompts[::-1], endings[::-1]))
    assert scorer.prefixes_computed == before + 1
    np.testing.assert_allclose(again[::-1], cached, atol=1e-4)


def test_small_batches_give_the_same_answers(folder, scoring):
    asked = requests(12)
    small = LocalClient(folder, mode="score", batch_size=2, batch_tokens=300)
    for a, b in zip(complete_all(asked, scoring), complete_all(asked, small), strict=True):
        np.testing.assert_allclose(
            class_probabilities(a, "label", TASK.names),
            class_probabilities(b, "label", TASK.names),
            atol=1e-4,
        )
    assert small._model.scorer.prefixes_computed == 1


def test_several_fields_are_scored_one_after_the_other(scoring):
    fields = {
        "first": {"type": "string", "enum": ["yes", "no"]},
        "second": {"type": "string", "enum": ["buy", "song", "video"]},
    }
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    asked = [replace(r, schema=schema) for r in requests(5)]
    for answer in complete_all(asked, scoring):
        assert list(parse_answer(answer.text, schema)) == ["first", "second"]
        assert class_probabilities(answer, "second", ["buy", "song", "video"]).max() > 1 / 3


def test_generation_stops_where_the_json_object_is_whole(trained):
    asked = requests(9)
    for request, answer in zip(asked, complete_all(asked, trained), strict=True):
        assert answer.text == "".join(SAYS[:4])
        assert answer.finish_reason == "stop"
        assert parse_answer(answer.text, request.schema) == {"label": "HAM", "confidence": 0.75}
    free = [replace(r, schema=None) for r in requests(2, max_tokens=15)]
    assert all(a.finish_reason == "length" for a in complete_all(free, trained))
    assert all(a.usage.completion_tokens == 15 for a in complete_all(free, trained))


def test_generated_tokens_carry_logprobs(trained):
    [answer] = complete_all(requests(1, logprobs=True, top_logprobs=5, max_tokens=40), trained)
    assert "".join(t["token"] for t in answer.logprobs) == answer.text
    assert all(len(t["top_logprobs"]) == 5 for t in answer.logprobs)
    found = class_probabilities(answer, "label", TASK.names)
    assert found[0] > 0.9  # it says HAM to everything
    [bare] = complete_all(requests(1), trained)
    assert bare.logprobs is None


def test_batching_changes_no_greedy_answer_and_sampling_follows_the_seed(folder):
    client = LocalClient(folder)
    asked = requests(7, max_tokens=8)
    together = [a.text for a in complete_all(asked, client)]
    alone = [complete_all([r], client)[0].text for r in asked]
    assert together == alone
    hot = requests(3, max_tokens=8, temperature=1.0, seed=1)
    first = [a.text for a in complete_all(hot, client)]
    assert first == [a.text for a in complete_all(hot, client)]
    assert first != [a.text for a in complete_all([replace(r, sample=1) for r in hot], client)]


def test_calls_are_gathered_and_answers_go_through_the_cache(folder, tmp_path):
    client = LocalClient(folder, mode="score")
    sizes = []
    model = client._model
    answer = model.answer
    model.answer = lambda requests: sizes.append(len(requests)) or answer(requests)
    asked = requests(40)
    with Cache(tmp_path / "c.sqlite") as cache:
        first = complete_all(asked, client, cache=cache, max_in_flight=40)
        assert sizes == [40]
        second = complete_all(asked, client, cache=cache)
        assert sizes == [40]
    assert [a.text for a in second] == [a.text for a in first]
    assert [a.logprobs for a in second] == [a.logprobs for a in first]


def test_no_template_and_no_system_role(tmp_path):
    bare = LocalClient(tiny(tmp_path / "bare", template=None), mode="score")
    assert bare._model._chat(requests(1)[0].messages).endswith("User: 0\n\nAssistant:")
    assert len(complete_all(requests(3), bare)) == 3
    strict = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
    )
    merged = LocalClient(tiny(tmp_path / "strict", template=strict), mode="score")
    chat = merged._model._chat(requests(1)[0].messages)
    assert chat.startswith("<|user|>You label texts")
    assert chat.endswith("\n\n0<|assistant|>")


def test_a_row_that_is_too_long_fails_alone(scoring):
    asked = requests(3)
    long = replace(asked[1], messages=[{"role": "user", "content": "word " * 600}])
    found = complete_all([asked[0], long, asked[2]], scoring)
    assert isinstance(found[1], Failure)
    assert "takes 512" in found[1].reason
    assert not isinstance(found[0], Failure) and not isinstance(found[2], Failure)


def test_what_it_cannot_do_is_said(folder, scoring, tmp_path):
    with pytest.raises(ClientError, match="takes no parameter 'presence_penalty'"):
        complete_all(requests(1, presence_penalty=1), scoring)
    with pytest.raises(ClientError, match="temperature has to be 0"):
        complete_all(requests(1, temperature=1), scoring)
    free = Request("r", "m", [{"role": "user", "content": "x"}])
    with pytest.raises(ClientError, match="needs an answer schema"):
        complete_all([free], scoring)
    with pytest.raises(UnknownNameError, match="unknown mode 'scores', did you mean 'score'"):
        LocalClient(folder, mode="scores")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="cannot load the local model"):
        complete_all(requests(1), LocalClient(tmp_path / "empty"))


def test_the_provider_is_the_content_of_the_folder(folder, tmp_path):
    names = {
        LocalClient(folder).provider,
        LocalClient(folder, mode="score").provider,
        LocalClient(folder, dtype="bfloat16").provider,
        LocalClient(tiny(tmp_path / "other", template=None)).provider,
    }
    assert len(names) == 4
    assert LocalClient("org/model", mode="score").provider == "transformers org/model auto score"
    assert LocalClient(folder, provider="mine").provider == "mine"


def test_leaving_early_ends_the_work(folder):
    async def main():
        client = LocalClient(folder, mode="score")
        async with client:
            task = asyncio.create_task(client.complete(requests(1)[0]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with client:  # and again, in the same loop
            return await client.complete(requests(1)[0])

    assert asyncio.run(main()).text.startswith('{"label"')


def test_the_client_itself_imports_no_torch():
    code = (
        "import sys; from llmlabel.llm.local_client import LocalClient; "
        "LocalClient('org/model').provider; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
