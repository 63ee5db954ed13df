"""Read documents, find what harms retrieval, and decide what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlabel.embed import TfidfSvdEncoder, embed, load_encoder
from llmlabel.io import cache_dir, read_table, write_table
from llmlabel.io.runs import write_json
from llmlabel.rag.contradictions import judge_contradictions
from llmlabel.rag.curation import BY_WORDS, Curated, Curation, curate
from llmlabel.recipe.asking import answers_cache, ask_model, make_client
from llmlabel.recipe.client_config import RecordedConfig
from llmlabel.recipe.config import AskStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.rag_config import CurateStep
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.steps.documents import DOCUMENTS, GOLD

__all__ = ["KIND", "documents_of", "unit_vectors"]

ACTIONS: Final = "actions.parquet"


def unit_vectors(texts: Sequence[str], encoder: str) -> npt.NDArray[np.float32]:
    """Return texts' unit vectors, from the cache where they are known."""
    loaded = load_encoder(encoder, fit_texts=texts)
    return embed(list(texts), loaded, cache_dir=cache_dir() / "embeddings")


def documents_of(context: Context) -> pa.Table:
    """Return the documents as they were read."""
    return read_table(context.input("documents") / DOCUMENTS)


def _run(context: Context) -> Mapping[str, Any]:
    config: CurateStep = context.config
    documents = documents_of(context)
    texts = documents["text"].to_pylist()
    context.progress(0, 2)
    encoder = load_encoder(config.encoder, fit_texts=texts)
    by_words = isinstance(encoder, TfidfSvdEncoder)  # its cosines are lower, and say less of titles
    cache = cache_dir() / "embeddings"
    vectors, titles = embed(texts, encoder, cache_dir=cache), None
    if config.title in documents.column_names and not by_words:
        named = [title or "" for title in documents[config.title].to_pylist()]
        titles = embed(named, encoder, cache_dir=cache)
    context.progress(1, 2)
    decide = partial(
        curate,
        documents,
        vectors=vectors,
        title_vectors=titles,
        title_column=config.title,
        date_column=config.date,
        supersedes_column=config.supersedes,
        how=curation_of(config, by_words=by_words),
    )
    found = decide()
    if config.client is not None and found.candidates.num_rows:
        judged = _judged(found.candidates, context)
        found = replace(decide(verdicts=judged), candidates=judged)
    write_table(found.actions, context.folder.path / ACTIONS)
    if found.candidates.num_rows:
        write_table(found.candidates, context.folder.path / "contradictions.parquet")
    keep = pa.array(found.kept)
    text = found.actions["text"].filter(keep)
    kept = documents.filter(keep)
    at = kept.schema.get_field_index("text")
    write_table(kept.set_column(at, "text", text), context.folder.path / DOCUMENTS)
    context.progress(2, 2)
    measured = _measured(context, found)
    if measured is not None:
        write_json(measured, context.folder.path / "measured.json")
    return {
        "documents": documents.num_rows,
        "kept": kept.num_rows,
        "actions": found.counts(),
        "contradiction_candidates": found.candidates.num_rows,
    }


def _judged(candidates: pa.Table, context: Context) -> pa.Table:
    """Ask whether pairs contradict each other; every answer is kept before it is used."""
    ask = judge_config(context.config)
    client, _ = make_client(ask, context.recipe)
    with answers_cache() as cache:
        return judge_contradictions(
            candidates, client, cache=cache, model=ask_model(ask, context.recipe)
        )


def judge_config(config: CurateStep) -> AskStep:
    """Return how pairs are judged, as a step ``ask`` says it."""
    return AskStep.model_validate(
        {"step": "ask", "prompt": "contradiction", "client": config.client}
    )


def _check(config: CurateStep, recipe: Recipe) -> None:
    curation_of(config)
    if config.client is not None:
        make_client(judge_config(config), recipe)


def _measured(context: Context, found: Curated) -> dict[str, Any] | None:
    """Compare the decisions, once they are made, with known flaws."""
    file = context.input("documents") / GOLD
    if not file.is_file():
        return None
    known = np.array([f or "" for f in read_table(file)["flaw"].to_pylist()], object)
    action = np.array(found.actions["action"].to_pylist(), object)
    said = np.array([set(f) for f in found.actions["flaws"].to_pylist()], object)
    handled = np.isin(action, ["drop", "merge", "mask"])
    flaws = []
    for flaw in sorted(set(known.tolist()) - {""}):
        true = known == flaw
        named = np.array([flaw in f for f in said], np.bool_)
        flaws.append(
            {
                "flaw": flaw,
                "known": int(true.sum()),
                "handled": int((true & handled).sum()),
                "named": int(named.sum()),
                "rightly": int((named & true).sum()),
            }
        )
    good = known == ""
    out = np.isin(action, ["drop", "merge"])
    return {"flaws": flaws, "good": int(good.sum()), "good_left_out": int((good & out).sum())}


def curation_of(config: CurateStep, *, by_words: bool = False) -> Curation:
    """Return how documents are curated.

    Parameters
    ----------
    by_words
        Whether the vectors are of TF-IDF + SVD.

    Raises
    ------
    ConfigError
        A flaw or action that there is none of.
    """
    return replace(
        BY_WORDS if by_words else Curation(),
        actions=dict(config.actions),
        min_words=config.min_words,
        required=None if config.required is None else tuple(config.required),
    )


def _external(config: CurateStep, recipe: Recipe) -> Mapping[str, Any]:
    client = config.client
    return file_prints(recipe, client.answers) if isinstance(client, RecordedConfig) else {}


def _uses(_: Any, before: Sequence[str]) -> Sequence[str]:
    return [name for name in before if name == "documents"]


KIND = StepKind(version=1, run=_run, uses=_uses, check=_check, external=_external)
