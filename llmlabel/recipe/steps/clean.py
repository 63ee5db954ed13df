"""Read a corpus's shards and do to each document what needs its own text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from llmlabel.corpus.cleaning import Cleaned, Cleaning, clean_batch
from llmlabel.corpus.decontaminate import BenchmarkIndex, benchmark_index, read_benchmark
from llmlabel.corpus.families import check_rules
from llmlabel.corpus.language import check_languages
from llmlabel.corpus.personal import KINDS, check_personal
from llmlabel.engine import PartResult
from llmlabel.errors import ConfigError, DataError, no_such_file
from llmlabel.io import fingerprint
from llmlabel.io.documents import Batch, ReadOptions
from llmlabel.io.reading import read_shard
from llmlabel.io.shards import Shard, list_shards
from llmlabel.recipe.corpus_config import CleanStep, SampleStep
from llmlabel.recipe.load import Recipe
from llmlabel.recipe.steps.base import Context, StepKind, file_prints
from llmlabel.recipe.steps.parts import work_on

__all__ = ["KIND", "check_clean", "clean_shard", "cleaning_of", "first_rows", "read_options"]

_UNCUT: Final = 1 << 62
_BATCH: Final = 4 << 20  # of text: the arrays of one segmentation stay near the caches


def clean_shard(shard: Shard, options: ReadOptions, how: Cleaning) -> Iterator[PartResult]:
    """Read and clean a shard, batch by batch.

    Yields tables ``documents``, ``dropped``, ``sketches`` and ``set_aside``.
    """
    for batch in read_shard(shard, options):
        yield _result(batch, clean_batch(batch.documents, how) if len(batch.documents) else None)


def _result(batch: Batch, cleaned: Cleaned | None) -> PartResult:
    tables: dict[str, pa.Table] = {}
    facts: dict[str, Any] = {"read": batch.documents.num_rows, "set_aside": {}}
    if batch.set_aside.num_rows:
        tables["set_aside"] = batch.set_aside
        for what in batch.set_aside["what"].to_pylist():
            facts["set_aside"][what] = facts["set_aside"].get(what, 0) + 1
    if cleaned is not None:
        tables["documents"], tables["dropped"] = cleaned.documents, cleaned.dropped
        if cleaned.sketches is not None:
            tables["sketches"] = cleaned.sketches
        steps = Counter(cleaned.dropped["step"].to_pylist())
        facts |= {
            "left": cleaned.documents.num_rows,
            "dropped": dict(sorted(steps.items())),
            **cleaned.counts,
        }
    return PartResult(tables, facts)


def read_options(recipe: Recipe, config: CleanStep) -> ReadOptions:
    """Return how documents are read."""
    return ReadOptions(
        text=recipe.task.text[0],
        id=recipe.config.data.id or "id",
        html="text" if config.html else "auto",
        max_document_bytes=config.max_document_bytes,
        batch_bytes=_BATCH,
    )


def cleaning_of(recipe: Recipe, config: CleanStep, *, sketched: bool = True) -> Cleaning:
    """Return what is done to documents.

    Raises
    ------
    ConfigError
        A rule, language or kind of personal data that there is none of.
    """
    language, personal, leaks = config.language, config.personal, config.benchmarks
    return Cleaning(
        normalize=config.normalize,
        languages=None if language is None else language.keep,
        identifier=None if language is None else language.by,
        drop=tuple(config.drop),
        personal=None if personal is None else personal.action,
        kinds=KINDS if personal is None or personal.kinds is None else tuple(personal.kinds),
        regions=("US",) if personal is None else tuple(personal.regions),
        leaks=None if leaks is None else _index(recipe, config),
        on_leak="drop" if leaks is None else leaks.action,
        sketched=sketched,
    )


def _index(recipe: Recipe, config: CleanStep) -> BenchmarkIndex:
    assert config.benchmarks is not None
    names = config.benchmarks.files
    stems = [Path(name).stem for name in names]
    known_as = stems if len(set(stems)) == len(stems) else names
    texts = {
        short: read_benchmark(recipe.resolve(name))
        for short, name in zip(known_as, names, strict=True)
    }
    return benchmark_index(texts, n=config.benchmarks.words, allow=config.benchmarks.allow)


def _run(context: Context) -> Mapping[str, Any]:
    recipe, config = context.recipe, context.config
    listing = list_shards(recipe.resolve(str(recipe.config.data.corpus)))
    dedup = any(step.step == "dedup" for step in recipe.config.steps)
    how = cleaning_of(recipe, config, sketched=dedup)
    work = partial(clean_shard, options=read_options(recipe, config), how=how)
    result = work_on(context, work, listing.shards)
    facts = {"read": 0, "left": 0, "dropped": {}, "set_aside": {}, **result.facts}
    if not facts["left"]:
        raise DataError(
            f"the step 'clean' leaves none of {facts['read']} documents{_why(facts)}",
            file=recipe.resolve(str(recipe.config.data.corpus)),
        )
    short = {} if how.leaks is None else dict(how.leaks.short)
    return {
        **facts,
        "shards": len(listing.shards),
        "files_not_read": list(listing.ignored),
        "benchmark_texts_too_short": short,
    }


def _why(facts: Mapping[str, Any]) -> str:
    counts = [
        *((f"dropped for {name}", n) for name, n in facts["dropped"].items()),
        *((f"set aside: {name}", n) for name, n in facts["set_aside"].items()),
    ]
    said = ", ".join(f"{n} {what}" for what, n in counts)
    return f" ({said})" if said else ""


def _external(config: CleanStep, recipe: Recipe) -> Mapping[str, Any]:
    """Fingerprint what is read: of a corpus the files' names, sizes and times, not their bytes."""
    corpus = recipe.resolve(str(recipe.config.data.corpus))
    # Uncut: to cut a large file of lines is to read it.
    files = list_shards(corpus, shard_bytes=_UNCUT).shards
    shards = [{k: v for k, v in asdict(s).items() if k != "path"} for s in files]
    leaks = config.benchmarks
    return {
        "corpus": fingerprint(shards),
        "text": list(recipe.task.text),
        "id": recipe.config.data.id,
        "dedup": any(step.step == "dedup" for step in recipe.config.steps),
        **({} if leaks is None else file_prints(recipe, *leaks.files)),
    }


