"""The command line; every command imports what it needs inside its own function, so that --help is instant."""

from __future__ import annotations

from typing import Annotated

import typer

import crossxai
from crossxai.cli import (
    checking,
    commands,
    comparing,
    evaluating,
    explaining,
    layering,
    listing,
    merging,
    parity,
    porting,
    starting,
)
from crossxai.cli.commands import quiet as quiet  # for notebooks

app = typer.Typer(
    name="crossxai",
    cls=commands.Commands,
    help="Ask Captum, pytorch-grad-cam, LIME and Xplique the same question about a PyTorch or TensorFlow model, and measure "
    "every answer by the same rule.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(comparing.compare)
app.command()(starting.init)
app.command()(checking.check)
app.command()(layering.layers)
app.command()(explaining.explain)
app.command()(evaluating.evaluate)
app.command()(parity.parity)
app.command()(porting.port)
app.command()(porting.certify)
app.command()(comparing.demo)
app.command()(comparing.report)
app.command()(merging.merge)
app.command("list")(listing.list_)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crossxai {crossxai.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command."""
