"""`crossxai data medical`: the three medical sets, drawn with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crossxai.cli.commands import clear_errors, escaped


def medical(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")],
    n: Annotated[int, typer.Option("--n", min=4, help="Samples per task, to train and test on.")] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of those.")] = 42,
    xai_n: Annotated[int, typer.Option("--xai-n", min=1, help="Samples per task, to explain.")] = 30,
    xai_seed: Annotated[int, typer.Option("--xai-seed", min=0, help="Seed of those.")] = 999,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes; as many as cores if not given. Never changes a byte."),
    ] = None,
    no_signal: Annotated[
        bool,
        typer.Option("--no-signal", help="The control set: the same anatomy and labels, but nothing that tells them."),
    ] = False,
) -> None:
    """Draw CT + table, T1 + T2 and FLAIR + T1ce with their truth, and write a data card; see docs/medical.md."""
    with clear_errors():
        from crossxai.studies.medical import TASKS, read, write
        from crossxai.studies.medical.data_card import write_card
        from crossxai.studies.medical.source import CARD, settings_of

        folder = write(out, n, seed, xai_n, xai_seed, workers, planted=not no_signal)
        sets = {task: read(folder, task) for task in TASKS}
        settings = (settings_of(folder) or {}).get("settings", {})
        card = write_card(sets, folder / CARD, settings)
        console = Console()
        console.print(_written(folder))
        console.print(f"Data card: [bold]{escaped(card.resolve())}[/]", soft_wrap=True)


def _written(folder: Path) -> Table:
    """Every file with what it holds and its size."""
    from crossxai.studies.medical.samples import every_file

    table = Table(title=f"Written to {escaped(folder)}", title_justify="left")
    table.add_column("file", no_wrap=True)
    table.add_column("holds")
    table.add_column("size", justify="right", no_wrap=True)
    for name in every_file():
        path = folder / name
        table.add_row(name, _holds(path), f"{path.stat().st_size / 1e6:.2f} MB")
    return table


def _holds(path: Path) -> str:
    """The arrays of an npz with their shapes; the lines of a CSV."""
    import numpy as np

    if path.suffix == ".csv":
        return f"{len(path.read_text(encoding='utf-8').splitlines()) - 1} rows"
    shapes: dict[tuple[int, ...], list[str]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            shapes.setdefault(archive[name].shape, []).append(name)
    return "; ".join(f"{', '.join(names)} {' × '.join(map(str, shape))}" for shape, names in shapes.items())
