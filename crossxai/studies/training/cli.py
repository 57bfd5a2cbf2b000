"""`crossxai train TASK`: the fusion networks, their held-out figures and those of their Keras twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table


class Encoder(StrEnum):
    """The classifier's for the CT."""

    plain = "plain"
    resnet18 = "resnet18"


TASKS = {
    "classification": "image + table: CT and clinical table to a class",
    "regression": "two images to a score",
    "segmentation": "two images to a mask",
}


def _command(task: str) -> Callable[..., None]:
    """The command of a task; all have the same options."""

    def train(
        data: Annotated[Path, typer.Option("--data", "-d", help="The folder that `crossxai data medical` wrote.")],
        out: Annotated[
            Path,
            typer.Option("--out", "-o", help="A file (.npz), or a folder for TASK.npz, TASK-without-MODALITY.npz, …."),
        ] = Path("models"),
        epochs: Annotated[int | None, typer.Option(min=1, help="At most so many; the task's own without.")] = None,
        seed: Annotated[int, typer.Option(min=0, help="Of weights, order of samples and shuffling.")] = 0,
        batch_size: Annotated[int | None, typer.Option(min=2, help="The task's own without.")] = None,
        encoder: Annotated[Encoder, typer.Option(help="The classifier's for the CT.")] = Encoder.plain,
        frozen: Annotated[
            bool,
            typer.Option("--frozen/--fine-tuned", help="Leave the ResNet-18's weights as they are, or train them on."),
        ] = False,
        weights: Annotated[
            str,
            typer.Option(
                help="To begin the ResNet-18 with: an .npz of this project, a .pth, or imagenet (a download)."
            ),
        ] = "",
        uninformative: Annotated[
            str, typer.Option(metavar="MODALITY", help="Shuffle its values among samples, so that it tells nothing.")
        ] = "",
        keras: Annotated[
            bool | None,
            typer.Option(
                "--keras/--no-keras", help="Measure the Keras twin too; by itself where TensorFlow is installed."
            ),
        ] = None,
    ) -> None:
        """Train a fusion network on the medical data (PyTorch), and measure it and its Keras twin on held-out samples.

        A training that was stopped goes on where it was; one that is finished is not done again.
        """
        from importlib.util import find_spec

        from rich.console import Console

        from crossxai.cli.commands import clear_errors, quiet

        with clear_errors():
            quiet()
            from crossxai.process import require
            from crossxai.studies import medical
            from crossxai.studies.training.fusion import FusionSettings, certified, fit_fusion

            twin = find_spec("tensorflow") is not None if keras is None else keras
            if twin:
                require("tensorflow", "tensorflow", "the Keras twin (--no-keras leaves it out)")
            settings = FusionSettings(
                seed=seed,
                epochs=epochs,
                batch_size=batch_size,
                encoder=encoder.value,
                frozen=frozen,
                weights=weights,
                uninformative=uninformative,
            )
            samples = medical.read(data, task)
            rows = medical.split(len(samples), labels=samples.labels if task == "classification" else None)
            path, trained = fit_fusion(samples, rows, out, settings, features=medical.FEATURES)
            meta = certified(path, samples, rows, twin)
            console = Console()
            if not trained:
                console.print("Trained already, with these settings on these data: nothing to do.", highlight=False)
            test, valid = meta["metrics"]["test"], meta["metrics"]["valid"]
            columns = {f"validation (n = {valid['n']})": valid, f"test (n = {test['n']})": test}
            without = f", {meta['trained_without']} uninformative" if meta["trained_without"] else ""
            title = f"{meta['task']}{without}: epoch {meta['best_epoch']} of {len(meta['history'])}"
            twins = {"test, in Keras": meta["keras"]["test"]} if twin else {}
            console.print(held_out(title, columns | twins, [name for name in test if name != "n"]))
            if twin:
                gap, scale = meta["keras"]["largest_difference"], meta["keras"]["largest_output"]
                console.print(
                    f"PyTorch and Keras: outputs differ by at most {gap:.1e}, where the largest is {scale:.3g}.",
                    highlight=False,
                )
            console.print(f"Checkpoint: [bold]{path.resolve()}[/]", soft_wrap=True)

    train.__doc__ = f"{TASKS[task]}. {train.__doc__}"
    return train


classification, regression, segmentation = map(_command, TASKS)


def held_out(title: str, columns: dict[str, dict[str, float]], figures: Sequence[str]) -> Table:
    """A table of figures, a column for each split by its heading."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("figure")
    for heading in columns:
        table.add_column(heading, justify="right")
    for name in figures:
        table.add_row(name.replace("_", " "), *(f"{column[name]:.4f}" for column in columns.values()))
    return table
