from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.embed import VectorCache, embed
from llmlabel.embed.cache import text_keys
from llmlabel.errors import ConfigError, DataError

WORKER = Path(__file__).with_name("embed_worker.py")
worker = runpy.run_path(str(WORKER))
HashEncoder, text = worker["HashEncoder"], worker["text"]

# Every character Python strings can hold, lone surrogates too.
any_text = st.text(st.characters(exclude_categories=()), max_size=30)


class Counting:
    """Letters counted; remembers what it was asked."""

    name = "counting"
    fingerprint = "counting-1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        self.asked += sentences
        return np.array(
            [[len(s) + 1, s.count("a"), sum(map(ord, s)) % 97] for s in sentences], float
        )


def expected(texts: Sequence[str]) -> np.ndarray:
    rows = Counting().encode(texts).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(texts=st.lists(any_text, min_size=1, max_size=20))
def test_each_distinct_text_is_encoded_once_and_order_is_kept(texts: list[str]) -> None:
    encoder = Counting()
    vectors = embed(texts, encoder)
    np.testing.assert_allclose(vectors, expected(texts), rtol=1e-6)
    assert vectors.dtype == np.float32
    assert sorted(encoder.asked) == sorted(set(texts))


@settings(max_examples=25)
@given(first=st.lists(any_text, max_size=12), second=st.lists(any_text, min_size=1, max_size=12))
def test_what_was_encoded_once_comes_from_disk(
    tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str]
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    embed(first, Counting(), cache)
    encoder = Counting()
    np.testing.assert_allclose(embed(second, encoder, cache), expected(second), rtol=1e-6)
    assert sorted(encoder.asked) == sorted(set(second) - set(first))


def test_cached_vectors_are_the_same_bytes(tmp_path: Path) -> None:
    texts = [f"text {i % 70}" for i in range(100)]
    plain = embed(texts, Counting())
    embed(texts[:30], Counting(), tmp_path)
    mixed = embed(texts, Counting(), tmp_path)
    stored = embed(texts, Counting(), tmp_path)
    assert plain.tobytes() == mixed.tobytes() == stored.tobytes()


def test_no_texts_give_no_rows_of_the_right_width() -> None:
    assert embed([], Counting()).shape == (0, 3)


def test_another_fingerprint_is_another_cache(tmp_path: Path) -> None:
    embed(["a"], Counting(), tmp_path)
    other = Counting()
    other.fingerprint = "counting-2"
    embed(["a"], other, tmp_path)
    assert other.asked == ["a"]
    assert len(list(tmp_path.iterdir())) == 2


