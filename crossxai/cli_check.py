"""`crossxai check`: what will go wrong with a model, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from crossxai.terminal_errors import clear_errors, escaped, quiet

if TYPE_CHECKING:
    from crossxai.assumptions.checking import Check

BROKEN = 1
"""The exit status if a fact is broken."""
STYLES = {"holds": "green", "broken": "bold red", "note": "yellow", "unknown": "yellow"}


def check(
    experiment: Annotated[
        str, typer.Argument(help="An experiment file (TOML), or a function package.module:name that returns a model.")
    ],
    samples: Annotated[int, typer.Option("--samples", "-n", min=2, help="At most so many samples are looked at.")] = 32,
    size: Annotated[
        int, typer.Option("--size", min=1, help="Of a function's model: images of noise of so many pixels a side.")
    ] = 64,
) -> None:
    """Measure what explainers rely on in each model: determinism, samples alone, gradients, outputs, weights, layers."""
    with clear_errors():
        quiet()
        console = Console()
        checks = (
            _of_file(Path(experiment), samples) if experiment.endswith(".toml") else [_of_factory(experiment, size)]
        )
        for each in checks:
            _show(each, console)
        broken = sum(len(each.broken) for each in checks)
        words = f"{broken} broken" if broken else "Nothing is broken."
        console.print(words, style=STYLES["broken" if broken else "holds"])
    if broken:
        raise typer.Exit(BROKEN)


def _of_file(path: Path, most: int) -> list[Check]:
    import numpy as np

    from crossxai import sources
    from crossxai.asking import questions
    from crossxai.assumptions.checking import check as measured
    from crossxai.errors import CrossXAIError
    from crossxai.experiment import load

    experiment = load(path)
    samples, _ = sources.samples(experiment)
    checks = []
    for spec in experiment.models:
        subject = sources.subject(spec, experiment.folder)
        target: Any = None
        inputs = tuple(samples.inputs[m.name] for m in subject.model.modalities)
        try:
            explained = questions(experiment, samples, subject, spec.name).explained
            inputs, target = explained.inputs, explained.target[np.arange(min(most, len(explained)))]
        except (
            CrossXAIError
        ) as error:  # the check says what is wrong with the model, and this what is wrong with the target
            typer.echo(f"model {spec.name!r}, its target: {error}", err=True)
        labels = samples.labels[:most] if samples.task == "classification" else None
        checks.append(measured(subject.model, tuple(v[:most] for v in inputs), target, labels))
    return checks


def _of_factory(name: str, size: int) -> Check:
    import numpy as np

    from crossxai.assumptions.checking import check as measured
    from crossxai.experiment import ModelSpec
    from crossxai.sources import subject

    model = subject(ModelSpec(name="model", factory=name), Path()).model
    rng = np.random.default_rng(0)
    inputs = []
    for modality in model.modalities:
        low, high = modality.range or (-1.0, 1.0)
        shape = (8, *[size] * (len(modality.axes) - 1), len(modality.features))
        inputs.append(rng.uniform(low, high, shape).astype(np.float32))
    return measured(model, tuple(inputs))


def _show(each: Check, console: Console) -> None:
    """One block per fact, as wide as the terminal."""
    from rich.padding import Padding

    console.print(f"[bold]model {escaped(each.model)}[/]")
    for fact in each.facts:
        style = STYLES[fact.verdict]
        console.print(f"[{style}]{fact.verdict:8}[/] [bold]{escaped(fact.name)}[/]", highlight=False)
        lines = [
            fact.found,
            f"breaks: {fact.breaks}" if fact.breaks else "",
            f"write: {fact.write}" if fact.write else "",
        ]
        for line in filter(None, lines):
            console.print(Padding(escaped(line), (0, 0, 0, 9)), highlight=False)
