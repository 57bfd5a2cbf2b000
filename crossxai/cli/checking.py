"""`crossxai check`: what will go wrong with a model, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from crossxai.cli.commands import clear_errors, escaped, quiet

if TYPE_CHECKING:
    from crossxai.assumptions.checking import Check

BROKEN = 1
"""The exit status if a fact is broken."""
FAILED = 3
"""The exit status if a model could not be made or asked, as of a run with a failed row."""
STYLES = {"holds": "green", "failed": "bold red", "broken": "bold red", "note": "yellow", "unknown": "yellow"}


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
        of_file = experiment.endswith(".toml")
        checks, failed = (
            _of_file(Path(experiment), samples) if of_file else ([_of_factory(experiment, size)], dict[str, str]())
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


def _of_file(path: Path, most: int) -> tuple[list[Check], dict[str, str]]:
    """The checks of an experiment's models, and the reasons of those that could not be made."""
    import numpy as np

    from crossxai.assumptions.checking import check as measured
    from crossxai.errors import BrokenAssumption, CrossXAIError, ModelFailed
    from crossxai.experiment import loading
    from crossxai.experiment.loading import load_model
    from crossxai.experiment.questions import questions
    from crossxai.experiment.specification import load

    experiment = load(path)
    samples, _ = loading.samples(experiment)
    checks: list[Check] = []
    failed: dict[str, str] = {}
    for spec in experiment.models:
        try:
            loaded = load_model(spec, experiment.folder)
        except (ModelFailed, BrokenAssumption) as error:  # other errors are of the experiment file, as in a run
            failed[spec.name] = str(error)
            continue
        lacking = [m.name for m in loaded.model.modalities if m.name not in samples.inputs]
        if lacking:
            failed[spec.name] = f"it needs {', '.join(lacking)}; the data hold {', '.join(samples.inputs)}"
            continue
        target: Any = None
        inputs = tuple(samples.inputs[m.name] for m in loaded.model.modalities)
        try:
            explained = questions(experiment, samples, loaded, spec.name).explained
            inputs, target = explained.inputs, explained.target[np.arange(min(most, len(explained)))]
        except (
            CrossXAIError
        ) as error:  # the check says what is wrong with the model, and this what is wrong with the target
            typer.echo(f"model {spec.name!r}, its target: {error}", err=True)
        labels = samples.labels[:most] if samples.task == "classification" else None
        checks.append(measured(loaded.model, tuple(v[:most] for v in inputs), target, labels))
    return checks, failed


def _of_factory(name: str, size: int) -> Check:
    import numpy as np

    from crossxai.assumptions.checking import check as measured
    from crossxai.experiment.loading import load_model
    from crossxai.experiment.specification import ModelSpec

    model = load_model(ModelSpec(name="model", factory=name), Path()).model
    rng = np.random.default_rng(0)
    inputs = []
    for modality in model.modalities:
        low, high = modality.range or (-1.0, 1.0)
        shape = (8, *[size] * (len(modality.axes) - 1), len(modality.features))
        inputs.append(rng.uniform(low, high, shape).astype(np.float32))
    return measured(model, tuple(inputs))


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
        console.print(Padding(escaped(line), (0, 0, 0, 9)), highlight=False)
