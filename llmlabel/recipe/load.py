"""A recipe file to a checked recipe, with errors that say file, line, path and right name."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llmlabel.errors import ConfigError, did_you_mean, nearest_name
from llmlabel.io import Positions, fingerprint, read_yaml
from llmlabel.io.shipped import shipped_folder
from llmlabel.recipe.config import SPLITS, STEP_CONFIGS, Endpoints, RecipeConfig, Split
from llmlabel.recipe.lf_specs import LF_SPECS
from llmlabel.schema import Task

__all__ = ["Recipe", "json_schema", "load_recipe"]

Made = TypeVar("Made")
Model = TypeVar("Model", bound=BaseModel)
Path_ = Sequence[str | int]
_TAGS = ("step", "lf", "use")


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Parameters
    ----------
    config
        What the file says.
    task
        What is labeled.
    file
        The recipe file; relative paths start at its folder.
    endpoints
        What the ``--config`` file says.
    """

    config: RecipeConfig
    task: Task
    file: Path
    endpoints: Endpoints
    positions: Positions
    config_file: Path | None = None

    @property
    def name(self) -> str:
        """The recipe's name, and its run folder's."""
        return self.config.name

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits of its rows; those drawn from a corpus are for training."""
        data = self.config.data
        return tuple(
            s for s in SPLITS if getattr(data, s) is not None or (s == "train" and data.corpus)
        )

    @property
    def folder(self) -> Path:
        """The folder that relative paths start at."""
        return self.file.parent

    @property
    def fingerprint(self) -> str:
        """The sha256 of all the recipe says."""
        return fingerprint(self.config.model_dump(mode="json"))

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe's as one that can be opened."""
        return (self.folder / Path(path).expanduser()).resolve()

    def located(self, make: Callable[[], Made], *path: str | int) -> Made:
        """Call `make`; put ``file:line`` of a part of the recipe before its `ConfigError`."""
        try:
            return make()
        except ConfigError as error:
            line = self.positions.line(path)
            raise ConfigError(f"{self.file}:{line}: {error}", hint=error.hint) from None


def find_recipe(name: str | Path) -> Path:
    """Return the recipe file of a file, a folder with a recipe.yaml, or a shipped name.

    Raises
    ------
    ConfigError
        There is none; names the nearest shipped recipe.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        inside = path / "recipe.yaml"
        if inside.is_file():
            return inside
        raise ConfigError(f"{path}: the folder holds no recipe.yaml")
    shipped = shipped_folder("recipes")
    known = sorted(p.parent.name for p in shipped.glob("*/recipe.yaml"))
    if str(name) in known:
        return shipped / str(name) / "recipe.yaml"
    close = nearest_name(path.name, known)
    guess = f", did you mean the shipped recipe {close!r}?" if close else ""
    raise ConfigError(f"{name}: no such recipe file or folder{guess} (shipped: {', '.join(known)})")


def load_recipe(name: str | Path, *, config: str | Path | None = None) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    name
        A recipe file, its folder, or the name of a shipped recipe.
    config
        A file that says where things run; see `Endpoints`.

    Raises
    ------
    ConfigError
        Names file, line, path, value and, for an unknown key, the nearest one.
    """
    file = find_recipe(name)
    data, positions = read_yaml(file)
    checked = _validate(RecipeConfig, data, positions, file)
    endpoints = Endpoints.model_validate({})
    if config is not None:
        config = _find_config(Path(config))
        where_data, where_positions = read_yaml(config)
        endpoints = _validate(Endpoints, where_data, where_positions, config)
    spec = checked.task
    try:
        if spec is None:
            task = Task("document", ("USEFUL", "USELESS"))
        else:
            task = Task(spec.name, spec.classes, spec.text, description=spec.description)
    except ConfigError as error:
        raise ConfigError(f"{file}:{positions.line(['task', 'classes'])}: {error}") from None
    where = None if config is None else Path(config)
    return Recipe(checked, task, file, endpoints, positions, where)


def _find_config(path: Path) -> Path:
    """Return the file, or the shipped one where only that is there."""
    shipped = shipped_folder("configs") / path.name
    return path if path.exists() or not shipped.is_file() else shipped


