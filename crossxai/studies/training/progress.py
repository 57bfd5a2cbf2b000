"""How far a training is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from crossxai.experiment.progress import Progress


@contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[int, str], None]]:
    """A function (steps done, text) that moves a bar on standard error, or says so now and then on a pipe, or does nothing."""
    with Progress(Console(stderr=True), silent=not shown, unit="steps") as progress:
        progress.stage("training", total)
        begun = False

        def report(steps: int, text: str) -> None:
            nonlocal begun
            progress.say(f"training, {text}")
            (progress.advance if begun else progress.skip)(steps)  # first comes what a stopped training had done
            begun = True

        yield report
