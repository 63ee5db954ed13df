"""The tables of docs/benchmarks.md on filtering a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["corpus_tables"]

_FAMILIES: Final = {
    "gopher_quality": "Gopher quality",
    "gopher_repetition": "Gopher repetition",
    "c4": "C4",
    "fineweb": "FineWeb",
    "": "all four",
}
_SPEEDS: Final = {"dedup": "dedup", "rensa": "rensa", "datatrove": "datatrove_dedup"}
_DECIDES: Final = {
    "ratings_": "LLM's ratings alone",
    "filters_": "all four families pass",
    "label_model_": "label model on ratings and families",
    "": "student, MiniLM and TF-IDF (headline)",
    "tfidf_": "student, TF-IDF alone",
    "hashed_": "student, hashed TF-IDF",
    "two_rounds_": "headline student, `rounds: 2`",
    "humans_": "headline student, taught by human labels",
}
_REST: Final = (
    "dedup_docs_per_second_2", "dedup_over_rensa", "dedup_over_datatrove",
    "dedup_memory_bytes_per_document", "dedup_signature_bytes_per_document",
    "dedup_pairs_seconds_per_million", "language_accuracy", "language_texts_per_second",
    "language_over_py3langid", "normalize_docs_per_second", "normalize_over_ftfy",
    "same_cleaned", "hashed_docs_per_cpu_second", "student_docs_per_cpu_second",
    "engine_docs_per_cpu_second", "engine_two_over_one", "ray_equals_local", "ray_parts_lost",
    "ray_parts_twice", "ray_parts", "ray_parts_done_at_removal", "ray_calls", "load_average",
)  # fmt: skip


def corpus_tables(found: Mapping[str, Any]) -> str:
    """Return the tables of results/corpus.json."""
    return "\n\n".join([_filters(found), _duplicates(found), _quality(found), _rest(found)])


def _filters(found: Mapping[str, Any]) -> str:
    lines = []
    for key, name in _FAMILIES.items():
        end = f"_{key}" if key else ""
        shares = [(found.get(f"same_{what}") or {}).get(key) for what in ("decisions", "reasons")]
        lines.append(
            [name]
            + [_whole(found.get(f"{who}_docs_per_second{end}")) for who in ("filters", "datatrove")]
            + [_plain(found.get(f"filters_over_datatrove{end}"))]
            + [_percent(share) if key else "" for share in shares]
        )
    head = ("filters", "docs/s", "datatrove", "ratio", "same decision %", "same rule %")
    return _table(head, lines)


def _duplicates(found: Mapping[str, Any]) -> str:
    rates = list(found["dedup_recall"]) if found.get("dedup_recall") else []
    lines = []
    for who, speed in _SPEEDS.items():
        recall = found.get(f"{who}_recall") or {}
        lines.append(
            ["llmlabel" if who == "dedup" else who]
            + [_whole(found.get(f"{speed}_docs_per_{unit}second")) for unit in ("", "cpu_")]
            + [_plain(recall.get(rate)) for rate in rates]
            + [_plain(found.get(f"{who}_precision")), _whole(found.get(f"{who}_peak_mb"))]
        )
    edited = [f"recall at {100 * float(rate):g} % edits" for rate in rates]
    head = ("duplicates", "docs/s", "docs/CPU s", *edited, "precision", "peak MB")
    return _table(head, lines)


def _quality(found: Mapping[str, Any]) -> str:
    lines = []
    for key, name in _DECIDES.items():
        stem = f"quality_{key}"
        if f"{stem}auc" not in found:
            continue
        interval = [_plain(found[f"{stem}auc{end}"]) for end in ("", "_low", "_high")]
        student = f"{stem}accuracy_half" in found
        half = found[f"{stem}accuracy_half" if student else f"{stem}accuracy"]
        matched = found.get(f"{stem}accuracy_matched" if key else f"{stem}accuracy")
        cells = [_percent(half), _percent(matched) if student else ""]
        lines.append([name, f"{interval[0]} ({interval[1]} to {interval[2]})", *cells])
    head = ("who decides", "AUC", "accuracy % at .5", "accuracy %, keeping as many as the teacher")
    return _table(head, lines)


def _rest(found: Mapping[str, Any]) -> str:
    return _table(("figure", "value"), [[k, _plain(found[k])] for k in _REST if k in found])


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(x)} |" for x in lines)])


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
