"""`crossxai data pcam`: PatchCamelyon's files, and sets in their format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from crossxai.cli.reporting_errors import clear_errors, escaped
from crossxai.studies.pcam.cli_synthetic import synthetic

if TYPE_CHECKING:
    from crossxai.studies.pcam.check import Found

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
        from crossxai.studies.pcam.download import download as bring
        from crossxai.studies.pcam.record import SPLITS

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
        from crossxai.studies.pcam.check import check as examine

        found = examine(folder)
        console = Console()
        console.print(_files(found, folder))
        for note in found.notes:
            console.print(escaped(note), highlight=False, soft_wrap=True)
        for problem in found.problems:
            console.print(f"[bold red]Problem:[/] {escaped(problem)}", highlight=False, soft_wrap=True)
        if found.problems:
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


app.command()(synthetic)


def _files(found: Found, folder: Path) -> Table:
    """Every file of the format: there or missing, and what it holds."""
    table = Table(title=f"PatchCamelyon's files in {escaped(folder)}", title_justify="left")
    table.add_column("file", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("labels 0 / 1", justify="right", no_wrap=True)
    table.add_column("state")
    table.add_column("archive")
    for file in found.files:
        table.add_row(
            f"{file.split} {file.part}",
            "" if file.rows is None else str(file.rows),
            "" if file.size is None else decimal(file.size),
            "" if file.labels is None else f"{file.labels[0]} / {file.labels[1]}",
            file.state,
            file.archive,
        )
    return table
