"""Labeling functions at speed: ours against Snorkel's applier, plain `re` and pyarrow.

    python -m benchmarks.lfs [--quick] [--json] [--save]

Ten LFs, five of keywords and five regular expressions, vote on 100,000 texts (drawn with a
seed from the YouTube comments of ../shared) on one core; every contestant is a process of
its own, they take turns, and their votes have to be the same. Then 1,000 keyword LFs against
10 of words that are as frequent; our encoder against sentence-transformers' own on two cores;
and the quick loop: in a recipe of 10,000 rows one LF is changed, and `llmlabel analyze` shows
the new table (seconds of the whole process).

rows_per_second_over_snorkel
    Ours over Snorkel's PandasLFApplier, the same ten LFs.
keyword_1000_over_10
    Seconds of 1,000 keyword LFs over those of ten.
embed_over_default, embed_min_cosine
    Texts per second over SentenceTransformer.encode, and the least cosine to its vectors.
embed_openvino_over_default, embed_openvino_min_cosine
    The same with the backend OpenVINO; null where it is not installed.
search_over_exact, search_recall
    20,000 queries among 100,000 anchors of 384 numbers: seconds of the blocked product over
    the index's, and the share of first neighbours that are the true ones; the building of the
    index comes on top (search_build_seconds).
quick_loop_seconds
    From the changed recipe to the new table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python benchmarks/lfs.py`

import numpy as np
import pyarrow as pa

from benchmarks.peers.environments import Unavailable, python_of
from benchmarks.shared import ROOT, SHARED, read_jsonl, require_shared

ROWS: Final = 100_000
LOOP_ROWS: Final = 10_000
EMBEDDED: Final = 1_000
SNORKEL: Final = ROOT / "benchmarks" / "peers" / "snorkel_applier.py"

# Name, class, and words or an expression: what every contestant is given.
TEN: Final[tuple[tuple[str, int, list[str] | str], ...]] = (
    ("check", 1, ["check", "check out"]),
    ("subscribe", 1, ["subscribe", "sub", "subs"]),
    ("song", 0, ["song", "music", "voice"]),
    ("please", 1, ["please", "plz"]),
    ("love", 0, ["love", "best", "amazing"]),
    ("http", 1, r"https?://"),
    ("my_channel", 1, r"\bmy\s+(channel|video|song)"),
    ("number", 1, r"\d{4,}"),
    ("site", 1, r"\.(com|net|org)\b"),
    ("loud", 0, r"!{3,}"),
)


def texts(rows: int = ROWS) -> list[str]:
    """Return comments, drawn with a seed."""
    base = [
        r["text"] for s in ("train", "test") for r in read_jsonl(SHARED / "youtube" / f"{s}.jsonl")
    ]
    return random.Random(0).choices([t for t in base if t], k=rows)  # noqa: S311


def pattern(words: list[str] | str) -> str:
    """Return the expression that means the same as a keyword LF, or the expression itself."""
    if isinstance(words, str):
        return words
    any_of = "|".join(r"\s+".join(map(re.escape, w.split())) for w in words)
    return rf"(?<!\w)(?:{any_of})(?!\w)"


def digest(votes: Any) -> str:
    """Return what tells votes, shape (n, m), apart."""
    return hashlib.sha256(np.ascontiguousarray(votes, np.int8).tobytes()).hexdigest()


# --- the contestants, each in a process of its own ------------------------------------------


def timed(work: Callable[[], Any]) -> dict[str, Any]:
    """Return the seconds of a second call, and what its votes are."""
    work()
    started = time.perf_counter()
    votes = work()
    return {"seconds": time.perf_counter() - started, "votes": digest(votes)}


def ours() -> dict[str, Any]:
    """`llmlabel.lf.apply`."""
    from llmlabel.lf import LF, apply, keyword, regex
    from llmlabel.schema import Task

    names = ("HAM", "SPAM")
    lfs: list[LF] = [
        keyword(name, given, names[c]) if isinstance(given, list) else regex(name, given, names[c])
        for name, c, given in TEN
    ]
    table = pa.table({"text": texts()})
    return timed(lambda: apply(lfs, table, Task("spam", names)).votes)


def plain_re() -> dict[str, Any]:
    """A loop over rows."""
    compiled = [(re.compile(pattern(given), re.IGNORECASE).search, c) for _, c, given in TEN]
    given_texts = texts()
    return timed(
        lambda: [[c if find(t) is not None else -1 for find, c in compiled] for t in given_texts]
    )


def arrow() -> dict[str, Any]:
    """pyarrow.compute, an expression per LF; RE2 has no look-around, so words eat a sign."""
    import pyarrow.compute as pc

    def expression(given: list[str] | str) -> str:
        found = pattern(given)
        return "(?i)" + found.replace(r"(?<!\w)", r"(?:^|\W)").replace(r"(?!\w)", r"(?:$|\W)")

    column = pa.array(texts(), pa.string())
    wanted = [(expression(given), c) for _, c, given in TEN]

    def work() -> Any:
        hits = [(pc.match_substring_regex(column, e), c) for e, c in wanted]
        return np.stack(
            [np.where(h.to_numpy(zero_copy_only=False), c, -1) for h, c in hits], axis=1
        )

    return timed(work)


def keywords(count: int) -> dict[str, Any]:
    """So many keyword LFs of words that are about as frequent."""
    from llmlabel.lf import apply, keyword
    from llmlabel.schema import Task

    given = texts()
    ranked = [
        w for w, _ in Counter(w for t in given for w in re.findall(r"\w+", t.lower())).most_common()
    ]
    drawn = random.Random(1).sample(ranked[500:3500], 1000)[:count]  # noqa: S311
    lfs = [keyword(f"k{i}", [word], ("HAM", "SPAM")[i % 2]) for i, word in enumerate(drawn)]
    table = pa.table({"text": given})
    return timed(lambda: apply(lfs, table, Task("spam", ("HAM", "SPAM"))).votes)


def embedding() -> dict[str, Any]:
    """Our encoder on both backends and sentence-transformers' own, over the same texts."""
    from llmlabel.embed import load_encoder
    from llmlabel.embed.model_folder import model_folder

    name = "sentence-transformers/all-MiniLM-L6-v2"
    rows = [r["text"] for r in read_jsonl(SHARED / "tickets" / "train.jsonl")][:EMBEDDED]
    model: Any = import_module("sentence_transformers").SentenceTransformer(str(model_folder(name)))
    encode: dict[str, Callable[[list[str]], Any]] = {
        "embed": load_encoder(name).encode,
        "default": lambda t: model.encode(t, show_progress_bar=False, normalize_embeddings=True),
    }
    if find_spec("openvino") is not None:
        encode["embed_openvino"] = load_encoder(name, backend="openvino").encode
    seconds: dict[str, list[float]] = {who: [] for who in encode}
    vectors = {who: np.asarray(work(rows[:50])) for who, work in encode.items()}
    for _ in range(3):
        for who, work in encode.items():
            started = time.perf_counter()
            vectors[who] = np.asarray(work(rows))
            seconds[who].append(time.perf_counter() - started)
    found: dict[str, Any] = dict.fromkeys(
        ("embed_openvino_over_default", "embed_openvino_min_cosine")
    )
    for who in encode.keys() - {"default"}:
        ratios = [d / o for o, d in zip(seconds[who], seconds["default"], strict=True)]
        cosines = np.einsum("nd,nd->n", vectors[who], vectors["default"])
        found |= {
            f"{who}_over_default": statistics.median(ratios),
            f"{who}_min_cosine": float(cosines.min()),
            f"{who}_texts_per_s": EMBEDDED / statistics.median(seconds[who]),
        }
    return found


