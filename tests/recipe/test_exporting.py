"""`llmlabel export`: a folder with a model card; pushed through the hub's own client."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from llmlabel.distill import load_student
from llmlabel.errors import ConfigError
from llmlabel.recipe import load_recipe, run
from llmlabel.recipe.exporting import export_run, push_to_hub
from llmlabel.recipe.predict import student_folder


@pytest.fixture
def out(make_recipe, tmp_path: Path) -> Path:
    return run(load_recipe(make_recipe()), tmp_path / "run")


def test_the_command_writes_a_model_and_its_card(out, tmp_path):
    command = [sys.executable, "-m", "llmlabel", "export", str(out), str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "sklearn: " in done.stderr
    card = (tmp_path / "m" / "README.md").read_text()
    for wanted in (
        "# tiny",
        "- **SPAM**: promotion",
        "joblib.load",
        "student on label model",
        "| ask | keyword |",
        "two_rate",
        "## Limits",
    ):
        assert wanted in card
    model = joblib.load(tmp_path / "m" / "model.joblib")
    student = load_student(student_folder(out))
    texts = ["subscribe please", "a song"]
    np.testing.assert_allclose(model.predict_proba(texts), student.predict_proba(texts), atol=1e-6)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "not empty" in again.stderr
    wrong = subprocess.run([*command, "--format", "pickle"], capture_output=True, check=False)
    assert wrong.returncode == 2


def test_a_bare_student_is_exported_too(out, tmp_path):
    done = export_run(student_folder(out), tmp_path / "m")
    assert done.exported.difference < 1e-6
    assert "## Quality" not in (tmp_path / "m" / "README.md").read_text()


@dataclass
class Hub:
    """Stands for the hub's client: what it was asked."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    fails: bool = False

    def create_repo(self, repo_id: str, **given: Any) -> Any:
        from huggingface_hub import RepoUrl

        if self.fails:
            raise OSError("401 Client Error: Unauthorized")
        self.calls.append(("create_repo", {"repo_id": repo_id, **given}))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, **given: Any) -> None:
        self.calls.append(("upload_folder", given))


def test_pushing_uses_the_hubs_own_client(out, tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    export_run(out, tmp_path / "m")
    assert push_to_hub(tmp_path / "m", "me/tickets") == "https://huggingface.co/me/tickets"
    assert hub.calls[0] == (
        "create_repo",
        {"repo_id": "me/tickets", "private": True, "exist_ok": True},
    )
    assert hub.calls[1][1]["folder_path"] == str(tmp_path / "m")
    assert hub.calls[1][1]["repo_id"] == "me/tickets"
    push_to_hub(tmp_path / "m", "me/open", private=False)
    assert hub.calls[2][1]["private"] is False
    hub.fails = True
    with pytest.raises(ConfigError, match=r"cannot push .* 401 Client Error") as caught:
        push_to_hub(tmp_path / "m", "me/tickets")
    assert "HF_TOKEN" in str(caught.value.hint)


def test_the_fakes_calls_are_the_clients(out):
    """The client really takes what is given to it."""
    import inspect

    from huggingface_hub import HfApi

    assert {"private", "exist_ok"} <= set(inspect.signature(HfApi.create_repo).parameters)
    taken = set(inspect.signature(HfApi.upload_folder).parameters)
    assert {"folder_path", "repo_id", "commit_message"} <= taken