def check_clean(config: CleanStep, recipe: Recipe) -> None:
    """Check what a ``clean`` step says before anything runs.

    Raises
    ------
    ConfigError
        Several text columns; a rule, language, kind of personal data, region or benchmark
        file that there is none of; no corpus.
    """
    if len(recipe.task.text) > 1:
        raise ConfigError("a corpus has one column of texts; task: text: names several")
    check_rules(config.drop)
    if config.language is not None:
        check_languages(config.language.keep or {}, config.language.by)
    if config.personal is not None:
        check_personal(config.personal.kinds or (), config.personal.regions)
    corpus = recipe.resolve(str(recipe.config.data.corpus))
    if not corpus.exists():
        raise ConfigError(f"data: corpus: {corpus}: {no_such_file(corpus)}")
    for name in () if config.benchmarks is None else config.benchmarks.files:
        if not (file := recipe.resolve(name)).is_file():
            raise ConfigError(f"benchmarks: {file}: {no_such_file(file)}")


def first_rows(recipe: Recipe) -> pa.Table:
    """Return as many of a corpus's first documents as will be drawn, to plan what they cost.

    Raises
    ------
    DataError
        There is no document with text.
    """
    wanted = next(s.rows for s in recipe.config.steps if isinstance(s, SampleStep))
    config = next(s for s in recipe.config.steps if isinstance(s, CleanStep))
    names = ["id", "text"]
    tables = [pa.table({name: pa.array([], pa.string()) for name in names})]
    for shard in list_shards(recipe.resolve(str(recipe.config.data.corpus))).shards:
        for batch in read_shard(shard, read_options(recipe, config)):
            written = [bool(text.strip()) for text in batch.documents["text"].to_pylist()]
            tables.append(batch.documents.select(names).filter(pa.array(written, pa.bool_())))
            if sum(map(len, tables)) >= wanted:
                break
        else:
            continue
        break
    rows = pa.concat_tables(tables).slice(0, wanted)
    if not rows.num_rows:
        corpus = recipe.resolve(str(recipe.config.data.corpus))
        raise DataError("no document with text can be read", file=corpus)
    return rows.rename_columns(["id", recipe.task.text[0]])


def _uses(_: Any, __: Sequence[str]) -> Sequence[str]:
    return ()


KIND = StepKind(
    version=2,
    run=_run,
    uses=_uses,
    external=_external,
    resumes=True,
    check=check_clean,
)
