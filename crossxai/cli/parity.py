"""`crossxai parity`: do the libraries agree, and if not, which convention is to blame?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossxai.cli.commands import clear_errors, escaped, quiet

GRID = {"segmentation": "grid", "patch": 16, "samples": 100}
PARAMS: dict[str, dict[str, object]] = {
    "occlusion": {"patch": 16, "stride": 8},
    "rise": {"samples": 200},
    "lime": GRID,
    "kernel_shap": GRID,
}
"""Parameters that a method needs to mean the same in every library."""


def parity(
    experiment: Annotated[
        Path | None,
        typer.Argument(help="An experiment file, for its data, target and models; the demo's if not given."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Only this method; may be repeated.")
    ] = None,
    modality: Annotated[
        str, typer.Option("--modality", help="Of models with several inputs: the one whose maps are compared.")
    ] = "",
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Draw the weights anew, too, and see what is left of each map.")
    ] = False,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="At most so many samples.")] = 4,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and its numbers.")] = Path("out/parity"),
) -> None:
    """Compare the libraries' maps of the same method, and name the conventions that part them.

    Exit status 1: the models differ, or a difference is in no known convention.
    """
    from importlib.resources import files

    from crossxai.conventions.convention import CANONICAL
    from crossxai.conventions.parity import parity as compare
    from crossxai.conventions.result import PROFILES
    from crossxai.errors import Unsupported
    from crossxai.experiment import loading
    from crossxai.experiment.questions import questions
    from crossxai.experiment.specification import load
    from crossxai.report.parity import write_parity

    with clear_errors():
        quiet()
        console = Console()
        chosen = load(experiment or Path(str(files("crossxai") / "demo.toml")))
        every, _ = loading.samples(chosen)
        asked = {
            spec.name: questions(chosen, every, loading.load_model(spec, chosen.folder), spec.name).explained[:samples]
            for spec in chosen.models
        }
        if modality:
            asked = {name: question.only(modality) for name, question in asked.items()}
        results = []
        for name in method or list(CANONICAL):
            try:
                results.append(compare(asked, name, PARAMS.get(name), sanity=sanity))
            except Unsupported as error:  # the other methods go on
                console.print(f"{escaped(name)}: {escaped(str(error))}", highlight=False)
                continue
            rungs = ", ".join(
                f"{profile}: {results[-1].worst(profile) if results[-1].compared(profile) else 'nothing compared'}"
                for profile in PROFILES
            )
            console.print(f"{escaped(name)}: {rungs}", highlight=False)
        if not results:
            raise Unsupported("no method could be compared")
        title = f"Do the libraries agree on {', '.join(asked)}?"
        page = write_parity(out, results, title)
        console.print(f"Page: [bold]{page.resolve()}[/]", soft_wrap=True)
        broken = any(not m.equal for r in results for m in r.models.values()) or any(r.unexplained for r in results)
        if broken:
            raise typer.Exit(1)
