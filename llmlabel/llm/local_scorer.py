"""Log-probabilities of given endings after given prompts, with the prompts' shared part computed once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

__all__ = ["Scorer", "common_prefix"]

Ids = Sequence[int]
FloatArray = npt.NDArray[np.float64]

_LEAST_SHARED: Final = 8
_MOST_LOGITS: Final = 1 << 27
"""Of one batch: half a gigabyte."""
_MISSED: Final = 32
"""A kept prefix is used although so many more tokens are shared: no second is computed."""


def common_prefix(sequences: Sequence[Ids]) -> int:
    """Return how many leading tokens all sequences share.

    Examples
    --------
    >>> common_prefix([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    first, last = min(map(list, sequences)), max(map(list, sequences))
    n = min(len(first), len(last))
    return next((i for i in range(n) if first[i] != last[i]), n)


@dataclass(frozen=True)
class _Prefix:
    """Tokens, and their keys and values in each layer, for one sequence."""

    ids: tuple[int, ...]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]


class Scorer:
    """Scores endings by a causal language model.

    Parameters
    ----------
    model
        In eval mode.
    batch_tokens
        The most padded tokens computed at once.
    """

    def __init__(self, model: PreTrainedModel, batch_tokens: int) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        # Renamed in transformers 5.2x; both names are in use.
        named = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in named else "past_key_values"
        self._prefix: _Prefix | None = None
        self.prefixes_computed = 0

    @torch.inference_mode()
    def __call__(
        self, prompts: Sequence[Ids], endings: Sequence[Sequence[Ids]]
    ) -> list[FloatArray]:
        """Return the sum of log-probabilities of each ending's tokens after its prompt.

        Parameters
        ----------
        prompts
            Token ids, at least one per prompt.
        endings
            For each prompt the same number k of endings of at least one token.

        Returns
        -------
        One array of shape (k,) per prompt, natural logarithms.
        """
        prefix = self._shared(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        out: list[FloatArray] = [np.empty(0)] * len(prompts)
        at = 0
        while at < len(order):
            size = self._fits([prompts[i] for i in order[at:]], endings[order[at]], prefix)
            part = order[at : at + size]
            some, theirs = [prompts[i] for i in part], [endings[i] for i in part]
            if prefix is None:
                scores = self.plain(some, theirs)
            else:
                scores = self._after(prefix, some, theirs)
            for i, row in zip(part, scores, strict=True):
                out[i] = row
            at += size
        return out

    def _fits(self, prompts: Sequence[Ids], endings: Sequence[Ids], prefix: _Prefix | None) -> int:
        """Return how many of the prompts, sorted by length, make the next batch."""
        longest = max(map(len, endings))
        n = 0
        for prompt in prompts:
            if prefix is None:
                tokens = len(endings) * (len(prompt) + longest)
            else:  # what is computed, and a part for the kept keys and values, which take room
                own = len(prompt) - len(prefix.ids) + len(endings) * (longest - 1)
                tokens = own + len(prefix.ids) // 8
            if n and (n + 1) * tokens > self._batch_tokens:
                break
            n += 1
        per_row = (
            len(endings) * (longest + 1) * int(self._model.config.get_text_config().vocab_size)
        )
        return max(1, min(n, _MOST_LOGITS // per_row))

    def _after(
        self, prefix: _Prefix, prompts: Sequence[Ids], endings: Sequence[Sequence[Ids]]
    ) -> FloatArray:
        done = len(prefix.ids)
        cache = _expanded(prefix, len(prompts))
        ids, mask = _left_padded([p[done:] for p in prompts], self._model.device)
        known = torch.ones((len(prompts), done), dtype=torch.long, device=mask.device)
        mask = torch.cat([known, mask], dim=1)
        logits = self._forward(ids, mask, cache, keep=1).logits[:, -1]
        first = torch.log_softmax(logits.float(), dim=-1)
        heads = torch.tensor([[e[0] for e in row] for row in endings], device=first.device)
        scores = first.gather(1, heads)
        if max(len(e) for row in endings for e in row) > 1:
            scores = scores + self._rest(endings, mask, cache)
        return np.asarray(scores.double().cpu().numpy())

    def _rest(
        self, endings: Sequence[Sequence[Ids]], mask: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Return the sums over the tokens behind each ending's first, shape (n, k).

        A row's endings stand in one sequence behind its prompt, and each sees the
        prompt and itself alone: the prompt's keys and values are there once.
        """
        n, k = len(endings), len(endings[0])
        width = max(len(e) for row in endings for e in row) - 1
        padded = [[[*e, *[0] * (width + 1 - len(e))] for e in row] for row in endings]
        ids = torch.tensor(padded, device=mask.device)
        lengths = torch.tensor([[len(e) for e in row] for row in endings], device=mask.device)
        place = torch.arange(width, device=mask.device)
        one = torch.ones((width, width), dtype=torch.long, device=mask.device).tril()
        each = torch.eye(k, dtype=torch.long, device=mask.device)
        own = torch.kron(each, one).bool().expand(n, -1, -1)
        prompt = mask.bool()[:, None, :].expand(-1, k * width, -1)
        seen = torch.cat([prompt, own], dim=2)[:, None]
        dtype = self._model.dtype
        hidden = torch.zeros(seen.shape, dtype=dtype, device=mask.device)
        hidden.masked_fill_(~seen, torch.finfo(dtype).min)
        logits = self._model(
            input_ids=ids[:, :, :-1].reshape(n, -1),
            attention_mask=hidden,
            position_ids=mask.sum(dim=1, keepdim=True) + place.repeat(k),
            use_cache=True,
            **{self._cache_name: cache},
        ).logits
        gained = _log_p(logits.view(n, k, width, -1), ids[:, :, 1:])
        return (gained * (place + 1 < lengths[:, :, None])).sum(dim=2)

    @torch.inference_mode()
    def plain(self, prompts: Sequence[Ids], endings: Sequence[Sequence[Ids]]) -> FloatArray:
        """Return the same without any cache: each prompt is read again with each ending."""
        device = self._model.device
        whole = [[*p, *e] for p, row in zip(prompts, endings, strict=True) for e in row]
        lengths = torch.tensor([len(e) for row in endings for e in row], device=device)
        longest = int(lengths.max())
        ids, mask = _left_padded(whole, device)
        logits = self._forward(ids, mask, None, keep=longest + 1).logits[:, -longest - 1 : -1]
        gained = _log_p(logits, ids[:, -longest:])
        behind = torch.arange(longest, 0, -1, device=device)  # tokens up to the end, its own too
        total = (gained * (behind <= lengths[:, None])).sum(dim=1)
        return np.asarray(total.view(len(prompts), -1).double().cpu().numpy())

    def _shared(self, prompts: Sequence[Ids]) -> _Prefix | None:
        """Return the kept prefix where it serves these prompts, else a new one where one helps."""
        # Each prompt keeps a token of its own, whose logits are needed.
        most = min(common_prefix(prompts), min(map(len, prompts)) - 1)
        kept = self._prefix
        if (
            kept is not None
            and most - _MISSED <= len(kept.ids) <= most
            and tuple(prompts[0][: len(kept.ids)]) == kept.ids
        ):
            return kept
        if most < _LEAST_SHARED or len(prompts) == 1:
            return None
        return self._computed(prompts[0][:most])

    def _computed(self, ids: Ids) -> _Prefix | None:
        row = torch.tensor([list(ids)], device=self._model.device)
        cache = self._forward(row, torch.ones_like(row), DynamicCache(), keep=1)[self._cache_name]
        # A sliding window counts padding as tokens: such models are read plainly.
        if not all(type(layer) is DynamicLayer for layer in cache.layers):
            return None
        layers = tuple((layer.keys, layer.values) for layer in cache.layers)
        self._prefix = _Prefix(tuple(ids), layers)
        self.prefixes_computed += 1
        return self._prefix

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache | None, *, keep: int
    ) -> Any:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=cache is not None,
            logits_to_keep=keep,
            **({} if cache is None else {self._cache_name: cache}),
        )


def _log_p(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each id; no second array of the vocabulary's width."""
    chosen = logits.gather(-1, ids[..., None])[..., 0]
    return chosen.float() - logits.float().logsumexp(dim=-1)


def _expanded(prefix: _Prefix, n: int) -> DynamicCache:
    cache = DynamicCache()
    for i, (keys, values) in enumerate(prefix.layers):
        cache.update(keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1), i)
    return cache


def _left_padded(
    sequences: Sequence[Ids], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, sequences))
    ids = torch.tensor([[*[0] * (width - len(s)), *s] for s in sequences], device=device)
    mask = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences], device=device)
    return ids, mask
