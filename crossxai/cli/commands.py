"""What commands share, and those that packages register: an entry "data.medical" is `crossxai data medical`, and its
module is imported when it is called or described, never to start the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from crossxai import plugins
from crossxai.errors import TO_DO, CrossXAIError, InvalidInput, storage_failed


@contextmanager
def clear_errors() -> Iterator[None]:
    """What the user can mend is one message and exit code 2; anything else is our bug and keeps its traceback."""
    try:
        yield
    except CrossXAIError as error:
        _tell(error)
        raise typer.Exit(2) from error
    except OSError as error:
        if error.errno not in TO_DO or isinstance(error, FileNotFoundError):  # which is rather our bug
            raise
        _tell(storage_failed(f"cannot read or write {error.filename or 'a file'}", error))
        raise typer.Exit(2) from error


def _tell(error: CrossXAIError) -> None:
    Console(stderr=True).print(f"[bold red]Error:[/] {escaped(error)}", highlight=False, soft_wrap=True)


def escaped(text: object) -> str:
    """Text whose square brackets are no markup."""
    from rich.markup import escape

    return escape(str(text))


def quiet() -> None:
    """Silence what the frameworks say and no user can act on."""
    import logging
    import warnings

    # TensorFlow's C++ tells which processor and which missing GPU it found, before Python could keep it from doing so.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # torch's CUDA build says that it finds no GPU driver; everything here runs on the CPU.
    warnings.filterwarnings("ignore", message="CUDA initialization")
    # Every question is a new function to TensorFlow, which then warns about retracing; each is traced once and used often.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


GROUP = "crossxai.commands"
"""Entry points: a function with Typer's annotations, or a Typer application, by the command's words with dots between."""
HELP = {
    "data": "Make data sets whose truth is known, or fetch one.",
    "train": "Train a network and measure it on held-out samples.",
}


class Commands(TyperGroup):
    """A group whose own commands are followed by those that packages register below its words."""

    words = ""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of our own commands, then of registered ones."""
        start = f"{self.words}." if self.words else ""
        below = (name.removeprefix(start) for name in _entries() if name.startswith(start))
        return list(dict.fromkeys([*super().list_commands(ctx), *(name.partition(".")[0] for name in below)]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Our own command, a registered one, or the group of registered ones."""
        words = f"{self.words}.{cmd_name}" if self.words else cmd_name
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        if words in (entries := _entries()):
            return _command(entries[words], cmd_name)
        if not any(name.startswith(f"{words}.") for name in entries):
            return None
        group = Commands(name=cmd_name, help=HELP.get(words), no_args_is_help=True)
        group.words = words
        return group


def broken() -> tuple[plugins.Broken, ...]:
    """The registered commands that cannot be used; imports all of them."""
    return plugins.add(GROUP, {}, _problem, by_entry=True)


def _entries() -> dict[str, EntryPoint]:
    entries: dict[str, EntryPoint] = {}
    for entry in plugins.entries(GROUP):
        entries.setdefault(entry.name, entry)
    return entries


def _problem(command: Any) -> str:
    return "" if callable(command) else "is no function"


def _command(entry: EntryPoint, name: str) -> Any:
    """The command of an entry; of a broken one, a command that says why."""
    loaded = plugins.load(entry, _problem)
    if isinstance(loaded, plugins.Broken):
        return _refusal(loaded, name)
    if isinstance(loaded, typer.Typer):
        command: Any = get_group(loaded)
        command.name = name
        return command
    alone = typer.Typer(add_completion=False)
    alone.command(name)(loaded)
    return get_command(alone)


def _refusal(reason: plugins.Broken, name: str) -> TyperCommand:
    def refuse() -> None:
        with clear_errors():
            raise InvalidInput(str(reason))

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return TyperCommand(name, callback=refuse, help=f"Left out: {reason}", context_settings=anything)
