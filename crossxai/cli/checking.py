"""`crossxai check`: what will go wrong with a model, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from crossxai.cli import given, printing
from crossxai.cli.commands import clear_errors, escaped, quiet

if TYPE_CHECKING:
    from crossxai.assumptions.checking import Check
    from crossxai.experiment.specification import Experiment

BROKEN = 1
"""The exit status if a fact is broken."""
FAILED = 3
"""The exit status if a model could not be made or asked, as of a run with a failed row."""
STYLES = {"holds": "green", "failed": "bold red", "broken": "bold red", "note": "yellow", "unknown": "yellow"}


def check(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="An experiment file (TOML), or a model as --model names it, on images of noise without --data."
        ),
    ] = None,
    model: given.Models = None,
    data: given.DataFiles = "",
    samples: Annotated[int, typer.Option("--samples", "-n", min=2, help="At most so many samples are looked at.")] = 32,
    trust: given.Trust = False,
    size: given.Size = None,
    device: given.Device = "",
    precision: given.Precision = "",
    settings: given.Settings = None,
    as_json: printing.Json = False,
) -> None:
    """Measure what explainers rely on in each model: determinism, samples alone, gradients, outputs, weights, layers."""
    with clear_errors():
        quiet()
        console = printing.results(as_json, quiet=as_json)
        running = given.Running(device, precision)
        in_file = bool(experiment and experiment.endswith(".toml"))
        named = [*([experiment] if experiment and not in_file else []), *(model or ())]
        if named and not data and not in_file:
            checks, failed = [_on_noise(name, size, trust, running) for name in named], dict[str, str]()
        else:
            chosen = given.chosen(
                experiment, model, data, most=samples, trust=trust, size=size, running=running, settings=settings
            )
            checks, failed = _of_experiment(chosen, samples)
        if as_json:
            models = [{"model": each.model, "facts": each.facts} for each in checks]
            printing.print_json(
                {"models": models, "failed": failed, "broken": sum(len(each.broken) for each in checks)}
            )
        for each in checks:
            _show(each, console)
        for name, reason in failed.items():
            console.print(f"[bold]model {escaped(name)}[/]")
            _block(console, "failed", "the model itself", [reason])
        broken = sum(len(each.broken) for each in checks)
        counts = [f"{broken} broken"] * bool(broken) + [f"{len(failed)} failed"] * bool(failed)
        console.print(", ".join(counts) or "Nothing is broken.", style=STYLES["broken" if counts else "holds"])
    if failed or broken:
        raise typer.Exit(FAILED if failed else BROKEN)


def _of_experiment(experiment: Experiment, most: int) -> tuple[list[Check], dict[str, str]]:
    """The checks of an experiment's models, and the reasons of those that could not be made."""
    import numpy as np

    from crossxai.assumptions.checking import check as measured
    from crossxai.errors import CrossXAIError
    from crossxai.experiment import reading
    from crossxai.experiment.questions import questions

    models, failed, samples, entry = reading.models_and_samples(experiment)
    given.tell_left_out(samples)
    checks: list[Check] = []
    for name, loaded in models.items():
        lacking = [m.name for m in loaded.model.modalities if m.name not in samples.inputs]
        if lacking:
            failed[name] = f"it needs {', '.join(lacking)}; the data hold {', '.join(samples.inputs)}"
            continue
        target: Any = None
        inputs = tuple(samples.inputs[m.name] for m in loaded.model.modalities)
        try:
            explained = questions(experiment, samples, loaded, name).explained
            inputs, target = explained.inputs, explained.target[np.arange(min(most, len(explained)))]
        except (
            CrossXAIError
        ) as error:  # the check says what is wrong with the model, and this what is wrong with the target
            typer.echo(f"model {name!r}, its target: {error}", err=True)
        labelled = samples.task == "classification" and entry.get("labels") != reading.PREDICTED
        labels = samples.labels[:most] if labelled else None
        checks.append(measured(loaded.model, tuple(v[:most] for v in inputs), target, labels))
    return checks, failed


def _on_noise(name: str, size: int | None, trust: bool, running: given.Running) -> Check:
    """The check of a model on images of noise, as large as it takes them."""
    from crossxai.assumptions.checking import check as measured
    from crossxai.assumptions.probes import noise
    from crossxai.experiment.loading import load_model

    model = load_model(given.specified([name], trust, size, running)[0], Path()).model
    return measured(model, noise(model, size, 8))


def _show(each: Check, console: Console) -> None:
    """One block per fact, as wide as the terminal."""
    console.print(f"[bold]model {escaped(each.model)}[/]")
    for fact in each.facts:
        lines = [
            fact.found,
            f"breaks: {fact.breaks}" if fact.breaks else "",
            f"write: {fact.write}" if fact.write else "",
        ]
        _block(console, fact.verdict, fact.name, lines)


def _block(console: Console, verdict: str, name: str, lines: list[str]) -> None:
    from rich.padding import Padding

    console.print(f"[{STYLES[verdict]}]{verdict:8}[/] [bold]{escaped(name)}[/]", highlight=False)
    for line in filter(None, lines):
        console.print(Padding(escaped(line), (0, 0, 0, 9), expand=False), highlight=False)