def searching() -> dict[str, Any]:
    """The blocked product against the index, on clustered vectors drawn with a seed."""
    from llmlabel.embed import unit_rows
    from llmlabel.lf import approximate_search, top_k

    if find_spec("usearch") is None:
        return {"search_over_exact": None, "search_recall": None}
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(500, 384)).astype(np.float32)

    def draw(rows: int) -> Any:
        noise = rng.normal(size=(rows, 384)).astype(np.float32)
        return unit_rows(centres[rng.integers(0, len(centres), rows)] + noise)

    anchors, queries = draw(100_000), draw(20_000)
    times = [time.perf_counter()]
    search = approximate_search(anchors)
    times.append(time.perf_counter())
    near, _ = search(queries, 10)
    times.append(time.perf_counter())
    exact, _ = top_k(queries, anchors, 10)
    times.append(time.perf_counter())
    build, found, product = np.diff(times).tolist()
    return {
        "search_over_exact": product / found,
        "search_recall": float((near[:, 0] == exact[:, 0]).mean()),
        "search_build_seconds": build,
    }


WORKERS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "ours": ours,
    "re": plain_re,
    "pyarrow": arrow,
    "keyword_10": lambda: keywords(10),
    "keyword_1000": lambda: keywords(1000),
    "embedding": embedding,
    "searching": searching,
}


# --- what is measured ---------------------------------------------------------------------


