"""The part of `LocalClient` that computes: tokens, batches, generation. Imports torch."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from jinja2.exceptions import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)

from llmlabel.errors import ClientError, ConfigError
from llmlabel.io import canonical_json
from llmlabel.llm.local_scorer import Scorer, common_prefix
from llmlabel.llm.scored_answer import ScoredAnswer
from llmlabel.llm.types import Message, Request, Response, Usage

__all__ = ["LocalModel"]

_MAX_TOKENS: Final = 256
_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_PARAMS: Final = frozenset({"temperature", "top_p", "seed", "logprobs", "top_logprobs", *_LIMITS})


class LocalModel:
    """A loaded model with its tokenizer; see `LocalClient`."""

    def __init__(
        self,
        name: str,
        *,
        score: bool,
        device: str,
        dtype: str,
        batch_size: int,
        batch_tokens: int,
    ) -> None:
        where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
            model = model.to(where)
        except (OSError, ValueError, RuntimeError) as error:
            words = str(error).strip().splitlines()[0]
            raise ConfigError(f"cannot load the local model {name!r}: {words}") from error
        self._name = name
        self._model: Any = model.eval()
        self._score = score
        self._longest: dict[str, int] = {}
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._most_tokens = getattr(model.config, "max_position_embeddings", None)
        self._pad = next(
            (i for i in (self._tokenizer.pad_token_id, *self._eos) if i is not None), 0
        )
        closing = [i for t, i in self._tokenizer.get_vocab().items() if "}" in t]
        self._closing = torch.tensor(closing, dtype=torch.long, device=model.device)
        self.scorer = Scorer(model, batch_tokens)

    def answer(self, requests: Sequence[Request]) -> list[Response | ClientError]:
        """Answer requests; each with a response or with what is wrong with it."""
        results: list[Response | ClientError | None] = [None] * len(requests)
        alike: dict[str, list[int]] = defaultdict(list)
        prompts: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            try:
                prompts[i] = self._prompt(request)
            except ClientError as error:
                results[i] = error
                continue
            how = request.schema if self._score else [dict(request.params), request.sample]
            alike[canonical_json(how)].append(i)
        answer = self._scored if self._score else self._generated
        for rows in alike.values():
            # Scores are batched where they are computed, behind the part that all share.
            for part in [rows] if self._score else self._parts(rows, prompts):
                asked = [requests[i] for i in part]
                for i, done in zip(part, answer(asked, [prompts[j] for j in part]), strict=True):
                    results[i] = done
        return [r for r in results if r is not None]

    def _parts(self, rows: Sequence[int], prompts: Mapping[int, list[int]]) -> list[list[int]]:
        """Split rows, sorted by length, into what is generated at once."""
        parts: list[list[int]] = []
        for i in sorted(rows, key=lambda i: len(prompts[i])):
            full = not parts or len(parts[-1]) >= self._batch_size
            if full or (len(parts[-1]) + 1) * len(prompts[i]) > self._batch_tokens:
                parts.append([])
            parts[-1].append(i)
        return parts

    def _prompt(self, request: Request) -> list[int]:
        """Return the chat as tokens, up to where the answer begins."""
        unknown = sorted(request.params.keys() - _PARAMS)
        if unknown:
            raise ClientError(f"a local model takes no parameter {unknown[0]!r}", fatal=True)
        if self._score and request.params.get("temperature"):
            raise ClientError("mode 'score' samples nothing: temperature has to be 0", fatal=True)
        ids: list[int] = self._tokens(self._chat(request.messages))
        room = self._longest_answer(request) if self._score else self._limit(request)
        if self._most_tokens is not None and len(ids) + room > self._most_tokens:
            raise ClientError(
                f"the prompt has {len(ids)} tokens and asks for {room} more; "
                f"{self._name} takes {self._most_tokens}"
            )
        return ids

    def _longest_answer(self, request: Request) -> int:
        key = canonical_json(request.schema)
        if key not in self._longest:
            answer = ScoredAnswer(request.schema)  # says what cannot be scored
            while not answer.done:
                answer.choose([len(e) for e in answer.endings])
            self._longest[key] = len(self._tokens(answer.text))
        return self._longest[key]

    def _chat(self, messages: Sequence[Message]) -> str:
        if self._tokenizer.chat_template is None:
            said = "".join(f"{m['role'].capitalize()}: {m['content']}\n\n" for m in messages)
            return f"{said}Assistant:"
        try:
            return self._templated(messages)
        except TemplateError:
            # Some templates know no system message: it then opens the first of the user.
            if messages[0]["role"] != "system" or len(messages) < 2:
                raise
            text = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            return self._templated([{"role": "user", "content": text}, *messages[2:]])

    def _templated(self, messages: Sequence[Message]) -> str:
        # Scored answers begin where the prompt ends: no room for thoughts.
        more = {"enable_thinking": False} if self._score else {}
        text: str = self._tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=True, **more
        )
        return text

    def _tokens(self, text: str) -> list[int]:
        # A template writes its special tokens itself; without one, the tokenizer adds its own.
        special = self._tokenizer.chat_template is None
        ids: list[int] = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids or [self._pad]

    def _endings(self, text: str, endings: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Tokenise text and endings as one; return what all begin with, and the rest of each."""
        tails: list[list[int]] = [
            self._tokenizer(text + e, add_special_tokens=False)["input_ids"] for e in endings
        ]
        shared = min(common_prefix(tails), min(map(len, tails)) - 1)
        return tails[0][:shared], [t[shared:] for t in tails]

    def _scored(
        self, requests: Sequence[Request], prompts: Sequence[list[int]]
    ) -> list[Response | ClientError]:
        started = time.perf_counter()
        answers = [ScoredAnswer(r.schema) for r in requests]
        while not answers[0].done:  # one schema: all have the same fields
            known: dict[str, tuple[list[int], list[list[int]]]] = {}
            for a in answers:
                if a.text not in known:
                    known[a.text] = self._endings(a.text, a.endings)
            before = [[*p, *known[a.text][0]] for p, a in zip(prompts, answers, strict=True)]
            scores = self.scorer(before, [known[a.text][1] for a in answers])
            for a, row in zip(answers, scores, strict=True):
                a.choose(row)
        took = time.perf_counter() - started
        return [
            self._response(a.text, "stop", len(p), 0, took, a.logprobs)
            for a, p in zip(answers, prompts, strict=True)
        ]

    def _response(
        self,
        text: str,
        reason: str,
        prompt_tokens: int,
        completion_tokens: int,
        took: float,
        logprobs: Sequence[Mapping[str, Any]] | None,
    ) -> Response:
        return Response(
            text=text,
            model=self._name,
            finish_reason=reason,
            usage=Usage(prompt_tokens, completion_tokens),
            logprobs=logprobs,
            latency_s=took,
            created=int(time.time()),
        )

    def _limit(self, request: Request) -> int:
        return int(next((request.params[k] for k in _LIMITS if k in request.params), _MAX_TOKENS))

    @property
    def _eos(self) -> list[int]:
        found = self._model.generation_config.eos_token_id
        if found is None:
            found = self._tokenizer.eos_token_id
        return [] if found is None else found if isinstance(found, list) else [found]

    def _config(self, request: Request) -> GenerationConfig:
        temperature = request.params.get("temperature", 0)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature:
            top_p = request.params.get("top_p", 1.0)
            sampling = {"do_sample": True, "temperature": float(temperature), "top_p": float(top_p)}
            sampling["top_k"] = 0
        make: Any = GenerationConfig
        config: GenerationConfig = make(
            max_new_tokens=self._limit(request),
            eos_token_id=self._eos or None,
            pad_token_id=self._pad,
            output_logits=bool(request.params.get("logprobs")),
            return_dict_in_generate=True,
            **sampling,
        )
        return config

    @torch.inference_mode()
    def _generated(
        self, requests: Sequence[Request], prompts: Sequence[list[int]]
    ) -> list[Response | ClientError]:
        started = time.perf_counter()
        first = requests[0]  # one set of parameters
        width = max(map(len, prompts))
        ids = torch.tensor([[*[self._pad] * (width - len(p)), *p] for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        stops = StoppingCriteriaList()
        if first.schema is not None:
            stops.append(_JsonEnd(self._tokenizer, self._closing, width, len(prompts)))
        with torch.random.fork_rng():  # who else draws numbers here is not disturbed
            torch.manual_seed(hash((first.params.get("seed", 0), first.sample)) % 2**63)
            out = self._model.generate(
                ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=self._config(first),
                stopping_criteria=stops,
            )
        took = time.perf_counter() - started
        written: list[list[int]] = out.sequences[:, width:].tolist()
        ends = stops[0].ends if stops else [None] * len(prompts)
        results: list[Response | ClientError] = []
        for i, (tokens, prompt) in enumerate(zip(written, prompts, strict=True)):
            own, stopped = self._own(tokens, ends[i])
            text = self._decoded(own)
            logprobs = self._logprobs(first, own, out.logits, i) if out.logits else None
            reason = "stop" if stopped else "length"
            results.append(self._response(text, reason, len(prompt), len(own), took, logprobs))
        return results

    def _own(self, tokens: Sequence[int], end: int | None) -> tuple[list[int], bool]:
        """Return a row's tokens without what fills it up, and whether it came to its end."""
        eos = set(self._eos)
        stop = next((i for i, t in enumerate(tokens) if t in eos), None)
        if end is not None and (stop is None or end <= stop):
            return list(tokens[:end]), True
        return (list(tokens), False) if stop is None else (list(tokens[:stop]), True)

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _logprobs(
        self, request: Request, ids: Sequence[int], logits: Sequence[torch.Tensor], row: int
    ) -> list[dict[str, Any]]:
        """Return the tokens in OpenAI's form; what each adds to the text is its string."""
        top = min(int(request.params.get("top_logprobs", 0)), logits[0].shape[-1])
        out = []
        for at, token in enumerate(ids):
            log_p = torch.log_softmax(logits[at][row].float(), dim=-1)
            before = self._decoded(ids[:at])

            def added(option: int, at: int = at, before: str = before) -> str:
                return self._decoded([*ids[:at], option])[len(before) :]

            best = torch.topk(log_p, top)
            options = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            out.append(
                {
                    "token": added(token),
                    "logprob": float(log_p[token]),
                    "top_logprobs": [{"token": added(i), "logprob": p} for i, p in options],
                }
            )
        return out


class _JsonEnd(StoppingCriteria):
    """Stops each row where its first JSON object is whole."""

    def __init__(self, tokenizer: Any, closing: torch.Tensor, start: int, rows: int) -> None:
        self._tokenizer = tokenizer
        self._closing = closing
        self._start = start
        self.ends: list[int | None] = [None] * rows

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: Any,  # noqa: ARG002 - the protocol's
        **kwargs: Any,  # noqa: ARG002
    ) -> torch.Tensor:
        # Most tokens close nothing and are not read.
        for i in torch.isin(input_ids[:, -1], self._closing).nonzero()[:, 0].tolist():
            if self.ends[i] is None:
                written = input_ids[i, self._start :]
                text = self._tokenizer.decode(written, skip_special_tokens=True)
                if _has_object(text.rpartition("</think>")[2]):
                    self.ends[i] = len(written)
        return torch.tensor([e is not None for e in self.ends], device=input_ids.device)


def _has_object(text: str) -> bool:
    at = text.find("{")
    if at < 0:
        return False
    try:
        json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return False
    return True
