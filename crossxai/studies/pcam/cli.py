"""`crossxai data pcam`: PatchCamelyon's files, and sets in their format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from crossxai.cli.commands import clear_errors, escaped

if TYPE_CHECKING:
    from crossxai.studies.pcam.inspection import Findings


app = typer.Typer(name="pcam", help="PatchCamelyon's files, and sets in their format.", no_args_is_help=True)
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")]


@app.callback()
def main() -> None:
    """PatchCamelyon's files, and sets in their format; see docs/pcam.md."""


@app.command()
def download(
    out: Out,
    splits: Annotated[
        list[str] | None,
        typer.Option("--splits", "-s", help="Of train, valid, test, with commas or repeated; all of them without."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror", metavar="URL", help="Another address of the files: each archive's name is added to it."
        ),
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Leave each .h5.gz beside its .h5: twice the room.")
    ] = False,
) -> None:
    """Fetch PatchCamelyon (8 GB; about 14 GB of room), verify and unpack it; a stopped download goes on where it was."""
    with clear_errors():
        from crossxai.studies.pcam.download import SPLITS
        from crossxai.studies.pcam.download import download as bring

        given = SPLITS if splits is None else splits
        names = [name.strip() for names in given for name in names.split(",") if name.strip()]
        folder = bring(out, names, mirror, keep_archives)
        Console().print(
            f"Whole, as published: {', '.join(names)} in [bold]{escaped(folder.resolve())}[/]", soft_wrap=True
        )


@app.command()
def check(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the files.")]) -> None:
    """Read every row of what is in a folder and say what is wrong with it; exit status 1 if anything is."""
    with clear_errors():
        from crossxai.studies.pcam.inspection import inspect_folder

        findings = inspect_folder(folder)
        console = Console()
        console.print(_files(findings, folder))
        for note in findings.notes:
            console.print(escaped(note), highlight=False, soft_wrap=True)
        for problem in findings.problems:
            console.print(f"[bold red]Problem:[/] {escaped(problem)}", highlight=False, soft_wrap=True)
        if findings.problems:
            raise typer.Exit(1)
        console.print("No problem found.")


@app.command()
def embedded(out: Out) -> None:
    """Write the embedded histology set: the same format from one photograph, no download."""
    with clear_errors():
        from crossxai.studies.pcam.histology import REGIONS, build
        from crossxai.studies.pcam.reading import PCam

        folder = build(out)
        sizes = ", ".join(f"{len(PCam(folder, split))} {split}" for split in REGIONS)
        Console().print(f"Patches: {sizes}, with masks, in [bold]{escaped(folder.resolve())}[/]", soft_wrap=True)


@app.command()
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


def _files(findings: Findings, folder: Path) -> Table:
    """Every file of the format: there or missing, and what it holds."""
    table = Table(title=f"PatchCamelyon's files in {escaped(folder)}", title_justify="left")
    table.add_column("file", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("labels 0 / 1", justify="right", no_wrap=True)
    table.add_column("state")
    table.add_column("archive")
    for file in findings.files:
        table.add_row(
            f"{file.split} {file.part}",
            "" if file.rows is None else str(file.rows),
            "" if file.size is None else decimal(file.size),
            "" if file.labels is None else f"{file.labels[0]} / {file.labels[1]}",
            file.state,
            file.archive,
        )
    return table


def _written(folder: Path) -> Table:
    """Every split with its patches, how far their surroundings tell the label, and its size."""
    import json

    from crossxai.studies.pcam.reading import ROWS, file_name
    from crossxai.studies.pcam.synthetic import NOTE

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
