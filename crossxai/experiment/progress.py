"""How far a run is: a bar on a terminal, elsewhere a plain line for each finished step and one now and then in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars

from crossxai.batching import watching

EVERY = 30.0
"""Seconds between two lines, where there is no terminal."""


class Progress:
    """Counts the passes of one stage after the other, such as explaining on one model, and says how much time each has left.

    Time left is the stage's own pace so far, over the passes that are still to come. What a step does before it asks the model
    for the first time, such as loading a library, is not part of the pace.
    """

    def __init__(
        self,
        console: Console,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        silent: bool = False,
        unit: str = "passes",
    ) -> None:
        self._console, self._every, self._clock, self._silent, self._unit = console, every, clock, silent, unit
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        rest = (TextColumn(unit), TextColumn("{task.fields[left]}"))
        self._bars = Bars(*columns, *rest, console=console, disable=silent or not console.is_terminal)
        self._name = ""
        self._total = self._done = self._skipped = 0.0
        self._begun = self._said = clock()
        self._task = self._bars.add_task("", total=0, visible=False, left="")

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, title: str, total: int) -> None:
        """Begin a stage of so many passes."""
        self._name = title
        self._total, self._done, self._skipped = float(total), 0.0, 0.0
        self._begun = self._said = self._clock()
        self._task = self._bars.add_task(title, total=total, left="", visible=total > 0)

    @contextmanager
    def step(self, name: str, cost: int, samples: int, told: bool = True) -> Iterator[None]:
        """A step of the stage that costs so many passes, `samples` of them forward, which are counted as models are asked.

        At the end all of its cost is done, whatever was counted. told: whether its end is worth a line.
        """
        until = min(self._total, self._done + cost)
        each = cost / max(1, samples)
        start, asked = self._clock(), False

        def tell(n: int) -> None:
            nonlocal asked
            if not asked:
                self._begun, asked = self._begun + self._clock() - start, True
            self._advance(min(n * each, until - self._done))

        self.say(name)
        try:
            with watching(tell):
                yield
        finally:
            # A method that runs the network by itself is seen at its end only.
            self._advance(until - self._done, silent=True)
        if told:
            self._line(" done")

    def advance(self, passes: int) -> None:
        """So many passes more are done, which nobody watched."""
        self._advance(min(float(passes), max(0.0, self._total - self._done)))

    def skip(self, passes: int) -> None:
        """So many were done before, by a run that was stopped: they are no pace."""
        self._skipped += passes
        self._advance(passes, silent=True)

    def finish(self, name: str) -> None:
        """The stage is done, with fewer passes than announced perhaps."""
        self._done = self._total
        self.say(name)
        if self._total:
            self._line()

    def say(self, name: str) -> None:
        """What is being done now."""
        self._name = name
        self._bars.update(self._task, description=name, completed=round(self._done), left=self._left())

    @property
    def passes(self) -> int:
        """Passes of this stage that are done."""
        return round(self._done)

    def seconds_left(self) -> float:
        """What this stage still takes at its pace so far; NaN before anything is done."""
        own = self._done - self._skipped
        return (self._clock() - self._begun) / own * (self._total - self._done) if own > 0 else float("nan")

    def _advance(self, passes: float, silent: bool = False) -> None:
        self._done += passes
        self._bars.update(self._task, completed=round(self._done), left=self._left())
        if not silent and self._clock() - self._said >= self._every:
            self._line()

    def _line(self, state: str = "") -> None:
        if self._silent or self._console.is_terminal:
            return
        self._said = self._clock()
        left = f", {left}" if (left := self._left()) else ""
        self._console.print(
            f"{self._name}{state}: {round(self._done)} of {round(self._total)} {self._unit}{left}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip

    def _left(self) -> str:
        seconds = self.seconds_left()
        if not seconds > 0:
            return ""
        if seconds < 90:
            return f"{max(1, round(seconds))} s left"
        minutes = round(seconds / 60)
        return f"{minutes} min left" if minutes < 90 else f"{minutes / 60:.1f} h left"
