"""Filters of text: ours against datatrove, on the documents of ../shared/data/web.

    python -m benchmarks.corpus_filters [--quick]

Both get the same random documents, on one core, in turns; seconds are of CPU. Each family is
measured alone, with the cutting into words that it needs, and all four together: datatrove
document by document, so that it too splits a document into words once for the two families of
Gopher and FineWeb. Ours starts from Python strings and ends in verdicts.

filters_over_datatrove
    All four families together, documents per second, ours over theirs.
filters_over_datatrove_by_family
    The same, each family alone.
filters_docs_per_second, datatrove_docs_per_second
    Per family, and ``all``.
same_decisions, same_reasons
    By family, the share of documents with the same decision, and the same first rule that
    fails.
same_cleaned
    Of the documents that both keep, the share whose text C4 leaves the same.
language_accuracy, language_texts_per_second, language_over_py3langid
    On sentences of 75 languages, and on the documents against a call per text.
normalize_docs_per_second, normalize_over_ftfy
    Against ``ftfy.fix_text`` of the same documents.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.peers.environments import Unavailable, python_of
from benchmarks.shared import ROOT, SHARED, require_shared
from llmlabel.corpus.c4 import c4_clean
from llmlabel.corpus.families import FAMILIES
from llmlabel.corpus.language import identify
from llmlabel.corpus.normalize import normalize
from llmlabel.corpus.rules import judge
from llmlabel.corpus.segment import batches, segment
from llmlabel.corpus.verdict import Verdict

__all__ = ["documents", "filters", "languages", "normalizing", "same"]

WORKER: Final = ROOT / "benchmarks" / "peers" / "datatrove_worker.py"
_REPEATS: Final = 5  # of ours, which is over too soon to be measured once
# What datatrove calls our rules, where it is not our name.
REASONS: Final[Mapping[str, str]] = {
    "gopher_short_doc": "gopher_quality.min_words",
    "gopher_long_doc": "gopher_quality.max_words",
    "gopher_below_avg_threshold": "gopher_quality.min_word_length",
    "gopher_above_avg_threshold": "gopher_quality.max_word_length",
    "gopher_too_many_hashes": "gopher_quality.max_hashes",
    "gopher_too_many_ellipsis": "gopher_quality.max_ellipses",
    "gopher_too_many_bullets": "gopher_quality.max_bullet_lines",
    "gopher_too_many_end_ellipsis": "gopher_quality.max_ellipsis_lines",
    "gopher_below_alpha_threshold": "gopher_quality.min_alphabetic_words",
    "gopher_enough_stop_words": "gopher_quality.min_stop_words",
    "dup_para_frac": "gopher_repetition.max_duplicate_paragraphs",
    "dup_para_char_frac": "gopher_repetition.max_duplicate_paragraph_characters",
    "dup_line_frac": "gopher_repetition.max_duplicate_lines",
    "dup_line_char_frac": "gopher_repetition.max_duplicate_line_characters",
    **{f"top_{n}_gram": f"gopher_repetition.max_top_{n}_gram" for n in (2, 3, 4)},
    **{
        f"duplicated_{n}_n_grams": f"gopher_repetition.max_duplicate_{n}_grams"
        for n in range(5, 11)
    },
    "lorem_ipsum": "c4.max_lorem_ipsum",
    "curly_bracket": "c4.max_curly_brackets",
    "too_few_sentences": "c4.min_sentences",
    "line_punct_ratio": "fineweb.min_punctuated_lines",
    "short_line_ratio": "fineweb.max_short_lines",
    "char_dup_ratio": "fineweb.max_duplicate_characters",
    "list_ratio": "fineweb.max_newlines",
}


def documents(count: int, seed: int = 0) -> list[str]:
    """Return so many of the shared web documents, drawn without looking."""
    import pyarrow.parquet as pq

    texts: list[str] = pq.read_table(SHARED / "web" / "web.parquet")["text"].to_pylist()
    return random.Random(seed).sample(texts, min(count, len(texts)))  # noqa: S311


def filters(texts: Sequence[str], runs: int = 3) -> dict[str, Any]:
    """Return the figures of the filters; medians of so many turns.

    Raises
    ------
    Unavailable
        datatrove's environment cannot be made.
    """
    python = python_of("datatrove")
    _ours(texts[:10])  # what is made once is made here
    turns: list[tuple[dict[str, float], dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "texts.jsonl", Path(folder) / "out.json"
        source.write_text("".join(json.dumps(text) + "\n" for text in texts))
        for _ in range(runs):
            command = [str(python), str(WORKER), str(source), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Unavailable(f"datatrove: {(done.stderr.splitlines() or ['failed'])[-1]}")
            theirs = json.loads(target.read_text())
            seconds, verdicts = _ours(texts)
            turns.append((seconds, theirs["seconds"]))

    def median(of: Callable[[float, float], float]) -> dict[str, float]:
        return {
            name: statistics.median(of(mine[name], other[name]) for mine, other in turns)
            for name in turns[0][0]
        }

    over = median(lambda mine, other: other / mine)
    return {
        "filters_over_datatrove": over.pop("all"),
        "filters_over_datatrove_by_family": over,
        "filters_docs_per_second": median(lambda mine, _: len(texts) / mine),
        "datatrove_docs_per_second": median(lambda _, other: len(texts) / other),
        **same(texts, verdicts, theirs["reasons"], theirs["cleaned"]),
    }


def _ours(texts: Sequence[str]) -> tuple[dict[str, float], dict[str, Verdict]]:
    """Return CPU seconds and verdicts of each family alone, and seconds of ``all``."""
    seconds, verdicts = {}, {}
    for name, family in FAMILIES.items():
        limits = family.thresholds()
        started = time.process_time()
        for _ in range(_REPEATS):
            verdicts[name] = judge(family, texts, limits)
        seconds[name] = (time.process_time() - started) / _REPEATS
    started = time.process_time()
    for _ in range(_REPEATS):
        for part in batches(texts):
            segments = segment(texts[part])
            for family in FAMILIES.values():
                judge(family, segments, family.thresholds())
    seconds["all"] = (time.process_time() - started) / _REPEATS
    return seconds, verdicts


def same(
    texts: Sequence[str],
    verdicts: Mapping[str, Verdict],
    reasons: Mapping[str, Sequence[str]],
    cleaned: Sequence[str | None],
) -> dict[str, Any]:
    """Return the shares of documents on which two sets of decisions agree."""
    decisions, rules = {}, {}
    for name, verdict in verdicts.items():
        theirs = np.array([_ours_of(name, reason) for reason in reasons[name]], object)
        decisions[name] = float(np.mean(verdict.keep == (theirs == "")))
        rules[name] = float(np.mean(verdict.reason == theirs))
    kept = [
        mine == other
        for mine, other, keep in zip(
            c4_clean(texts), cleaned, verdicts["c4"].keep.tolist(), strict=True
        )
        if other is not None and keep
    ]
    return {
        "same_decisions": decisions,
        "same_reasons": rules,
        "same_cleaned": float(np.mean(kept)) if kept else 1.0,
    }


def _ours_of(family: str, reason: str) -> str:
    if reason == "empty":
        rule = "min_lines" if family == "fineweb" else "min_characters"
        return f"{family}.{rule}"
    return REASONS.get(reason, reason)


def languages(texts: Sequence[str]) -> dict[str, Any]:
    """Return how right and how fast languages are told."""
    import pyarrow.parquet as pq
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    rows = pq.read_table(SHARED / "web" / "langid.parquet")
    sentences, wanted = rows["text"].to_pylist(), np.array(rows["lang"].to_pylist())
    identify(sentences[:10])
    started = time.process_time()
    codes, _ = identify(sentences)
    seconds = time.process_time() - started
    plain = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def one_by_one() -> None:
        for text in texts:
            plain.classify(text[:2000])

    return {
        "language_accuracy": float(np.mean(codes == wanted)),
        "language_texts_per_second": len(sentences) / seconds,
        "language_over_py3langid": _seconds(one_by_one) / _seconds(lambda: identify(texts)),
    }


def normalizing(texts: Sequence[str]) -> dict[str, Any]:
    """Return how fast texts are normalised."""
    from ftfy import fix_text

    normalize(texts[:10])
    mine = _seconds(lambda: normalize(texts))
    plain = _seconds(lambda: [fix_text(text) for text in texts])
    return {
        "normalize_docs_per_second": len(texts) / mine,
        "normalize_over_ftfy": plain / mine,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer documents, one turn")
    quick = parser.parse_args(arguments).quick
    require_shared()
    texts = documents(600 if quick else 3000)
    found = filters(texts, runs=1 if quick else 3)
    print(json.dumps({**found, **languages(texts), **normalizing(texts)}, indent=2))


if __name__ == "__main__":
    main()
