"""`crossxai list`: every explainer and metric with what each needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from crossxai.cli import commands, printing
from crossxai.cli.commands import escaped
from crossxai.errors import install_command
from crossxai.explainers.installed import installed

if TYPE_CHECKING:
    from rich.table import Table


def list_(
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print the full table as Markdown, as in docs/explainers.md and docs/metrics.md."
        ),
    ] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Show the metrics alone.")] = False,
    as_json: printing.Json = False,
) -> None:
    """Show every explainer and metric with what each needs."""
    if markdown:
        from crossxai.cli import catalogue

        typer.echo(catalogue.metric_page() if metrics else catalogue.explainer_page(), nl=False)
        return
    from crossxai import evaluation, explainers
    from crossxai.data import sources
    from crossxai.experiment.loading import readers

    others = () if metrics else (*explainers.broken(), *sources.discover()[1], *readers()[1], *commands.broken())
    broken = [str(plugin) for plugin in (*others, *evaluation.broken())]
    if as_json:
        printing.print_json({**_document(metrics), "left_out": broken})
        return
    console = printing.results()
    if not metrics:
        _list_explainers(console)
    _list_metrics(console)
    if not metrics:
        console.print(f"Data sources: {', '.join(sorted(sources.discover()[0]))}.", highlight=False)
    for plugin in broken:
        console.print(f"[bold red]Left out:[/] {escaped(plugin)}", highlight=False, soft_wrap=True)


def _document(metrics: bool) -> dict[str, Any]:
    """What a program is told of every explainer and metric: the cells of docs/explainers.md and docs/metrics.md by heading."""
    from crossxai.cli import catalogue
    from crossxai.explainers import discover

    def row(cells: dict[str, str], first: str) -> dict[str, Any]:
        return {"name": cells[first].strip("`"), **{key: cell for key, cell in cells.items() if key != first}}

    listed = {"metrics": [row(catalogue.metric_row(entry), "metric") for entry in catalogue.metric_entries()]}
    if metrics:
        return listed
    asked = [
        {**row(catalogue.explainer_row(name, kind), "explainer"), "installed": installed(kind.library)}
        for name, kind in discover().items()
    ]
    return {"explainers": asked, **listed}


def _list_explainers(console: Console) -> None:
    from crossxai import explainers

    table = _listing("Explainers", "profiles")
    for name, kind in explainers.discover().items():
        missing = "" if installed(kind.library) else f"; not installed: {escaped(install_command(kind.library))}"
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
