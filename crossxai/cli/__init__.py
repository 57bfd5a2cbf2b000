"""The command line; every command imports what it needs inside its own function, so that --help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import crossxai
from crossxai.cli import checking, commands, comparing, explaining, given, parity, porting
from crossxai.cli.commands import clear_errors, escaped, quiet

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    name="crossxai",
    cls=commands.Commands,
    help="Ask Captum, pytorch-grad-cam, LIME and Xplique the same question about a PyTorch or TensorFlow model, and measure "
    "every answer by the same rule.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command()(comparing.compare)
app.command()(checking.check)
app.command()(explaining.explain)
app.command()(parity.parity)
app.command()(porting.port)
app.command()(porting.certify)
app.command()(comparing.demo)
app.command()(comparing.report)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crossxai {crossxai.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command."""


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, or a file of maps.")],
    preset: Annotated[
        str,
        typer.Option("--preset", "-p", help="Conventions to measure its maps by, with commas; see docs/evaluation.md."),
    ] = "ours,rise,xplique,torchcam,interpretdl,pnpxai",
    limit: Annotated[
        int,
        typer.Option("--limit", min=0, help="At most so many steps where a library's own take more; 0 for its own."),
    ] = 32,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Of a run: only this model; may be repeated. Of a file of maps: the model, by name or file.",
        ),
    ] = None,
    modality: Annotated[str, typer.Option("--modality", help="Whose maps to measure; the model's first.")] = "",
    experiment: Annotated[
        Path | None,
        typer.Option("--experiment", help="The run's experiment file, if it names files or code beside it."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Let models run code from their files.")] = False,
    metrics: Annotated[
        str, typer.Option("--metrics", help="Of a file of maps: names that `crossxai list` shows, with commas.")
    ] = "deletion,insertion",
    data: Annotated[
        str, typer.Option("--data", help="Of a file of maps without its samples: these; see docs/models.md.")
    ] = "",
    size: given.Size = None,
) -> None:
    """Put a run's maps through several conventions of deletion and insertion, and show how often the ranking flips.

    Of a file of maps, which `crossxai explain` wrote: measure them on a model, which has to be the one that was explained or
    the same function in the other framework.
    """
    if folder.is_file():
        explaining.evaluate_file(folder, model or (), given.names(metrics), modality, data, size, trust)
        return
    from crossxai.cli import tables
    from crossxai.experiment import rankings

    with clear_errors():
        quiet()
        names = [name.strip() for name in preset.split(",") if name.strip()]
        flips = rankings.evaluate(
            folder,
            names,
            models=model or (),
            limit=limit,
            modality=modality,
            folder=experiment.resolve().parent if experiment else None,
            trust=trust,
        )
        console = Console()
        for table in tables.by_preset(flips, console.width):
            console.print(table)
        for sentence in flips.sentences():
            console.print(escaped(sentence), highlight=False)
        console.print(f"Tables: [bold]{folder.resolve() / 'presets.csv'}[/], preset_flips.csv", soft_wrap=True)
        if any(name == rankings.MODEL for _, name in flips.refused):
            raise typer.Exit(3)


@app.command("list")
def list_(
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print the full table as Markdown, as in docs/explainers.md and docs/metrics.md."
        ),
    ] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Show the metrics alone.")] = False,
) -> None:
    """Show every explainer and metric with what each needs."""
    if markdown:
        from crossxai.cli import catalogue

        typer.echo(catalogue.metric_page() if metrics else catalogue.explainer_page(), nl=False)
        return
    from crossxai import evaluation, explainers
    from crossxai.data import sources
    from crossxai.experiment.loading import readers

    console = Console()
    if not metrics:
        _list_explainers(console)
    _list_metrics(console)
    if not metrics:
        console.print(f"Data sources: {', '.join(sorted(sources.discover()[0]))}.", highlight=False)
    others = () if metrics else (*explainers.broken(), *sources.discover()[1], *readers()[1], *commands.broken())
    for plugin in (*others, *evaluation.broken()):
        console.print(f"[bold red]Left out:[/] {escaped(plugin)}", highlight=False, soft_wrap=True)


def _list_explainers(console: Console) -> None:
    from crossxai import explainers

    table = _listing("Explainers", "profiles")
    for name, kind in explainers.discover().items():
        missing = f"; not installed: pip install 'crossxai\\[{kind.library}]'" if not _installed(kind.library) else ""
        profiles = "both" if len(kind.profiles) == 2 else kind.profiles[0]
        table.add_row(name, kind.needs, profiles, kind.summary + missing)
    console.print(table)
    console.print(
        'Profiles: "native" is the library\'s own defaults, "canonical" the definition on which libraries meet.\n'
    )


def _list_metrics(console: Console) -> None:
    from itertools import groupby

    from crossxai.cli import catalogue

    table = _listing("Metrics", "better")
    for axis, entries in groupby(catalogue.metric_entries(), lambda e: getattr(e.metric, "axis", "")):
        table.add_section()
        table.add_row(f"[bold]{axis or 'other'}[/]")
        for entry in entries:
            better, needs = "higher" if entry.higher_is_better else "lower", catalogue.metric_needs(entry)
            table.add_row(entry.name, needs, better, entry.purpose)
    console.print(table)
    console.print("Ranges, costs, parameters and sources: docs/metrics.md, or `crossxai list --metrics --markdown`.")


def _listing(title: str, third: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in ("name", "needs", third, "what it is"):
        table.add_column(heading, no_wrap=heading == "name")
    return table


def _installed(library: str) -> bool:
    from importlib.util import find_spec

    package = {"gradcam": "pytorch_grad_cam", **{name: name for name in ("captum", "lime", "xplique")}}.get(library)
    return package is None or find_spec(package) is not None  # the others are ours, or came with their plug-in