def worker(name: str, threads: int = 1) -> dict[str, Any]:
    """Run one contestant on so many cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    command = [sys.executable, "-m", "benchmarks.lfs", "--worker", name]
    given = None
    if name == "snorkel":
        command = [str(python_of("snorkel")), str(SNORKEL)]
        lfs = [(n, c, pattern(g)) for n, c, g in TEN]
        given = json.dumps({"lfs": lfs, "texts": texts(ROWS)})
    limits = {f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores)), *command],
        cwd=ROOT,
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=280,
        env={**os.environ, **limits},
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def heuristics(turns: int) -> dict[str, Any]:
    """Let the contestants take turns."""
    names = ["ours", "pyarrow", "re", "snorkel"]
    try:
        python_of("snorkel")
    except Unavailable as reason:
        print(f"skipped snorkel: {reason}", file=sys.stderr)
        names.remove("snorkel")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    votes: dict[str, str] = {}
    for turn in range(turns):
        for name in names:
            if name == "snorkel" and turn >= max(1, turns - 2):
                continue  # it takes half a minute
            found = worker(name)
            seconds[name].append(found["seconds"])
            votes[name] = found["votes"]
    rates = {name: ROWS / statistics.median(all_s) for name, all_s in seconds.items()}
    over = rates["ours"] / rates["snorkel"] if "snorkel" in rates else None
    return {
        "rows_per_second_over_snorkel": over,
        "rows_per_second": rates,
        "same_votes": {name: digest == votes["ours"] for name, digest in votes.items()},
    }


def many_keywords(turns: int) -> dict[str, Any]:
    """Ten keyword LFs and a thousand, in turns."""
    pairs = [(worker("keyword_10"), worker("keyword_1000")) for _ in range(turns)]
    return {
        "keyword_1000_over_10": statistics.median(b["seconds"] / a["seconds"] for a, b in pairs),
        "keyword_1000_seconds": statistics.median(b["seconds"] for _, b in pairs),
    }


def quick_loop(folder: Path) -> dict[str, Any]:
    """Change one LF of a recipe of 10,000 rows and show the table again."""
    import shutil

    from llmlabel.io import read_table, write_table

    place = folder / "recipe"
    shutil.copytree(ROOT / "recipes" / "support-tickets", place)
    recipe = place / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    train = re.search(r"^\s*train:\s*(\S+)", text, re.MULTILINE)
    assert train is not None
    table = read_table(place / train[1])
    times = -(-LOOP_ROWS // table.num_rows)
    big = pa.concat_tables([table] * times).slice(0, LOOP_ROWS)
    if "id" in big.column_names:
        ids = pa.array([f"{v}-{i}" for i, v in enumerate(big["id"].to_pylist())])
        big = big.set_column(big.column_names.index("id"), "id", ids)
    write_table(big, place / "data" / "big.parquet")
    text = text.replace(train[1], "data/big.parquet", 1)
    # No answers are recorded for the new ids: the ask step and its LFs go.
    text = re.sub(r"(?ms)^  - step: ask\n.*?(?=^  - step:)", "", text)
    text = re.sub(r"(?m)^\s*- \{lf: answer.*\n(?:\s+votes:.*\n)*", "", text)
    text = re.sub(r"(?m)^\s*llm: llm\n", "", text)
    seconds: list[float] = []
    effects: list[float] = []
    for turn in range(5):
        recipe.write_text(
            text.replace("words: [", f"words: [quickloop{turn}, ", 1), encoding="utf-8"
        )
        for flag, kept in (("--no-effects", seconds), ("--effects", effects)):
            if flag == "--effects" and turn != 4:
                continue
            command = [
                sys.executable,
                "-m",
                "llmlabel",
                "analyze",
                str(place),
                "--out",
                str(folder / "out"),
                flag,
            ]
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
            kept.append(time.perf_counter() - started)
    return {
        "quick_loop_seconds": statistics.median(seconds[1:]),
        "quick_loop_first_seconds": seconds[0],
        "analyze_with_effects_seconds": effects[0],
        "quick_loop_rows": LOOP_ROWS,
    }


def measure(quick: bool) -> dict[str, Any]:
    """Measure everything."""
    turns = 3 if quick else 5
    with tempfile.TemporaryDirectory() as name:
        return {
            **heuristics(turns),
            **many_keywords(turns),
            **worker("embedding", threads=2),
            **worker("searching", threads=2),
            **quick_loop(Path(name)),
            "rows": ROWS,
            "load_average": os.getloadavg()[0],
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contestant of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="three turns instead of five")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--save", action="store_true", help="also to benchmarks/results/lfs.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    require_shared()
    if options.worker:
        print(json.dumps(WORKERS[options.worker]()))
        return
    found = measure(options.quick)
    if options.save:
        target = ROOT / "benchmarks" / "results" / "lfs.json"
        target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found) if options.json else "\n".join(f"{k:32} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
