"""The commands. Each loads what it needs when it is called, so that --help is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from llmlabel.errors import LLMLabelError

__all__ = ["app", "main"]

app = typer.Typer(
    name="llmlabel",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Label data with programs and language models, denoise the votes, distil small models.",
    epilog="Start: [bold]llmlabel init support-tickets my-tickets[/bold], then "
    "[bold]llmlabel run my-tickets[/bold].",
)

RecipeArg = Annotated[
    str, typer.Argument(help="A recipe file, its folder, or a shipped recipe's name.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Run folder [default: runs/NAME].")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="A file of configs/: where things run.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, for machines.")
]
RunArg = Annotated[Path, typer.Argument(help="A run folder, as in runs/support-tickets.")]


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(version("llmlabel"))
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands; --debug is read by `main`."""


@app.command(epilog="Example: llmlabel run recipes/support-tickets --out runs/tickets")
def run(
    recipe: RecipeArg,
    out: OutOption = None,
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and be asked; do nothing.")
    ] = False,
    until: Annotated[str | None, typer.Option(help="The last step to run.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe from raw rows to report; finished steps are not run again."""
    from llmlabel.cli.commands import plan_command, run_command

    if dry_run:
        plan_command(recipe, out, config, as_json=as_json)
    else:
        run_command(recipe, out, config, until, as_json=as_json)


@app.command(epilog="Example: llmlabel plan recipes/support-tickets")
def plan(
    recipe: RecipeArg,
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would do: which steps, how many LLM calls, how many are cached."""
    from llmlabel.cli.commands import plan_command

    plan_command(recipe, out, config, as_json=as_json)


@app.command(epilog="Example: llmlabel analyze recipes/support-tickets --split valid")
def analyze(
    recipe: RecipeArg,
    out: OutOption = None,
    config: ConfigOption = None,
    split: Annotated[str, typer.Option(help="Whose rows: train, valid or test.")] = "train",
    with_effects: Annotated[
        bool, typer.Option("--effects/--no-effects", help="Learn again without each LF.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Show what each labeling function does and is worth, and what to do next."""
    from llmlabel.cli.commands import analyze_command

    analyze_command(recipe, out, config, split, with_effects=with_effects, as_json=as_json)


@app.command(epilog="Example: llmlabel explain runs/support-tickets a091")
def explain(
    run_folder: RunArg,
    row_id: Annotated[str, typer.Argument(help="A row's id.")],
    as_json: JsonOption = False,
) -> None:
    """Say who voted for what on one row, why, with what weight, and from which LLM call."""
    from llmlabel.cli.commands import explain_command

    explain_command(run_folder, row_id, as_json=as_json)


@app.command(epilog="Example: llmlabel retry runs/support-tickets")
def retry(run_folder: RunArg, config: ConfigOption = None) -> None:
    """Ask again about the rows whose LLM calls failed; answers that came are kept."""
    from llmlabel.cli.commands import retry_command

    retry_command(run_folder, config)


@app.command(epilog="Example: llmlabel report runs/support-tickets --out report.html")
def report(run_folder: RunArg, out: OutOption = None) -> None:
    """Write the report page of a run, one HTML file that needs nothing else."""
    from llmlabel.cli.commands import report_command

    report_command(run_folder, out)


@app.command(epilog="Example: llmlabel predict runs/support-tickets new.csv --out labeled.csv")
def predict(
    model: Annotated[Path, typer.Argument(help="A student's folder, or a run folder.")],
    file: Annotated[
        Path,
        typer.Argument(help="Rows: CSV, JSONL, Parquet, a datasets folder; - is JSONL on stdin."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write [default: JSONL on stdout].")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Text column(s) [default: those of training].")
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(help="Label only rows sure enough to be right this often, say 0.97."),
    ] = None,
    defer_to: Annotated[
        Literal["abstain", "llm"],
        typer.Option(help="Who gets the other rows: abstain (nobody) or llm (the run's)."),
    ] = "abstain",
    backend: Annotated[
        Literal["auto", "torch", "openvino"], typer.Option(help="What runs the encoder.")
    ] = "auto",
) -> None:
    """Label rows with a trained student."""
    from llmlabel.cli.commands import predict_command

    predict_command(
        model,
        file,
        out,
        text,
        target_accuracy=target_accuracy,
        defer_to=defer_to,
        backend=backend,
    )


@app.command(
    epilog="Example: llmlabel export runs/support-tickets my-model --push-to-hub me/tickets"
)
def export(
    model: Annotated[Path, typer.Argument(help="A student's folder, or a run folder.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    form: Annotated[
        Literal["sklearn", "transformers", "onnx"] | None,
        typer.Option(
            "--format", "-f", help="What to write; by default what is nearest to the student."
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload it, too: a repository's name, as in me/tickets.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A new repository is public.")] = False,
) -> None:
    """Write a student, with a model card, as a folder that loads without llmlabel."""
    from llmlabel.cli.commands import export_command

    export_command(model, folder, form, push_to_hub, public=public)


@app.command(epilog="Example: llmlabel init support-tickets my-tickets")
def init(
    recipe: Annotated[str, typer.Argument(help="The name of a shipped recipe.")],
    folder: Annotated[Path, typer.Argument(help="The new folder.")],
) -> None:
    """Copy a shipped recipe out, to start from."""
    from llmlabel.cli.commands import init_command

    init_command(recipe, folder)


cache_app = typer.Typer(
    no_args_is_help=True, help="Look after the answers that were paid for, which all runs share."
)
app.add_typer(cache_app, name="cache")


@cache_app.command("stats", epilog="Example: llmlabel cache stats")
def cache_stats(as_json: JsonOption = False) -> None:
    """Show how many answers there are, of which models, and how large the file is."""
    from llmlabel.cli.caching import stats_command

    stats_command(as_json=as_json)


@cache_app.command("export", epilog="Example: llmlabel cache export answers.jsonl")
def cache_export(
    target: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    model: Annotated[str | None, typer.Option(help="Answers of one model only.")] = None,
) -> None:
    """Write the answers as JSON Lines."""
    from llmlabel.cli.caching import export_command

    export_command(target, model)


@cache_app.command(
    "import", epilog="Example: llmlabel cache import output.jsonl --requests requests.jsonl"
)
def cache_import(
    source: Annotated[Path, typer.Argument(help="An export, or an OpenAI Batch output file.")],
    requests: Annotated[
        Path | None, typer.Option(help="The batch's request file: SOURCE is a batch's output.")
    ] = None,
    provider: Annotated[
        str, typer.Option(help="Who answered the batch: host and port of the server.")
    ] = "api.openai.com",
) -> None:
    """Take answers in that were paid for elsewhere."""
    from llmlabel.cli.caching import import_command

    import_command(source, requests, provider)


@cache_app.command("prune", epilog="Example: llmlabel cache prune --older-than 90")
def cache_prune(
    older_than: Annotated[float | None, typer.Option(help="Days.")] = None,
    model: Annotated[str | None, typer.Option(help="Answers of one model only.")] = None,
) -> None:
    """Forget old answers, or those of one model."""
    from llmlabel.cli.caching import prune_command

    prune_command(older_than, model)


@app.command(epilog="Example: llmlabel schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON Schema (draft 7) of recipe files, for editors."""
    import json

    from llmlabel.recipe import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command(epilog="Example: llmlabel env --json")
def env(as_json: JsonOption = False) -> None:
    """Show versions, extras, processor and caches, for bug reports. No secrets."""
    from llmlabel.cli.environment import env_command

    env_command(as_json=as_json)


def main() -> NoReturn:
    """Run the command line; errors of ours are one line and exit code 1."""
    debug = "--debug" in sys.argv[1:]
    sys.argv[1:] = [a for a in sys.argv[1:] if a != "--debug"]  # it may stand anywhere
    try:
        app()
    except LLMLabelError as error:
        if debug:
            raise
        _complain(str(error), error.hint)
    except KeyboardInterrupt:
        _complain("interrupted; run the same command again and it goes on", None, code=130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing to say
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _complain(
            f"a bug in llmlabel: {type(error).__name__}: {error}",
            "run it again with --debug for the traceback, and tell us",
        )
    sys.exit(0)


def _complain(message: str, hint: str | None, code: int = 1) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(code)
