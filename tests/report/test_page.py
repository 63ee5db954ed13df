"""The report in a real browser: it shows, loads nothing, and breaks no rule of its own."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmlabel.errors import ConfigError
from llmlabel.recipe import load_recipe, run
from llmlabel.report import build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0",
)  # fmt: skip


class Outline(html.parser.HTMLParser):
    """Collects ids, links, and whatever would load something or break the CSP."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            if name == "href":
                self.links.append(value)
            if name in {"src", "srcset", "data"}:
                self.loads.append(f"{tag} {value}")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
        if tag in {"script", "link", "iframe", "object"}:
            self.loads.append(tag)


@pytest.fixture
def page(make_recipe, tmp_path) -> Path:
    awkward = '<script>alert(1)</script> & "song" check out'

    def change(data):
        data["description"] = awkward
        lfs = next(s for s in data["steps"] if s["step"] == "label")["lfs"]
        lfs.append(
            {"lf": "regex", "name": "<b>odd</b>", "label": "HAM", "pattern": "check|channel"}
        )

    return run(load_recipe(make_recipe(change)), tmp_path / "out") / "report.html"


def test_it_is_self_contained_and_keeps_its_own_policy(page):
    text = page.read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.loads == []
    assert outline.inline == []
    assert {link.removeprefix("#") for link in outline.links} <= outline.ids
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]


def test_what_comes_from_the_data_is_escaped(page):
    text = page.read_text()
    assert "<script>" not in text
    assert "<b>odd" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_it_shows_every_part(page):
    text = page.read_text()
    for heading in (
        "From rows to student", "Who labels how well: test", "Labeling functions",
        "Who contradicts whom", "How sure, and how rightly so", "What is taken for what",
        "Most contested rows", "How it was made",
    ):  # fmt: skip
        assert heading in text
    assert text.count("<svg") > 10


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium, which is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_renders_it_without_complaint(page, tmp_path, width):
    assert CHROMIUM is not None
    picture = tmp_path / "page.png"
    shown = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600",
         f"--screenshot={picture}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert picture.stat().st_size > 20_000
    assert "Content Security Policy" not in shown.stderr
    assert "CONSOLE" not in shown.stderr


def test_a_run_without_labels_is_said(make_recipe, tmp_path):
    out = run(load_recipe(make_recipe()), tmp_path / "out", until="label")
    with pytest.raises(ConfigError, match="the step 'aggregate' has not run"):
        build(out)
