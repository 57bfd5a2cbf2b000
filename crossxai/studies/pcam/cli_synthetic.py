"""`crossxai data pcam synthetic`: the procedural set in PatchCamelyon's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crossxai.cli.reporting_errors import clear_errors, escaped


def synthetic(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")],
    n: Annotated[
        int, typer.Option("--n", help="Patches in all, even, 20 or more: 80 % train, 10 % valid, 10 % test.")
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all that is drawn.")] = 0,
    shortcut: Annotated[
        bool,
        typer.Option(
            "--shortcut", help="Plant a pen mark in a corner of the positives, which tells the label by itself."
        ),
    ] = False,
    share: Annotated[
        float, typer.Option("--share", help="The share of the positives that get the mark; with --shortcut.")
    ] = 1.0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes; as many as cores if not given. Never changes a byte."),
    ] = None,
) -> None:
    """Draw H&E-like patches whose tumour nuclei are known, in PatchCamelyon's files; see docs/pcam.md."""
    with clear_errors():
        from crossxai.errors import InvalidInput
        from crossxai.studies.pcam.synthetic import Shortcut, write

        if share != 1 and not shortcut:
            raise InvalidInput(f"--share {share:g} is of the shortcut's mark: write --shortcut --share {share:g}")
        folder = write(out, n, seed, Shortcut(share=share) if shortcut else None, workers)
        console = Console()
        console.print(_written(folder))
        console.print(f"Patches: [bold]{escaped(folder.resolve())}[/]", soft_wrap=True)


def _written(folder: Path) -> Table:
    """Every split with its patches, how far their surroundings tell the label, and its size."""
    import json

    from crossxai.studies.pcam.reading import ROWS, file_name
    from crossxai.studies.pcam.synthetic.writing import NOTE

    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    mark = note["shortcut"]
    title = f"Written to {escaped(folder)}"
    if mark:
        place = ", ".join(f"{name} {mark[name][0]}–{mark[name][1] - 1}" for name in ("rows", "columns"))
        title += f", with a pen mark in {mark['share']:.0%} of the positives ({place})"
    table = Table(title=escaped(title), title_justify="left")
    table.add_column("split", no_wrap=True)
    table.add_column("patches", justify="right")
    table.add_column("negative", justify="right")
    table.add_column("positive", justify="right")
    table.add_column("label by surroundings alone", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    for split, figures in note["splits"].items():
        size = sum((folder / file_name(split, part)).stat().st_size for part in ROWS)
        counts = (str(count) for count in (figures["patches"], *figures["per_class"]))
        table.add_row(split, *counts, f"{figures['surround_rule']:.3f}", f"{size / 1e6:.1f} MB")
    return table
