"""The README's code runs, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def test_python_example_runs_and_finds_spam(capsys):
    code = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 1
    exec(compile(code[0], "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "SPAM" in printed.splitlines()[-1]
    assert "Learned Acc." in printed


def test_every_command_named_is_one():
    from llmlabel.cli.app import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    named = set(re.findall(r"\$ llmlabel (\w+)", README.read_text(encoding="utf-8")))
    assert {"run", "plan", "predict"} <= named <= known


@pytest.mark.parametrize(
    "target", re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
)
def test_links_lead_somewhere(target):
    assert (README.parent / target).exists()


def test_benchmark_tables_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(README.parent))
    from benchmarks.tables import DOCS, render

    text = DOCS.read_text(encoding="utf-8")
    assert render(text) == text


def test_the_ask_step_of_the_docs_is_valid():
    from llmlabel.io import parse_yaml
    from llmlabel.recipe.config import AskStep

    text = (README.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (step,), _ = parse_yaml(blocks[1], file="docs/recipes.md")
    assert AskStep.model_validate(step).prompt_name == "my-prompt"
