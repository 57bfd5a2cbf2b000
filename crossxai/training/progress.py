"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[int, str], None]]:
    """A function (steps done, text) that moves a progress bar on standard error, or does nothing."""
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps, text: bar.update(task, advance=steps, description=text)
