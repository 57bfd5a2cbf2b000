"""`crossxai explain`: one explainer's maps of a model, as a file, pictures, and the recipe that makes them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from crossxai.cli import completing, given, printing
from crossxai.cli.commands import clear_errors, escaped, quiet


def explain(
    model: Annotated[str, typer.Option("--model", help="A network by name or file; see docs/models.md.")],
    data: given.DataFiles,
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer", "-e", autocompletion=completing.explainers, help="A name that `crossxai list` shows."
        ),
    ] = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="Of --explainer: name=value; may be repeated.")
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", help="Of --explainer: native or canonical; its first if not given.")
    ] = "",
    target: given.Target = "predicted",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Without --recipe: of explainers that draw.")] = 0,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="A recipe or a file of maps, in place of --explainer; see docs/explanations.md."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Of --data: at most so many samples.")] = 12,
    inputs: Annotated[
        bool, typer.Option("--inputs/--no-inputs", help="Whether the file of maps also holds the samples.")
    ] = True,
    trust: given.Trust = False,
    size: given.Size = None,
    device: given.Device = "",
    precision: given.Precision = "",
    levels: given.Levels = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the maps, the pictures and the recipe.")] = Path(
        "out/explained"
    ),
) -> None:
    """Explain a model's scores by one explainer: maps.h5, a picture per sample, and recipe.toml, which makes them again."""
    from crossxai.errors import InvalidInput, ModelFailed
    from crossxai.experiment import recipe as recipes
    from crossxai.experiment.origin import with_origin
    from crossxai.experiment.questions import questions
    from crossxai.experiment.reading import models_and_samples
    from crossxai.files import writable_folder

    with clear_errors():
        quiet()
        if (recipe is None) == (not explainer):
            raise InvalidInput("write --explainer, such as captum.saliency, or --recipe with a file; one of them")
        if recipe is not None and (param or profile or target != "predicted" or seed):
            raise InvalidInput("a recipe says parameters, profile, target and seed: change them in its file")
        chosen = recipes.Recipe.load(recipe) if recipe else recipes.check(_options(explainer, param, profile, target, seed),
                                                                   "the command line")  # fmt: skip
        writable_folder(out)
        running = given.Running(device, precision)
        plain = given.experiment([model], data, samples=samples, trust=trust, size=size, running=running, levels=levels)
        experiment = plain.model_copy(
            update={"explainers": (chosen.explainer,), "target": chosen.target, "seed": chosen.seed}
        )
        models, failed, every, entry = models_and_samples(experiment)
        given.tell_left_out(every)
        if failed:
            raise ModelFailed("; ".join(failed.values()))
        ((name, loaded),) = models.items()
        asked = questions(experiment, every, loaded, name)
        method, question = chosen.method(every), asked.explained
        notes = recipes.words_of(chosen, experiment, every, str(entry.get("description", "")))
        made = chosen.made(method)
        maps = with_origin(method(question), question, asked.outputs, notes, made.content())
        maps = replace(maps, spaces=every.spaces)
        earlier = _pictures(out)
        maps.save(out / "maps.h5", inputs)
        maps.export(out / "pictures", "png")
        if maps.spaces:
            maps.export(out / "volumes", "nifti")
        for picture in earlier - _pictures(out):
            picture.unlink(missing_ok=True)
        made.save(out / "recipe.toml")
        console = printing.results()
        console.print(escaped(maps), highlight=False, soft_wrap=True)
        for note in maps.notes:
            console.print(escaped(note), highlight=False, soft_wrap=True)
        where = f"Files: [bold]{escaped(out.resolve())}[/] (maps.h5, pictures, {'volumes, ' if maps.spaces else ''}recipe.toml)"
        console.print(where, soft_wrap=True, highlight=False)


def _pictures(out: Path) -> set[Path]:
    """The pictures that belong to the file of maps in a folder; none where there is no such file."""
    from crossxai.attribution import Attribution
    from crossxai.errors import InvalidFile
    from crossxai.report.exporting import picture_names

    try:
        return {out / "pictures" / name for name in picture_names(Attribution.load(out / "maps.h5"))}
    except InvalidFile:
        return set()


def _options(explainer: str, params: list[str] | None, profile: str, target: str, seed: int) -> dict[str, Any]:
    """The recipe that these options spell."""
    from crossxai.experiment.recipe import parameter

    spec = given.explainer(explainer) | ({"profile": profile} if profile else {})
    return {
        "seed": seed,
        "explainer": {**spec, "params": dict(map(parameter, params or ()))},
        "target": given.target_of(target),
    }


def evaluate_file(
    path: Path, models: Sequence[str], metrics: Sequence[str], modality: str, data: str, size: int | None, trust: bool,
    as_json: bool = False,
) -> None:  # fmt: skip
    """Measure the maps of a file on a model, and show each metric's mean with its interval."""
    from rich.table import Table

    import crossxai as xai

    with clear_errors():
        quiet()
        if len(models) != 1:
            raise xai.InvalidInput("a file of maps is evaluated on one model: write --model, by name or file")
        maps = xai.Attribution.load(path)
        wrapped = xai.wrap(models[0], size=size, trust=trust)
        about = modality or (maps.modalities[0].name if len(maps.modalities) > 1 else "")
        asked = [(metric, {"modality": about}) if about else metric for metric in metrics]
        found = xai.evaluate(wrapped, data or None, maps, asked, samples=len(maps))
        if as_json:
            told = {"explainer": maps.explainer, "model": wrapped.name, "samples": found.ids, "notes": found.notes}
            printing.print_json({**told, "metrics": found.summary.to_dict("records")})
            return
        table = Table(
            title=escaped(f"{maps.explainer} on {wrapped.name}{f', {about}' if about else ''}"), title_justify="left"
        )
        for heading in ("metric", "better", "mean", "95 % interval", "samples"):
            table.add_column(heading)
        for row in found.summary.to_dict("records"):
            better = "higher" if row["higher_is_better"] else "lower"
            interval = f"{row['low']:.3f} to {row['high']:.3f}"
            table.add_row(escaped(row["metric"]), better, f"{row['mean']:.3f}", interval, str(row["n"]))
        console = printing.results()
        console.print(table)
        for note in found.notes:
            console.print(escaped(note), highlight=False, soft_wrap=True)