def json_schema() -> dict[str, Any]:
    """Return the recipe format as JSON Schema, draft 7, for editors.

    Examples
    --------
    >>> json_schema()["$schema"]
    'http://json-schema.org/draft-07/schema#'
    """
    schema = RecipeConfig.model_json_schema(ref_template="#/definitions/{model}")
    schema["definitions"] = schema.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://llmlabel.dev/recipe.schema.json",
        **typing.cast("dict[str, Any]", _without_discriminators(schema)),
    }


def _without_discriminators(node: Any) -> Any:
    """Drop OpenAPI's ``discriminator``, which draft 7 does not know."""
    if isinstance(node, dict):
        return {k: _without_discriminators(v) for k, v in node.items() if k != "discriminator"}
    if isinstance(node, list):
        return [_without_discriminators(v) for v in node]
    return node


def _validate(model: type[Model], data: Any, positions: Positions, file: Path) -> Model:
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: expected a mapping, got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(model, error, data, positions, file)) from None


def _explain(
    model: type[BaseModel], error: ValidationError, data: Any, positions: Positions, file: Path
) -> str:
    """Put the first problem in one line: file:line: path: what, and the nearest name."""
    # An unknown key explains a missing one beside it, so it is told first.
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = found[0]
    path, owner = _locate(model, first["loc"], data)
    kind, message = first["type"], first["msg"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        guess = did_you_mean(key, owner.model_fields)
        message = f"unknown key {key!r}{guess} (known: {', '.join(owner.model_fields)})"
        path = path[:-1]
        line = positions.line([*path, key])
    else:
        line = positions.line(path)
        message = _plain_message(kind, first, path)
    more = f" (and {len(found) - 1} more problems)" if len(found) > 1 else ""
    shown = ".".join(str(p) for p in path)
    return f"{file}:{line}: {shown + ': ' if shown else ''}{message}{more}"


def _plain_message(kind: str, error: Any, path: Path_) -> str:
    context = error.get("ctx") or {}
    if kind == "missing":
        return f"the key {error['loc'][-1]!r} is missing"
    if kind == "union_tag_invalid":
        key = str(context["discriminator"]).strip("'")
        known = {"step": STEP_CONFIGS, "lf": LF_SPECS}.get(key)
        options = (
            list(known)
            if known
            else [t.strip().strip("'") for t in context["expected_tags"].split(",")]
        )
        guess = did_you_mean(str(context["tag"]), options)
        return f"unknown {key} {context['tag']!r}{guess} (known: {', '.join(options)})"
    if kind == "union_tag_not_found":
        return f"the key {context['discriminator']!s} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    value = error.get("input")
    if kind == "value_error" or isinstance(value, (dict, list)) or not path:
        return message
    return f"{message[0].lower()}{message[1:]}, got {value!r}"


def _locate(
    model: type[BaseModel], loc: Sequence[str | int], data: Any
) -> tuple[list[str | int], type[BaseModel]]:
    """Return the path in the data (pydantic's has union tags in it) and the model it ends in."""
    owner, candidates, node = model, [model], data
    path: list[str | int] = []
    tagged = False
    for part in loc:
        if tagged and isinstance(node, dict) and part in (node.get(t) for t in _TAGS):
            tagged = False
            continue  # pydantic names the union's member here, the data does not
        is_key = isinstance(node, dict) and part in node
        is_item = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if not is_key and not is_item:
            continue  # a key that is missing
        path.append(part)
        node = node[part]
        if isinstance(part, str):
            known = owner.model_fields.get(part)
            candidates = _models_in(known.annotation) if known else []
        tagged = len(candidates) > 1 and isinstance(node, dict)
        if candidates and isinstance(node, dict):
            owner = _pick(candidates, node) or owner
    return path, owner


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in typing.get_args(annotation) for m in _models_in(a)]


def _pick(candidates: Sequence[type[BaseModel]], node: Mapping[str, Any]) -> type[BaseModel] | None:
    """Return the model whose tag the node carries."""
    if len(candidates) == 1:
        return candidates[0]
    for model in candidates:
        for name, field in model.model_fields.items():
            if node.get(name) in typing.get_args(field.annotation):
                return model
    return None
