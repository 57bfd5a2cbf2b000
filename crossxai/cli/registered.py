"""Commands that packages register, our studies among them: an entry "data.medical" is `crossxai data medical`."""

from __future__ import annotations

import typer

from crossxai import plugins

GROUP = "crossxai.commands"
"""Entry points: a function with Typer's annotations, or a Typer application, by the command's words with dots between."""
HELP = {
    "data": "Make data sets whose truth is known, or fetch one.",
    "train": "Train a network and measure it on held-out samples.",
}


def add(app: typer.Typer) -> tuple[plugins.Broken, ...]:
    """Add every registered command to the command line; returns those that cannot be used."""
    found, broken = plugins.commands(GROUP)
    groups = {"": app}
    for name, command in found.items():
        group, _, word = name.rpartition(".")
        if group not in groups:
            groups[group] = typer.Typer(name=group, help=HELP.get(group), no_args_is_help=True)
            groups[group].callback()(_nothing)
            app.add_typer(groups[group])
        if isinstance(command, typer.Typer):
            groups[group].add_typer(command, name=word)
        else:
            groups[group].command(word)(command)
    return broken


def _nothing() -> None:
    """A group stays one with a single command."""