def test_progress_counts_texts_and_starts_at_what_is_cached(tmp_path: Path) -> None:
    texts = ["x" * 30_000 + str(i) for i in range(20)]
    embed(texts[:5], Counting(), tmp_path)
    seen: list[tuple[int, int]] = []
    embed([*texts, texts[0]], Counting(), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[0] == (6, 21)
    assert seen[-1] == (21, 21)
    assert len(seen) > 2
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


@pytest.mark.parametrize("file", ["vectors.f32", "keys.bin"])
@pytest.mark.parametrize("torn", [b"x", b"x" * 13, b"x" * 999])
def test_a_torn_tail_is_cut_off(tmp_path: Path, file: str, torn: bytes) -> None:
    texts = ["one", "two", "three"]
    embed(texts, Counting(), tmp_path)
    (folder,) = tmp_path.iterdir()
    with (folder / file).open("ab") as handle:
        handle.write(torn)
    encoder = Counting()
    found = embed([*texts, "four"], encoder, tmp_path)
    np.testing.assert_allclose(found, expected([*texts, "four"]), rtol=1e-6)
    assert encoder.asked == ["four"]
    assert (folder / "vectors.f32").stat().st_size == 4 * 3 * 4
    assert (folder / "keys.bin").stat().st_size == 16 * 4


def test_vectors_without_keys_are_written_again(tmp_path: Path) -> None:
    embed(["one", "two"], Counting(), tmp_path)
    (folder,) = tmp_path.iterdir()
    os.truncate(folder / "keys.bin", 16 + 5)  # killed in the middle of the second key
    encoder = Counting()
    np.testing.assert_allclose(
        embed(["one", "two"], encoder, tmp_path), expected(["one", "two"]), rtol=1e-6
    )
    assert encoder.asked == ["two"]
    assert len(VectorCache(folder)) == 2


def test_a_reader_sees_what_another_object_adds(tmp_path: Path) -> None:
    writer, reader = VectorCache(tmp_path / "c"), VectorCache(tmp_path / "c")
    writer.add(text_keys(["a", "b"]), np.eye(2, dtype=np.float32))
    reader.add(text_keys(["b", "c"]), np.array([[0, 1], [3, 3]], np.float32))
    rows = reader.find(text_keys(["c", "a", "b", "d"]))
    assert rows.tolist() == [2, 0, 1, -1]
    assert reader.fill(rows)[:3].tolist() == [[3, 3], [1, 0], [0, 1]]


def test_a_changed_width_is_refused(tmp_path: Path) -> None:
    embed(["a"], Counting(), tmp_path)

    class Wider(Counting):
        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            return np.ones((len(sentences), 5))

    with pytest.raises(DataError, match="holds vectors of 3 numbers, the encoder now gives 5"):
        embed(["b"], Wider(), tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    embed(["a"], Counting(), tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "meta.json").write_text(json.dumps({"format": 99, "dims": 3}), encoding="utf-8")
    with pytest.raises(DataError, match="a cache of format 99, expected 1; delete the folder"):
        embed(["a"], Counting(), tmp_path)


def test_an_encoder_without_fingerprint_cannot_be_cached(tmp_path: Path) -> None:
    class Nameless:
        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            return np.ones((len(sentences), 2))

    assert embed(["a"], Nameless()).shape == (1, 2)
    with pytest.raises(ConfigError, match="Nameless has no fingerprint") as error:
        embed(["a"], Nameless(), tmp_path)
    assert "cache_dir=None" in str(error.value.hint)


def test_wrong_values_are_named() -> None:
    with pytest.raises(DataError, match="row 1: expected text, got NoneType"):
        embed(["a", None], Counting())  # type: ignore[list-item]
    with pytest.raises(DataError, match="expected a list of texts, got the one text 'abc'"):
        embed("abc", Counting())


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 3)), r"expected an array of shape \(2, d\) for 2 texts, got \(1, 3\)"),
        (np.ones(2), r"got \(2,\)"),
        (np.array([[1, 2], [np.nan, 1]]), "the vector of 'b' is not finite"),
    ],
)
def test_nonsense_from_an_encoder_is_refused(vectors: np.ndarray, message: str) -> None:
    class Broken:
        name = "broken"

        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            return vectors

    with pytest.raises(ConfigError, match=message):
        embed(["a", "b"], Broken())


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_rows(cache: Path, rows: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        if sum(p.stat().st_size for p in cache.glob("*/keys.bin")) >= 16 * rows:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {rows} rows in the cache within a minute")


def test_kill_9_loses_at_most_a_chunk_and_corrupts_nothing(tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    total = 200
    for round_ in range(3):
        process = start(cache, log, 0, total, 0.01)
        wait_for_rows(cache, 40 * (round_ + 1))
        time.sleep(0.003 * round_)  # not always at the same point of a chunk
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    kept = len(VectorCache(next(cache.iterdir())))
    assert 120 <= kept < total
    texts = [text(i) for i in range(total)]
    resumed = tmp_path / "resumed"
    found = embed(texts, HashEncoder(resumed), cache)
    assert found.tobytes() == embed(texts, HashEncoder()).tobytes()
    assert len(resumed.read_text().split()) == total - kept
    asked = log.read_text().split() + resumed.read_text().split()
    assert len(asked) - total <= 3 * 14  # three kills, a chunk of up to 14 texts lost in each


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [start(cache, tmp_path / f"log{i}", i * 40, 120 + i * 40, 0.01) for i in (0, 1)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.split() == ["started", "done"]
    (folder,) = cache.iterdir()
    assert len(VectorCache(folder)) == 160  # no text twice
    log = tmp_path / "log"
    texts = [text(i) for i in range(160)]
    found = embed(texts, HashEncoder(log), cache)
    assert not log.exists()
    assert found.tobytes() == embed(texts, HashEncoder()).tobytes()
