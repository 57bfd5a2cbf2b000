"""`crossxai evaluate`: a run's maps by several conventions, or the maps of a file on a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossxai.cli import explaining, given, printing
from crossxai.cli.commands import clear_errors, escaped, quiet


def evaluate(
    folder: Annotated[str, typer.Argument(**given.PLACE, help="The folder of a run, or its URL, or a file of maps.")],
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
    as_json: printing.Json = False,
    silent: printing.Quiet = False,
) -> None:
    """Put a run's maps through several conventions of deletion and insertion, and show how often the ranking flips.

    Of a file of maps, which `crossxai explain` wrote: measure them on a model, which has to be the one that was explained or
    the same function in the other framework.
    """
    if Path(folder).is_file():
        explaining.evaluate_file(Path(folder), model or (), given.names(metrics), modality, data, size, trust, as_json)
        return
    from crossxai.cli import tables
    from crossxai.experiment import rankings
    from crossxai.files import remote

    with clear_errors(), remote.folder(folder) as here:
        quiet()
        remote.fetched(here, *remote.RUN)
        names = [name.strip() for name in preset.split(",") if name.strip()]
        flips = rankings.evaluate(
            here,
            names,
            models=model or (),
            limit=limit,
            modality=modality,
            folder=experiment.resolve().parent if experiment else None,
            trust=trust,
            console=printing.notes(silent),
        )
        if as_json:
            printing.print_json(
                {
                    "means": flips.means.to_dict("records"),
                    "pairs": flips.pairs.to_dict("records"),
                    "refused": [{"model": m, "preset": p, "reason": why} for (m, p), why in flips.refused.items()],
                    "sentences": flips.sentences(),
                }
            )
        console = printing.results(as_json, quiet=as_json)
        for table in tables.by_preset(flips, console.width):
            console.print(table)
        for sentence in flips.sentences():
            console.print(escaped(sentence), highlight=False)
        console.print(
            f"Tables: [bold]{remote.shown(here.resolve() / 'presets.csv')}[/], preset_flips.csv", soft_wrap=True
        )
        if any(name == rankings.MODEL for _, name in flips.refused):
            raise typer.Exit(3)
