"""`crossxai init`: a commented experiment file for a model and data, which runs at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from crossxai.cli import given, printing
from crossxai.cli.commands import clear_errors, quiet


def init(
    model: given.Models = None,
    data: given.DataFiles = "",
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="At most so many samples.")] = given.SAMPLES,
    trust: given.Trust = False,
    size: given.Size = None,
    explainers: given.Explainers = "",
    metrics: given.Metrics = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="The experiment file.")] = Path("experiment.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")] = False,
) -> None:
    """Write a commented experiment file for a model and data, with explainers that the model can answer; it runs at once."""
    from crossxai.errors import InvalidFile, InvalidInput
    from crossxai.experiment import writing
    from crossxai.experiment.run import Prepared, check_names, load
    from crossxai.files import writable_folder
    from crossxai.files.atomic import write_text

    with clear_errors():
        quiet()
        if out.suffix != ".toml":
            raise InvalidInput(f"--out is the name of a file that ends with .toml, got {out}")
        if out.exists() and not force:
            raise InvalidFile(f"{out} is there already: write --force to overwrite it, or --out with another name")
        if not model:
            raise InvalidInput("write --model, the name or file of a network, and --data, the pictures to explain")
        writable_folder(out.parent)
        chosen = given.chosen(
            None, model, data, samples=samples, trust=trust, size=size, explainers=explainers, metrics=metrics
        )
        check_names(chosen, Prepared())
        loaded = load(chosen, Prepared())
        if loaded.failed:
            raise InvalidInput("; ".join(f"model {name!r}: {reason}" for name, reason in loaded.failed.items()))
        asked = loaded.experiment.explainers  # the controls are added to every run, and need no line
        parts = {
            "explainers": tuple(e for e in asked if e in chosen.explainers or not e.name.startswith("controls.")),
            "data": chosen.data.model_copy(update={"files": _beside(chosen.data.files, out)}),
            "models": tuple(m.model_copy(update={"checkpoint": _of_network(m.checkpoint, out)}) for m in chosen.models),
        }
        named = loaded.experiment.model_copy(update=parts)
        write_text(out, writing.written(named, loaded.chosen, out.as_posix()))
        console = printing.results()
        console.print(f"Experiment: [bold]{out}[/]", soft_wrap=True)
        console.print(f"Run it: crossxai compare {out}", soft_wrap=True, highlight=False, markup=False)


def _of_network(model: str, out: Path) -> str:
    """The name or the file of a network, as the experiment file has to say it."""
    name, at, weights = model.partition("@")
    if at and ":" in name and Path(weights).exists():
        return f"{name}@{_beside(weights, out)}"
    library, colon, rest = model.partition(":")
    return f"hf:{_beside(rest, out)}" if colon and library == "hf" else _beside(model, out)


def _beside(path: str, out: Path) -> str:
    """A path that is there, relative to the folder of the experiment file; anything else as it is."""
    folder = os.path.dirname(path.split("*")[0]) if "*" in path else path
    if not folder or Path(path).is_absolute() or not Path(folder).exists():
        return path
    return Path(os.path.relpath(path, out.parent)).as_posix()
