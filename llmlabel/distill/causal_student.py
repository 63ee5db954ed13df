"""A trained causal language model: generates, is saved, loaded and merged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llmlabel.distill.causal_data import Encoder
from llmlabel.distill.causal_rows import Row, chat_text, check_messages
from llmlabel.distill.folders import read_object, write_json
from llmlabel.distill.peft_quiet import as_peft_does
from llmlabel.errors import ConfigError, DataError
from llmlabel.extras import need_packages

__all__ = ["FILE", "KIND", "CausalStudent", "base_name"]

KIND: Final = "causal-lm"
_FORMAT: Final = 1
FILE: Final = "llmlabel.json"
_ADAPTER: Final = "adapter_config.json"


@dataclass(frozen=True, eq=False)
class CausalStudent:
    """A trained causal language model; `fit_causal` makes one.

    Parameters
    ----------
    model
        A transformers model, or peft's around one.
    tokenizer
        Its tokenizer.
    base
        Name or folder of the model that was trained, or None where it was given loaded and
        has no name.
    base_fingerprint
        The sha256 (hex) of that model's weights before training.
    facts
        How it was fitted, for `describe`.
    meta
        Whatever the caller wants kept with it.
    """

    model: Any
    tokenizer: Any
    base: str | None
    base_fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_adapter(self) -> bool:
        """Whether it is an adapter on its base, or a model of its own."""
        return hasattr(self.model, "peft_config")

    def generate(
        self,
        prompts: Sequence[str | Sequence[Row]],
        *,
        max_new_tokens: int = 128,
        batch_size: int = 16,
    ) -> list[str]:
        """Return the greedy answers to prompts, without special tokens.

        Prompts are computed in batches of like length, padded on the left.

        Parameters
        ----------
        prompts
            n texts, continued as they are; or n conversations, each a list of messages that
            ends with the user's.
        max_new_tokens
            Where an answer is cut that has not ended.
        batch_size
            Prompts computed at once.

        Raises
        ------
        DataError
            Messages of another form, or an empty prompt where no first token stands for it.
        ConfigError
            Messages for a tokenizer without a chat template, or a limit that is not positive.
        """
        from llmlabel.distill.causal_torch import generate

        if max_new_tokens < 1 or batch_size < 1:
            raise ConfigError("max_new_tokens, batch_size: expected positive numbers")
        encoder = Encoder(self.tokenizer)
        ids = []
        for i, prompt in enumerate(prompts):
            if isinstance(prompt, str):
                ids.append(encoder.prompt(prompt))
            else:
                check_messages(prompt, i, ends_with="user")
                text = chat_text(self.tokenizer, prompt, i, prompt=True)
                ids.append(encoder.plain([text])[0])
            if not ids[-1]:
                raise DataError("an empty prompt, expected at least one token", row=i)
        return generate(self.model, self.tokenizer, ids, max_new_tokens, batch_size)

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the student, as plain data."""
        return {"kind": KIND, "base": self.base, "adapter": self.has_adapter, **self.facts}

    def save(self, folder: str | Path) -> None:
        """Write adapter or model, tokenizer and ``llmlabel.json`` into a folder.

        An adapter is saved alone and its base is named: `load` needs the base again. No pickle.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Gone first and written last: a folder without it holds no student. An adapter's
        # config that stayed would be loaded on top of a whole model.
        for name in (FILE, _ADAPTER, "config.json"):
            (folder / name).unlink(missing_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_json(folder / FILE, self._config())

    def _config(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "format": _FORMAT,
            "llmlabel": version("llmlabel"),
            "base": self.base,
            "base_fingerprint": self.base_fingerprint,
            "adapter": self.has_adapter,
            "dtype": _dtype(self.model),
            "facts": dict(self.facts),
            "meta": dict(self.meta),
        }

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        base: Any = None,
        device: str = "auto",
        dtype: str | None = None,
    ) -> CausalStudent:
        """Read what `save` wrote.

        Parameters
        ----------
        folder
            The student's folder.
        base
            The model under an adapter: a name, a folder or a loaded model, to which the
            adapter is then added in place; by default the named one.
        device, dtype
            Where and in which precision it is loaded; by default that of the training. In
            another one, a base cannot be told from another.

        Raises
        ------
        DataError
            The folder holds no causal student of this format.
        ConfigError
            The base cannot be found, or is not the one of the training.
        MissingExtraError
            torch, transformers or peft is not installed.
        """
        folder = Path(folder)
        config = _read(folder)
        packages = ["torch", "transformers", *(["peft"] if config["adapter"] else [])]
        need_packages("a causal student", *packages, extra="peft")
        from llmlabel.distill.causal_torch import load_model, load_tokenizer, model_fingerprint

        if config["adapter"]:
            name = config["base"] if base is None else base
            if name is None:
                raise ConfigError(f"{folder}: the adapter's base has no name: give base=")
            model = load_model(name, device, dtype or config["dtype"])
            found = model_fingerprint(model)
            if _dtype(model) == config["dtype"] and found != config["base_fingerprint"]:
                raise ConfigError(
                    f"{folder}: the adapter was trained on a base of fingerprint "
                    f"{config['base_fingerprint'][:12]}, got {base_name(name)} of {found[:12]}",
                    hint="give the base of the training, or train the student anew",
                )
            model = _with_adapter(model, folder)
        else:
            model = load_model(folder, device, dtype or config["dtype"])
        return cls(
            model=model.eval(),
            tokenizer=load_tokenizer(folder),
            base=config["base"],
            base_fingerprint=config["base_fingerprint"],
            facts=config["facts"],
            meta=config["meta"],
        )

    def merge(self, folder: str | Path) -> CausalStudent:
        """Add the adapter to the base's weights and save a plain transformers folder.

        This student stays as it is: a copy is merged, so that memory for a second model is
        needed. What `AutoModelForCausalLM.from_pretrained` reads from the folder needs
        neither peft nor llmlabel.

        Returns
        -------
        The merged student.
        """
        model = copy.deepcopy(self.model)
        if self.has_adapter:
            model = model.merge_and_unload()
        merged = CausalStudent(
            model=model.eval(),
            tokenizer=self.tokenizer,
            base=self.base,
            base_fingerprint=self.base_fingerprint,
            facts=self.facts,
            meta=self.meta,
        )
        merged.save(folder)
        return merged


def base_name(model: Any) -> str | None:
    """Return a model's name, or the whole path of its folder; None where it has neither."""
    name = str(model if isinstance(model, str | Path) else getattr(model, "name_or_path", ""))
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name or None


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    with as_peft_does():
        return PeftModel.from_pretrained(model, str(folder))


def _read(folder: Path) -> dict[str, Any]:
    file = folder / FILE
    config = read_object(file)
    if config is None:
        raise DataError("no such file; expected the folder of a causal student", file=file)
    if (config.get("kind"), config.get("format")) != (KIND, _FORMAT):
        raise DataError(
            f"expected a {KIND!r} student of format {_FORMAT}, got {config.get('kind')!r} of "
            f"format {config.get('format')}",
            file=file,
        )
    return config
