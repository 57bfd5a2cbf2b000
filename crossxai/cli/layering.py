"""`crossxai layers`: the layers of a model, and where activation maps can be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossxai.cli import given, printing
from crossxai.cli.commands import clear_errors, escaped, quiet


def layers(
    model: Annotated[str, typer.Argument(help="A network by name or file; see docs/models.md.")],
    data: Annotated[
        str, typer.Option("--data", help="A picture or arrays to look at the layers with; noise if not given.")
    ] = "",
    size: given.Size = None,
    trust: given.Trust = False,
    as_json: printing.Json = False,
) -> None:
    """List a model's layers: names, shapes, axes, and where activation maps can be drawn, the default one marked."""
    from crossxai.assumptions.layer_table import COLUMNS, layers_of
    from crossxai.assumptions.probes import noise
    from crossxai.data import arrays
    from crossxai.experiment.loading import load_model

    with clear_errors():
        quiet()
        wrapped = load_model(given.specified([model], trust, size)[0], Path()).model
        inputs = arrays.read(wrapped, data, samples=2).inputs if data else noise(wrapped, size)
        found = layers_of(wrapped, inputs)
        if as_json:
            printing.print_json(
                {"model": found.model, "default": found.default, "refused": found.refused, "layers": found.layers}
            )
            return
        from rich import box
        from rich.table import Table

        table = Table(
            title=f"layers of model {escaped(found.model)}", title_justify="left", box=box.SIMPLE, pad_edge=False
        )
        for heading in COLUMNS:
            table.add_column(heading, no_wrap=heading in ("layer", "shape"))
        for layer, row in zip(found, found.rows(), strict=True):
            table.add_row(*map(escaped, row), style="bold green" if layer.default else "" if layer.maps else "dim")
        console = printing.results()
        console.print(table)
        for name, where in found.default.items():
            console.print(
                f"Activation maps of {escaped(name)} are drawn at {escaped(where)} unless layer=… names another."
            )
        for reason in found.refused.values():
            console.print(escaped(reason), style="yellow", highlight=False, soft_wrap=True)
