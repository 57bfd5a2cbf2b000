"""`crossxai train pcam`: ResNet-18 on patches, in PyTorch or in Keras, and its held-out figures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Framework(StrEnum):
    """Which one trains; both load the checkpoint."""

    torch = "torch"
    tensorflow = "tensorflow"


def pcam(
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", help="A folder of PatchCamelyon's files, or embedded: the set that needs no download."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A file (.npz), or a folder for DATA-FRAMEWORK[-frozen].npz.")
    ] = Path("models"),
    framework: Annotated[Framework, typer.Option(help="Which one trains; both load the checkpoint.")] = Framework.torch,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many.")] = 10,
    batch_size: Annotated[int, typer.Option(min=2, help="Patches per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The peak of the one-cycle schedule.")] = 1e-3,
    fraction: Annotated[
        float, typer.Option(help="Share of each class of training and validation; the test split is always whole.")
    ] = 1,
    frozen: Annotated[
        bool, typer.Option("--frozen/--fine-tuned", help="Train the last layer only (needs --weights), or all.")
    ] = False,
    weights: Annotated[
        str, typer.Option(help="To begin with: an .npz of this project, a .pth, or imagenet (a download). None: drawn.")
    ] = "",
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better validation before it stops.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order of patches and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read and augment ahead. Never changes a byte.")] = 1,
    save_seconds: Annotated[float, typer.Option(min=0, help="A state for resuming at least so often.")] = 60,
) -> None:
    """Train ResNet-18 on patches in PatchCamelyon's format, and measure it on the validation and test splits.

    A training that was stopped goes on at its last state; one that is finished is not done again.
    """
    from rich.console import Console

    from crossxai.cli.commands import clear_errors, escaped, quiet

    with clear_errors():
        quiet()
        from pydantic import ValidationError

        from crossxai.data.fetching import cache_folder
        from crossxai.errors import InvalidInput
        from crossxai.studies.networks import weight_files
        from crossxai.studies.pcam import histology
        from crossxai.studies.training import TrainSettings, fit
        from crossxai.studies.training.cli import held_out

        try:
            settings = TrainSettings(
                framework=framework.value,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                fraction=fraction,
                frozen=frozen,
                weights=weights,
                patience=patience,
                seed=seed,
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"])
            got = f"; got {first['input']}" if first["loc"] else ""
            raise InvalidInput(f"{where}{first['msg'].removeprefix('Value error, ')}{got}") from error
        root = histology.build(cache_folder() / "histology") if data == "embedded" else Path(data)
        # Named for the data, too: another set's network must not take the place of this one's.
        name = f"{Path(data).resolve().name}-{framework.value}{'-frozen' if frozen else ''}.npz"
        if out.suffix.lower() in (".pth", ".pt", ".h5", ".keras", ".ckpt"):  # else a folder of that name would be made
            raise InvalidInput(f"--out {out}: a checkpoint is an .npz; write {out.with_suffix('.npz')}, or a folder")
        path = out if out.suffix == ".npz" else out / name
        before = path.stat().st_mtime_ns if path.is_file() else 0
        path = fit(root, settings, path, workers=workers, save_seconds=save_seconds)
        console = Console()
        if path.stat().st_mtime_ns == before:
            console.print("Trained already, with these settings on these data: nothing to do.", highlight=False)
        meta = weight_files.read(path).meta
        valid, test = meta["metrics"]["valid"], meta["metrics"]["test"]
        columns = {f"validation (n = {valid['n']:,})": valid, f"test (n = {test['n']:,})": test}
        title = f"ResNet-18 in {meta['framework']}: best epoch {meta['best_epoch']} of {len(meta['history'])}"
        console.print(held_out(title, columns, ("auc", "accuracy", "balanced_accuracy", "loss")))
        console.print(f"Checkpoint: [bold]{escaped(path.resolve())}[/]", soft_wrap=True)
