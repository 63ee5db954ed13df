from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from llmlabel.errors import ConfigError
from llmlabel.recipe import check, json_schema, load_recipe

ROOT_RECIPES = ["recipes/support-tickets/recipe.yaml", "benchmarks/youtube_spam/recipe.yaml"]


RECORDED = {
    "step": "ask",
    "prompt": "classify",
    "client": {"use": "recorded", "answers": "a.jsonl"},
}


def error_of(folder) -> str:
    with pytest.raises(ConfigError) as caught:
        check(load_recipe(folder))
    return str(caught.value).replace(str(folder), "DIR")


def lfs(data):
    return next(s for s in data["steps"] if s["step"] == "label")["lfs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.update(nmae="x"),
            "recipe.yaml:35: unknown key 'nmae', did you mean 'name'? (known: name,",
        ),
        (lambda d: d.pop("task"), "recipe.yaml:1: the key 'task' is missing"),
        (
            lambda d: lfs(d)[0].update(wrods=["a"]),
            "steps.1.lfs.0: unknown key 'wrods', did you mean 'words'? (known: lf, name, label, words,",
        ),
        (lambda d: lfs(d)[0].update(lf="keywrod"), "unknown lf 'keywrod', did you mean 'keyword'?"),
        (
            lambda d: d["steps"][2].update(step="agregate"),
            "unknown step 'agregate', did you mean 'aggregate'?",
        ),
        (lambda d: lfs(d)[0].pop("lf"), "steps.1.lfs.0: the key 'lf' is missing"),
        (
            lambda d: lfs(d)[0].update(words=[]),
            "steps.1.lfs.0.words: List should have at least 1 item",
        ),
        (
            lambda d: lfs(d)[0].update(label="SPAN"),
            "LF 'ask': unknown class 'SPAN', did you mean 'SPAM'?",
        ),
        (lambda d: lfs(d)[1].update(pattern="("), "LF 'song': '(' is no regular expression"),
        (lambda d: d["task"].update(classes=["A", "A"]), "the class 'A' is named twice"),
        (lambda d: d["steps"].pop(1), "the step 'aggregate' needs a step 'label' before it"),
        (
            lambda d: d["steps"].append({"step": "embed"}),
            "the step 'embed' must stand before the step 'label'",
        ),
        (lambda d: d["steps"].append({"step": "report"}), "the step 'report' stands twice"),
        (
            lambda d: d["steps"][2].update(model="dawid_skeen"),
            "unknown label model 'dawid_skeen', did you mean",
        ),
        (lambda d: d["steps"][2].update(params={"x": 1}), "label model 'two_rate': "),
        (
            lambda d: d["steps"][3].update(min_confidence=2),
            "min_confidence: input should be less than or equal to 1, got 2",
        ),
        (
            lambda d: lfs(d).append({"lf": "answer", "name": "a", "prompt": "p", "field": "f"}),
            "LF 'a': unknown prompt 'p' (known: none)",
        ),
        (
            lambda d: (d["steps"].pop(0), lfs(d).append({"lf": "nearest", "name": "n"})),
            "LF 'n' compares embeddings: put a step 'embed' before 'label'",
        ),
        (
            lambda d: lfs(d).append({"lf": "python", "function": "mine.py:f"}),
            "mine.py: no such Python file",
        ),
        (
            lambda d: lfs(d).append(
                {"lf": "column", "name": "c", "column": "id", "vots": {"a": "HAM"}}
            ),
            "steps.1.lfs.3: unknown key 'vots', did you mean 'votes'?",
        ),
        (
            lambda d: lfs(d).append(
                {"lf": "column", "name": "c", "column": "id", "strict": "maybe"}
            ),
            "steps.1.lfs.3.strict: input should be a valid boolean",
        ),
        (lambda d: lfs(d).append(dict(lfs(d)[0])), "two labeling functions have the name 'ask'"),
        (lambda d: d["steps"][2].update(params={"max_iter": -3}), "max_iter"),
        (
            lambda d: d["steps"][2].update(model="os:getcwd"),
            "expected a class with fit and predict_proba",
        ),
        (
            lambda d: d["steps"][4].update(llm="aks"),
            "unknown labeling function 'aks', did you mean 'ask'",
        ),
        (
            lambda d: d["steps"].insert(
                1,
                {"step": "ask", "prompt": "classify", "client": {"use": "openai", "endpoint": "x"}},
            ),
            "unknown endpoint 'x'",
        ),
        (
            lambda d: d["steps"].insert(1, {**RECORDED, "mode": "batch"}),
            "mode: batch needs a client with use: openai",
        ),
        (
            lambda d: d["steps"].insert(1, {**RECORDED, "budget": {"max_calls": 1}}),
            "answers cost nothing",
        ),
        (lambda d: d["steps"].insert(1, {**RECORDED, "rows": {"train": 0}}), "rows.train"),
        (lambda d: d.update(name="a/b"), "name: string should match pattern"),
    ],
)
def test_a_wrong_recipe_says_file_line_path_and_nearest_name(make_recipe, change, message):
    said = error_of(make_recipe(change))
    assert message in said
    assert said.startswith("DIR/recipe.yaml:")
    assert "\n" not in said


def test_the_line_is_the_right_one(make_recipe):
    folder = make_recipe(lambda d: lfs(d)[1].update(labell="HAM"))
    line = int(error_of(folder).split(":")[1])
    assert "labell" in (folder / "recipe.yaml").read_text().splitlines()[line - 1]


def test_names_of_recipes(tmp_path, make_recipe):
    assert load_recipe(make_recipe() / "recipe.yaml").name == "tiny"
    assert load_recipe("support-tickets").name == "support-tickets"
    with pytest.raises(ConfigError, match="did you mean the shipped recipe 'support-tickets'"):
        load_recipe("support-ticket")
    with pytest.raises(ConfigError, match="holds no recipe.yaml"):
        load_recipe(tmp_path)


def test_not_a_mapping(tmp_path):
    (tmp_path / "recipe.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="recipe.yaml:1: expected a mapping, got list"):
        load_recipe(tmp_path)


def test_endpoints_file(tmp_path, make_recipe):
    config = tmp_path / "where.yaml"
    config.write_text("endpoints:\n  default:\n    modle: m\n")
    with pytest.raises(
        ConfigError,
        match=r"where.yaml:3: endpoints.default: unknown key 'modle', did you mean 'model'",
    ):
        load_recipe(make_recipe(), config=config)
    config.write_text("endpoints:\n  default:\n    model: m\n")
    assert load_recipe(make_recipe(), config=config).endpoints.endpoints["default"].model == "m"


CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    "name", [p.name for p in sorted(CONFIGS.glob("*.yaml")) if p.name != "prices.yaml"]
)
def test_every_shipped_config_says_where_things_run(make_recipe, name):
    endpoints = load_recipe(make_recipe(), config=CONFIGS / name).endpoints
    assert endpoints.endpoints or endpoints.engine.workers
    assert (endpoints.engine.use == "ray") == (name == "engine-ray.yaml")


def test_a_shipped_config_is_found_by_name(make_recipe, tmp_path, monkeypatch):
    """Also where no checkout is near, as after pip install."""
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(make_recipe(), config="configs/openai.yaml")
    assert recipe.endpoints.endpoints["default"].api_key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize("file", ROOT_RECIPES)
def test_shipped_recipes_fit_the_json_schema(file, request):
    schema = json_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    data = YAML().load((request.config.rootpath / file).read_text())
    plain = json.loads(json.dumps(data))
    jsonschema.Draft7Validator(schema).validate(plain)
    plain["steps"][0]["nonsense"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(plain)
