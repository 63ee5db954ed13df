"""kill -9 of a run on a corpus: nothing finished is done again, and the result is the same."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

for package in ("ftfy", "py3langid", "phonenumbers"):
    pytest.importorskip(package, reason=f"needs {package} (llmlabel[corpus])")

STEPS = ("clean", "dedup", "sample", "label", "aggregate", "distill", "filter")
SHARDS = 10


@pytest.fixture
def corpus(small, texts):
    for i in range(SHARDS):
        name = f"s{i}.parquet" if i % 2 else f"s{i}.jsonl"
        rows = texts.rows(80, first=80 * i)
        small.shard(name, [*rows, {**rows[0], "id": f"copy{i}"}, {"id": f"blank{i}", "text": ""}])
    return small.only(
        *STEPS,
        clean={"language": {"keep": {"en": 0.3}}, "personal": {}},
        sample={"rows": 60, "by": ["source"]},
    )


def command(small, out: str, config: str = "here.yaml") -> list[str]:
    named = [small.folder, "--out", small.folder / out, "--config", small.folder / config]
    return [sys.executable, "-m", "llmlabel", "run", *map(str, named)]


def manifests(folder: Path, step: str) -> dict[str, int]:
    """Return the part manifests of a step with their times."""
    found = folder.glob(f"steps/{step}-*/parts/manifests/[0-9]*.json")
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in found}


def made(folder: Path) -> dict[str, str]:
    """Hash all that steps have made, but for times and pages."""
    told = ("manifest.json", "report.html", "comparison.json")
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.glob("steps/*/**/*")
        if p.is_file() and p.name not in told
    }


def killed_in(small, out: str, step: str) -> dict[str, int]:
    """Kill a run once some of a step's parts are done; return those that were."""
    folder = small.folder / out
    for _ in range(3):  # a busy machine may let the run end before this process looks again
        driver = subprocess.Popen(
            command(small, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(manifests(folder, step)) < 2 and driver.poll() is None:
            time.sleep(0.001)
        driver.kill()
        driver.wait()
        done = manifests(folder, step)
        if 2 <= len(done) < SHARDS:
            break
        for late in folder.glob(f"steps/{step}-*"):
            shutil.rmtree(late)
    assert 2 <= len(done) < SHARDS, f"of {step} {len(done)} parts were done"
    assert not list(folder.glob(f"steps/{step}-*/manifest.json"))
    return done


def test_a_killed_driver_loses_and_repeats_nothing_finished(corpus):
    folder = corpus.folder / "killed"
    cleaned = killed_in(corpus, "killed", "clean")
    filtered = killed_in(corpus, "killed", "filter")
    after = manifests(folder, "clean")
    assert len(after) == SHARDS
    assert cleaned.items() <= after.items()
    # Two processes go on from what one has left, and make the same.
    (corpus.folder / "two.yaml").write_text("engine: {use: local, workers: 2}\n")
    two = command(corpus, "killed", "two.yaml")
    done = subprocess.run(two, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert manifests(folder, "clean") == after
    assert filtered.items() <= manifests(folder, "filter").items()
    corpus.run("undisturbed")
    whole, resumed = made(corpus.folder / "undisturbed"), made(folder)
    assert resumed == whole
    assert sum("/documents/" in name for name in whole) == 2 * SHARDS
    assert not [p for p in folder.rglob("*") if ".part." in p.name]


def test_a_step_that_is_forgotten_leaves_no_parts(corpus):
    """`retry` makes steps anew whose names are the same and whose inputs are not."""
    corpus.only("clean", "filter")
    first = corpus.run()
    times = manifests(first.folder, "filter")
    first.steps["filter"].forget()
    corpus.run()
    again = manifests(first.folder, "filter")
    assert again.keys() == times.keys()
    assert all(again[name] > times[name] for name in times)


def test_a_changed_shard_makes_another_corpus(corpus, texts):
    corpus.only("clean", "filter")
    before = corpus.run()
    corpus.shard("s4.jsonl", texts.rows(5, first=9_000))
    after = corpus.run()
    assert before.steps["clean"].key != after.steps["clean"].key
    assert after.facts("filter")["documents"] == SHARDS * 82 - 82 + 5
    assert len(manifests(after.folder, "clean")) == 2 * SHARDS


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (llmlabel[ray])")
def test_ray_makes_the_same(corpus):
    corpus.only("clean", "filter")
    for i in range(3, SHARDS):
        next((corpus.folder / "documents").glob(f"s{i}.*")).unlink()
    (corpus.folder / "ray.yaml").write_text("engine: {use: ray, workers: 2}\n")
    done = subprocess.run(
        command(corpus, "ray", "ray.yaml"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    corpus.run("local")
    assert made(corpus.folder / "ray") == made(corpus.folder / "local")
