"""`crossxai merge`: the shards of a run become one run, with its page."""

from __future__ import annotations

from typing import Annotated

import typer

from crossxai.cli import comparing, given, printing
from crossxai.cli.commands import clear_errors, quiet


def merge(
    folder: Annotated[
        str, typer.Argument(**given.PLACE, help="The folder, or its URL, that `crossxai compare --shard` wrote into.")
    ],
    as_json: printing.Json = False,
) -> None:
    """Join the shards of a run, in whatever order they were made, and write the report that the whole run would have.

    Needs no model, framework or explainer library. Exit status 2: shards are missing, with the commands that make them, or do not
    belong together; 3: the report is written, and some rows failed.
    """
    with clear_errors():
        quiet()
        from crossxai.experiment.merging import merge as join
        from crossxai.files import remote

        with remote.folder(folder) as here:
            join(here)
            comparing.end(here, as_json)
