"""What every command does: an error that its user can mend is one message, and frameworks keep quiet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from crossxai.errors import CrossXAIError


@contextmanager
def clear_errors() -> Iterator[None]:
    """What the user can mend is one message and exit code 2; anything else is our bug and keeps its traceback."""
    try:
        yield
    except CrossXAIError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {escaped(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def escaped(text: object) -> str:
    """Text whose square brackets are no markup."""
    from rich.markup import escape

    return escape(str(text))


def quiet() -> None:
    """Silence what the frameworks say and no user can act on."""
    import logging
    import warnings

    # torch's CUDA build says that it finds no GPU driver; everything here runs on the CPU.
    warnings.filterwarnings("ignore", message="CUDA initialization")
    # Every question is a new function to TensorFlow, which then warns about retracing; each is traced once and used often.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
