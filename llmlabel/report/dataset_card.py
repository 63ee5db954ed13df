"""The card of a filtered corpus: what is in it, and what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from llmlabel.report.overview import percent

__all__ = ["dataset_card"]

Facts = Mapping[str, Any]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
_ROWS = 30


def dataset_card(name: str, description: str, steps: Mapping[str, Facts]) -> str:
    """Return a data set's README.md as the Hugging Face hub reads it.

    Parameters
    ----------
    name, description
        Of the recipe.
    steps
        The facts of the steps ``clean`` and ``filter``, and of ``dedup``, ``distill`` and
        ``mix`` where there were any.

    Examples
    --------
    >>> facts = {"documents": 4, "kept": 3, "words": 9, "dropped": {"text": 1}, "scored": False}
    >>> card = dataset_card("mine", "", {"clean": {"shards": 1}, "filter": facts})
    >>> card.splitlines()[1], "3 documents, 9 words" in card
    ('pretty_name: mine', True)
    """
    found = steps["filter"]
    mixed = steps.get("mix")
    count = mixed["documents"] if mixed else found["kept"]
    words = mixed["words"] if mixed else found["words"]
    languages = [n for n, v in found.get("language", {}).items() if v["kept"] and n.isalpha()]
    head = {
        "pretty_name": name,
        "size_categories": [next((s for most, s in _SIZES if count < most), "n>1M")],
        **({"language": sorted(languages)[:_ROWS]} if languages else {}),
        "task_categories": ["text-generation"],
        "configs": [{"config_name": "default", "data_files": "documents/*.parquet"}],
    }
    lines = [
        f"# {name}",
        "",
        *([description.strip(), ""] if description.strip() else []),
        f"{count:,} documents, {words:,} words (punctuation counts), of {found['documents']:,} read.",
        "",
        "## What was done",
        "",
        *_done(steps),
        "",
        *_table("source", found),
        *_table("language", found),
        *_mix(mixed),
        "## What to know",
        "",
        "- Licences are those of the sources; nothing here changes them.",
        "- Personal data is found by its form: names and addresses in prose are not.",
        "- Every document's step, reason and score are in `decisions/`, of the step `filter`.",
        "",
        f"Made by llmlabel {version('llmlabel')}.",
    ]
    return f"---\n{_yaml(head)}---\n\n" + "\n".join(lines) + "\n"


def _done(steps: Mapping[str, Facts]) -> list[str]:
    found, dedup, student = steps["filter"], steps.get("dedup"), steps.get("distill")
    out = [f"- dropped in `{step}`: {n:,}" for step, n in found["dropped"].items()]
    if dedup:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in dedup["kinds"].items())
        out.append(f"- duplicates: {dedup['clusters']:,} clusters ({kinds})")
    if student:
        out.append(
            f"- scored by a {student['kind']} student of {student['rows']:,} documents; kept at "
            f"{found['threshold']:.3f} of {found['class']} and above (column `score`)"
        )
    personal = {
        k.removeprefix("personal_"): v
        for k, v in steps["clean"].items()
        if k.startswith("personal_")
    }
    if any(personal.values()):
        said = ", ".join(f"{n:,} {kind}" for kind, n in personal.items() if n)
        out.append(f"- personal data found: {said}")
    return out


def _table(name: str, found: Facts) -> list[str]:
    values = found.get(name)
    if not values or set(values) == {"(none)"}:
        return []
    order = sorted(values.items(), key=lambda item: -item[1]["kept"])[:_ROWS]
    rows = [f"| {value} | {v['documents']:,} | {v['kept']:,} |" for value, v in order if v["kept"]]
    return [f"## By {name}", "", f"| {name} | read | kept |", "|---|---:|---:|", *rows, ""]


def _mix(mixed: Facts | None) -> list[str]:
    if mixed is None:
        return []
    rows: Sequence[str] = [
        f"| {column} | {value} | {percent(share, 1)} | "
        f"{percent(mixed['shares'][column].get(value, 0.0), 1)} |"
        for column, shares in mixed["wanted"].items()
        for value, share in shares.items()
    ]
    head = ["## Mix", "", "Shares of words.", "", "| by | value | wanted | got |"]
    return [*head, "|---|---|---:|---:|", *rows, ""]


def _yaml(head: Mapping[str, Any]) -> str:
    stream = StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(dict(head), stream)
    text: str = stream.getvalue()
    return text
