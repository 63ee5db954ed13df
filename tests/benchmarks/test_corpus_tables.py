"""The tables on filtering a corpus."""

from __future__ import annotations

from benchmarks.corpus_tables import corpus_tables


def test_a_missing_peer_is_a_dash_and_a_figure_without_students_a_gap():
    text = corpus_tables(
        {
            "filters_over_datatrove": None,
            "filters_docs_per_second": 2500.0,
            "same_decisions": {"c4": 0.995},
            "dedup_docs_per_second": 7000.4,
            "dedup_recall": {"0.01": 0.998},
            "quality_ratings_auc": 0.891,
            "quality_ratings_auc_low": 0.85,
            "quality_ratings_auc_high": 0.93,
            "quality_ratings_accuracy": 0.7805,
            "ray_equals_local": True,
        }
    )
    assert "| all four | 2,500 | - | - |  |  |" in text
    assert "| C4 | - | - | - | 99.5 | - |" in text
    assert "| duplicates | docs/s | docs/CPU s | recall at 1 % edits |" in text
    assert "| llmlabel | 7,000 | - | 0.998 | - | - |" in text
    assert "| rensa | - | - | - | - | - |" in text
    assert "| LLM's ratings alone | 0.891 (0.85 to 0.93) | 78.0 |  |" in text
    assert "| ray_equals_local | True |" in text
    assert "student" not in text


def test_a_student_has_two_thresholds():
    names = ("auc", "auc_low", "auc_high", "accuracy_half", "accuracy")
    text = corpus_tables({f"quality_{name}": 0.5 for name in names} | {"quality_accuracy": 0.79})
    assert "| 50.0 | 79.0 |" in text
