"""`crossxai merge`: the shards of a run become one run, with its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossxai.cli import comparing, printing
from crossxai.cli.commands import clear_errors, quiet


def merge(
    folder: Annotated[Path, typer.Argument(help="The folder that `crossxai compare --shard` wrote into.")],
    as_json: printing.Json = False,
) -> None:
    """Join the shards of a run, in whatever order they were made, and write the report that the whole run would have.

    Needs no model, framework or explainer library. Exit status 2: shards are missing, with the commands that make them, or do not
    belong together; 3: the report is written, and some rows failed.
    """
    with clear_errors():
        quiet()
        from crossxai.experiment.merging import merge as join

        join(folder)
        comparing.end(folder, as_json)
